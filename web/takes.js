// Takes as the numbers that the server gave: how alike they are, and sets of them.

const UNLIKE = 3; // times as far off as the other takes are in the middle
const SAME = 0.05; // takes that lie nearer to each other than this are alike, whatever the rest do

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
