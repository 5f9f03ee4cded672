// One taught sign, `{gloss, space, takes, date}`: its name, its takes as the numbers that the server
// sent, how alike they are, and the file that holds several signs.

const FORMAT = "livegloss-signs";
const MAX_TAKES = 8;
const MAX_NAME = 60;
const MAX_TAKE = 16_384; // characters of base64
const UNLIKE = 3; // times the median distance of the sign's takes
const SAME = 0.05; // takes that lie nearer to each other than this are alike, whatever the rest do

export const IDLE = "idle"; // taught under this name: what is no sign
export const MAX_KEPT = 200; // signs in one browser or file, of all models together
export const MAX_FILE = 8_000_000; // bytes

/** A sign could not be kept; the message says why, in words for a person. */
export class NotKept extends Error {}

/** A sign's name as a person reads it. */
export const shown = (gloss) => (gloss === IDLE ? "No sign (rest)" : gloss);

/** The name that a person typed, as names are compared: in the form NFC, as the server has them. */
export const named = (text) => text.normalize().trim();

/** What is wrong with a name, in words for a person; "" when it is fine. */
export function nameFault(name) {
  if (!name) return "Give the sign a name.";
  if ([...name].length > MAX_NAME) return `A name has at most ${MAX_NAME} characters.`;
  if (/\p{C}/u.test(name)) return "The name has a character that cannot be shown.";
  return "";
}

// One sign as it is kept and exported; throws where it is anything else. `place` is the browser's
// own note, see browser_store.js; a sign that was kept on a server has no date.
function checked({ gloss: name, space, takes, date, place }) {
  const gloss = typeof name === "string" ? name.normalize() : name;
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

/** The numbers of a take: base64 of float16, little-endian. Throws where it is not that. */
export function unpack(take) {
  const bytes = Uint8Array.from(atob(take), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  if (!bytes.length || bytes.length % 2) throw new RangeError("not whole numbers");
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => {
    const half = view.getUint16(2 * i, true);
    const exponent = (half >> 10) & 31;
    if (exponent === 31) throw new RangeError("not a number");
    const part = half & 1023;
    const size = exponent ? 2 ** (exponent - 25) * (1024 + part) : 2 ** -24 * part;
    return half >> 15 ? -size : size;
  });
}

const distance = (a, b) => {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return 1 - ab / Math.sqrt(aa * bb || 1);
};
const mean = (rows) => rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
const middle = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** Places of the takes that look unlike the rest of their sign; none for fewer than three takes. */
export function unlike(takes) {
  if (takes.length < 3) return [];
  const rows = takes.map(unpack);
  const off = rows.map((row, i) => distance(row, mean(rows.filter((_, j) => j !== i))));
  const usual = Math.max(SAME, UNLIKE * middle(off));
  return off.flatMap((far, i) => (far > usual ? [i] : []));
}

/** The sign of `others` that looks so much like `sign` that they may be mixed up, or undefined. */
export function lookalike(sign, others) {
  const rows = sign.takes.map(unpack);
  const own = mean(rows);
  const spread = Math.max(...rows.map((row) => distance(row, own)));
  return others.find((other) => {
    if (other.gloss === sign.gloss || other.space !== sign.space) return false;
    return distance(own, mean(other.takes.map(unpack))) <= Math.max(spread, SAME / 10);
  });
}

/** The takes of `all` without those of `some`, each taken out once. */
export function without(all, some) {
  const left = [...all];
  for (const take of some) {
    const place = left.indexOf(take);
    if (place >= 0) left.splice(place, 1);
  }
  return left;
}

/** The takes of `all`, and those of `more` that it lacks. */
export const joined = (all, more) => [...all, ...without(more, all)];
