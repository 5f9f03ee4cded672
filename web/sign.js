// One taught sign, `{gloss, space, takes, date}`: its name, and the file that holds several.

import { unpack } from "/static/takes.js";

const FORMAT = "livegloss-signs";
const MAX_TAKES = 8;
const MAX_NAME = 60;
const MAX_TAKE = 16_384; // characters of base64

export const IDLE = "idle"; // taught under this name: what is no sign
export const MAX_KEPT = 200; // signs in one browser or file, of all models together
export const MAX_FILE = 8_000_000; // bytes

/** Something could not be kept as asked; the message says it in words for a person. */
export class NotKept extends Error {}

/** A sign's name as a person reads it. */
export const shown = (gloss) => (gloss === IDLE ? "No sign (rest)" : gloss);

/** What is wrong with a name, in words for a person; "" when it is fine. */
export function nameFault(name) {
  if (!name) return "Give the sign a name.";
  if ([...name].length > MAX_NAME) return `A name has at most ${MAX_NAME} characters.`;
  if (/\p{C}/u.test(name)) return "The name has a character that cannot be shown.";
  return "";
}

// One sign as it is kept and exported; throws where it is anything else. `place` is the browser's
// own note, see browser_store.js; a sign that was kept on a server has no date.
function checked({ gloss, space, takes, date, place }) {
  const text = (value, most) => typeof value === "string" && value.length > 0 && value.length <= most;
  if (!text(gloss, 2 * MAX_NAME) || gloss !== gloss.trim() || nameFault(gloss)) throw new TypeError("name");
  if (!text(space, 100) || !(date === undefined || /^\d{4}-\d\d-\d\d$/.test(date))) throw new TypeError("space or date");
  if (!Array.isArray(takes) || takes.length < 1 || takes.length > MAX_TAKES) throw new TypeError("takes");
  if (!takes.every((take) => text(take, MAX_TAKE))) throw new TypeError("take");
  const sizes = new Set(takes.map((take) => unpack(take).length));
  if (sizes.size !== 1) throw new TypeError("takes of several sizes");
  if (!["waiting", "stays", undefined].includes(place)) throw new TypeError("place");
  return { gloss, space, takes: [...takes], date, place };
}

/** The signs of a file's text. Throws where it is not ours. */
export function parse(text) {
  const file = JSON.parse(text);
  if (file.format !== FORMAT || file.version !== 1 || !Array.isArray(file.signs)) throw new TypeError("format");
  if (file.signs.length > MAX_KEPT) throw new RangeError("too many");
  return file.signs.map(checked);
}

/** A file's text. */
export const written = (signs) => JSON.stringify({ format: FORMAT, version: 1, signs });
