// The signs that were taught here: kept in this browser as the numbers the server gave, never video.

const KEY = "livegloss.signs.1";
const FORMAT = "livegloss-signs";
const MAX_KEPT = 200; // signs, of all models together
const MAX_TAKES = 8;
const MAX_NAME = 60;
const MAX_TAKE = 16_384; // characters of base64
const UNLIKE = 3; // times as far off as the other takes are in the middle
const SAME = 0.05; // takes that lie nearer to each other than this are alike, whatever the rest do

export const IDLE = "idle"; // taught under this name: what is no sign
export const MAX_FILE = 8_000_000; // bytes

/** What is wrong with a name, in words for a person; "" when it is fine. */
export function nameFault(name) {
  if (!name) return "Give the sign a name.";
  if ([...name].length > MAX_NAME) return `A name has at most ${MAX_NAME} characters.`;
  if (/\p{C}/u.test(name)) return "The name has a character that cannot be shown.";
  return "";
}

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

// One sign as it is kept and exported; throws where it is anything else.
function checked({ gloss, space, takes, date }) {
  const text = (value, most) => typeof value === "string" && value.length > 0 && value.length <= most;
  if (!text(gloss, 2 * MAX_NAME) || gloss !== gloss.trim() || nameFault(gloss)) throw new TypeError("name");
  if (!text(space, 100) || !/^\d{4}-\d\d-\d\d$/.test(date)) throw new TypeError("space or date");
  if (!Array.isArray(takes) || takes.length < 1 || takes.length > MAX_TAKES) throw new TypeError("takes");
  if (!takes.every((take) => text(take, MAX_TAKE))) throw new TypeError("take");
  const sizes = new Set(takes.map((take) => unpack(take).length));
  if (sizes.size !== 1) throw new TypeError("takes of several sizes");
  return { gloss, space, takes: [...takes], date };
}

function parse(text) {
  const file = JSON.parse(text);
  if (file.format !== FORMAT || file.version !== 1 || !Array.isArray(file.signs)) throw new TypeError("format");
  if (file.signs.length > MAX_KEPT) throw new RangeError("too many");
  return file.signs.map(checked);
}

/** Taught signs, `{gloss, space, takes, date}` each. Bound: 200 signs. What changes is kept at once. */
export class TaughtSigns {
  #signs;

  constructor() {
    try {
      this.#signs = parse(localStorage.getItem(KEY));
    } catch {
      this.#signs = []; // nothing kept yet, or not ours
    }
  }

  get all() {
    return [...this.#signs];
  }

  of(space) {
    return this.#signs.filter((sign) => sign.space === space);
  }

  find(gloss, space) {
    return this.#signs.find((sign) => sign.gloss === gloss && sign.space === space);
  }

  /** Keeps a sign in the place of an older one of its name. Throws an Error in words for a person. */
  keep(sign) {
    this.#put([sign]);
  }

  drop({ gloss, space }) {
    this.#write(this.#signs.filter((sign) => sign.gloss !== gloss || sign.space !== space));
  }

  export() {
    return JSON.stringify({ format: FORMAT, version: 1, signs: this.#signs });
  }

  /** Adds the signs of a file; those of the same name are replaced. Returns them. Throws as `keep`. */
  import(text) {
    let signs;
    try {
      signs = parse(text);
    } catch {
      throw new Error("This is no file of taught signs. Nothing was changed.");
    }
    this.#put(signs);
    return signs;
  }

  #put(signs) {
    const key = ({ gloss, space }) => JSON.stringify([space, gloss]);
    const kept = new Map(this.#signs.map((sign) => [key(sign), sign]));
    for (const sign of signs) kept.set(key(sign), checked(sign));
    if (kept.size > MAX_KEPT) throw new Error(`At most ${MAX_KEPT} signs can be kept here. Delete some first.`);
    this.#write([...kept.values()]);
  }

  #write(signs) {
    const text = JSON.stringify({ format: FORMAT, version: 1, signs });
    try {
      localStorage.setItem(KEY, text);
    } catch {
      throw new Error("This browser has no room left to keep signs. Nothing was changed.");
    }
    this.#signs = signs;
  }
}
