// What the recogniser saw of a person for a while, as a drawn figure in the body's coordinates.

import { Figure } from "./figure.js";

const FPS = 15;
const LONGEST = 150; // pictures; of more, the last ones
const FEWEST = 4; // samples
const LOW = 0.95; // shoulder widths below the shoulders: hands lower than this are not raised
const AROUND_S = 0.35; // kept before and after the hands are raised
const GAP_S = 0.5; // a hand that was lost for longer goes where the arm goes
const LEAST = 0.2; // of the raised time: a hand that is raised for less takes no part
const [WRISTS, HAND] = [11, 21];

/** `samples`: `{endS, aspect, seen}`, see docs/reference/http.md; null where too little was seen. */
export function figureOf(samples) {
  const pictures = samples.map(inPicture).filter(Boolean);
  if (pictures.length < FEWEST) return null;
  const seen = inBody(pictures);
  const up = seen.map(({ hands }) => hands.map((hand) => hand !== null && hand[1] < LOW));
  const raised = up.flatMap(([left, right], n) => (left || right ? [n] : []));
  if (raised.length < 2) return null;
  const [first, last] = [seen[raised[0]].timeS - AROUND_S, seen[raised.at(-1)].timeS + AROUND_S];
  const from = Math.max(first, seen[0].timeS);
  const count = Math.min(LONGEST, Math.floor((Math.min(last, seen.at(-1).timeS) - from) * FPS) + 1);
  if (count < FEWEST) return null;
  const shares = [0, 1].map((side) => up.filter((one) => one[side]).length / raised.length);
  const drawn = shares.map((share) => share >= LEAST || share === Math.max(...shares));
  const end = Math.min(last, seen.at(-1).timeS);
  const times = Array.from({ length: count }, (_, n) => end - (count - 1 - n) / FPS);
  return new Figure({ fps: FPS, pictures: smooth(times.map((timeS) => pictureAt(seen, timeS, drawn))), drawn });
}

/** A sample's points in heights of the picture; null where nobody was seen, or not in full. */
function inPicture({ endS, aspect, seen }) {
  try {
    const { face, shoulders, elbows, wrists, hands, joints } = seen;
    const body = [...face, ...shoulders, ...elbows, ...wrists].flatMap(([x, y]) => [x * aspect, y]);
    if (body.length !== 26 || !body.every(Number.isFinite)) return null;
    return { timeS: endS, body, hands: hands.map((box, side) => inBox(box, joints[side], aspect)) };
  } catch {
    return null; // a server from before does not send all of it
  }
}

function inBox(box, joints, aspect) {
  if (!box || !joints) return null;
  const [left, top, right, bottom] = box;
  const points = Array.from(atob(joints), (letter, i) => {
    const part = letter.charCodeAt(0) / 255;
    return i % 2 ? top + part * (bottom - top) : (left + part * (right - left)) * aspect;
  });
  return points.length === 2 * HAND ? points : null;
}

const middle = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** The same in shoulder widths, from the middle of the shoulders as they are most of the time. */
function inBody(pictures) {
  const shoulders = pictures.map(({ body }) => body.slice(14, 18));
  const unit = Math.max(middle(shoulders.map(([ax, ay, bx, by]) => Math.hypot(ax - bx, ay - by))), 0.02);
  const origin = [0, 1].map((axis) => middle(shoulders.map((both) => (both[axis] + both[2 + axis]) / 2)));
  const scaled = (points) => points && points.map((x, i) => (x - origin[i % 2]) / unit);
  return pictures.map(({ timeS, body, hands }) => ({ timeS, body: scaled(body), hands: hands.map(scaled) }));
}

function pictureAt(seen, timeS, drawn) {
  const body = between(seen, timeS, ({ body: points }) => points, Infinity);
  const hands = [0, 1].map((side) => (drawn[side] ? handAt(seen, timeS, side, body) : null));
  hands.forEach((hand, side) => {
    if (hand) [body[2 * (WRISTS + side)], body[2 * (WRISTS + side) + 1]] = hand;
  });
  return Float32Array.from([...body, ...hands.flatMap((hand) => hand ?? [])]);
}

/** A hand at a time; while it was lost, as it was seen nearest in time, where the arm ends. */
function handAt(seen, timeS, side, body) {
  const known = between(seen, timeS, ({ hands }) => hands[side], GAP_S);
  if (known) return known;
  const there = seen.filter(({ hands }) => hands[side]);
  const nearest = there.reduce((best, one) => (Math.abs(one.timeS - timeS) < Math.abs(best.timeS - timeS) ? one : best));
  const hand = nearest.hands[side];
  return hand.map((x, i) => x - hand[i % 2] + body[2 * (WRISTS + side) + (i % 2)]);
}

/** Between the two samples around a time that have `points`; null where they are further apart. */
function between(seen, timeS, points, most) {
  const before = seen.findLast((one) => one.timeS <= timeS && points(one)) ?? null;
  const after = seen.find((one) => one.timeS >= timeS && points(one)) ?? null;
  const [a, b] = [before ?? after, after ?? before];
  if (!a || b.timeS - a.timeS > most || Math.abs((before ?? after).timeS - timeS) > most) return null;
  const part = b.timeS > a.timeS ? (timeS - a.timeS) / (b.timeS - a.timeS) : 0;
  return points(a).map((x, i) => x + part * (points(b)[i] - x));
}

/** Each picture drawn a little to those beside it: what was detected trembles. */
function smooth(pictures) {
  const last = pictures.length - 1;
  return pictures.map((now, n) => {
    const [before, after] = [pictures[Math.max(0, n - 1)], pictures[Math.min(last, n + 1)]];
    return now.map((x, i) => 0.2 * before[i] + 0.6 * x + 0.2 * after[i]);
  });
}
