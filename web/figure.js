// A drawn figure: the moving points of one sign, and how they are drawn on a canvas.
//
// The bytes are those of models/drawn_figure.py: 13 body points (nose, eyes, ears, mouth corners,
// shoulders, elbows, wrists; left before right), then 21 of each hand that is drawn. The origin is the
// middle of the shoulders, the unit the shoulder width, x to the right of the picture, y down.

const VERSION = 1;
const HEADER = 5; // bytes
const STEPS = 128; // in a shoulder width
const MAX_PICTURES = 150;
const FARTHEST = 8 * STEPS;
const [BODY, HAND] = [13, 21]; // points
const [EYES, EARS, MOUTH, SHOULDERS, ELBOWS, WRISTS] = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]];
const FINGERS = [[17, 18, 19, 20], [13, 14, 15, 16], [9, 10, 11, 12], [5, 6, 7, 8]]; // little to index
const THUMB = [1, 2, 3, 4];
const PALM = [0, 1, 5, 9, 13, 17];
const [WIDE, HIGH, TOP] = [2.9, 2.6, -1.24]; // of what the canvas shows, at least
const [CROWN, CHIN, HALF_HEAD] = [1.75, 0.95, 1.42]; // of a head, by the way from mouth to eyes
const STILL = 0.012; // shoulder widths a picture: hands slower than this hold

export const ASPECT = WIDE / HIGH;

/** The figure in an ArrayBuffer. Throws RangeError where it is none. */
export function unpack(buffer) {
  const view = new DataView(buffer);
  const [version, fps, count, flags] = [view.getUint8(0), view.getUint8(1), view.getUint16(2, true), view.getUint8(4)];
  const drawn = [(flags & 1) !== 0, (flags & 2) !== 0];
  const numbers = 2 * (BODY + HAND * drawn.filter(Boolean).length);
  const sound = version === VERSION && fps >= 1 && fps <= 60 && count >= 2 && count <= MAX_PICTURES && flags <= 3;
  if (!sound || buffer.byteLength !== HEADER + numbers * (count + 1)) throw new RangeError("no figure");
  const at = Int32Array.from({ length: numbers }, (_, i) => view.getInt16(HEADER + 2 * i, true));
  const pictures = [Float32Array.from(at, (step) => step / STEPS)];
  for (let n = 1; n < count; n += 1) {
    const from = HEADER + 2 * numbers + (n - 1) * numbers;
    for (let i = 0; i < numbers; i += 1) at[i] += view.getInt8(from + i);
    pictures.push(Float32Array.from(at, (step) => step / STEPS));
  }
  if (pictures.some((points) => points.some((x) => Math.abs(x) * STEPS > FARTHEST))) throw new RangeError("too far");
  return new Figure({ fps, pictures, drawn });
}

/** `pictures`: Float32Arrays of x, y of each point; `drawn`: which hands have points, left and right. */
export class Figure {
  constructor({ fps, pictures, drawn }) {
    Object.assign(this, { fps, pictures, drawn });
  }

  get lengthS() {
    return (this.pictures.length - 1) / this.fps;
  }

  /** The points at a time, between two pictures as a smooth curve has them. */
  at(timeS) {
    const last = this.pictures.length - 1;
    const place = Math.min(last, Math.max(0, timeS * this.fps));
    const n = Math.min(last - 1, Math.floor(place));
    const t = place - n;
    const [a, b, c, d] = [n - 1, n, n + 1, n + 2].map((i) => this.pictures[Math.min(last, Math.max(0, i))]);
    return b.map((p1, i) => {
      const [p0, p2, p3] = [a[i], c[i], d[i]];
      return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)));
    });
  }

  /** How much wider or higher than usual the canvas must show for head and hands to be in it; 1 or more. */
  get spread() {
    const { centre, high } = skull(placesIn(this.pictures[this.pictures.length >> 1]));
    let most = Math.max(1, (centre[1] - high - 0.04) / TOP);
    for (const points of this.pictures.slice(this.fps / 3, -this.fps / 3)) {
      for (let i = 2 * BODY; i < points.length; i += 2) {
        most = Math.max(most, (2 * Math.abs(points[i]) + 0.1) / WIDE, (points[i + 1] - 0.05) / TOP);
      }
    }
    return Math.min(most, 2);
  }

  /** Times, in seconds, of `count` telling poses: where the hands hold, spread over the sign. */
  poses(count) {
    const last = this.pictures.length - 1;
    const ways = this.pictures.map((_, n) => this.#way(Math.max(0, n - 1), Math.min(last, n + 1)) / 2);
    const moving = ways.flatMap((way, n) => (way > STILL ? [n] : []));
    const [from, to] = moving.length ? [moving[0], moving.at(-1)] : [0, last];
    return Array.from({ length: count }, (_, i) => {
      const [low, high] = [i, i + 1].map((k) => from + ((to - from) * (0.12 + (0.76 * k) / count)));
      let best = Math.round((low + high) / 2);
      for (let n = Math.ceil(low); n <= Math.floor(high); n += 1) if (ways[n] < ways[best]) best = n;
      return best / this.fps;
    });
  }

  /** The bytes, as `unpack` reads them. */
  pack() {
    const numbers = this.pictures[0].length;
    const buffer = new ArrayBuffer(HEADER + numbers * (this.pictures.length + 1));
    const view = new DataView(buffer);
    view.setUint8(0, VERSION);
    view.setUint8(1, this.fps);
    view.setUint16(2, this.pictures.length, true);
    view.setUint8(4, Number(this.drawn[0]) + 2 * Number(this.drawn[1]));
    const bounded = (x, most) => Math.min(most, Math.max(-most, Math.round(x)));
    const at = Array.from(this.pictures[0], (x) => bounded(x * STEPS, FARTHEST));
    at.forEach((step, i) => view.setInt16(HEADER + 2 * i, step, true));
    this.pictures.slice(1).forEach((points, n) => {
      points.forEach((x, i) => {
        const change = bounded(bounded(x * STEPS, FARTHEST) - at[i], 127);
        at[i] += change;
        view.setInt8(HEADER + 2 * numbers + n * numbers + i, change);
      });
    });
    return buffer;
  }

  /** How far wrists and fingertips go, on average, from picture `a` to `b`. */
  #way(a, b) {
    const [from, to] = [this.pictures[a], this.pictures[b]];
    let [sum, count] = [0, 0];
    for (let i = 2 * WRISTS[0]; i < from.length; i += 2) {
      sum += Math.hypot(to[i] - from[i], to[i + 1] - from[i + 1]);
      count += 1;
    }
    return sum / count;
  }
}

/**
 * Draws `points` of `figure` over the whole canvas; `mirrored`: for who signs with the left hand;
 * `spread`: see Figure.
 * Colours are the canvas's own by CSS: text (hands), background, borders (top: body, right: arms,
 * bottom: face, left: the light of a palm).
 */
export function draw(canvas, figure, points, { mirrored = false, spread = 1 } = {}) {
  const style = getComputedStyle(canvas);
  const pen = canvas.getContext("2d");
  const scale = Math.min(canvas.width / WIDE, canvas.height / HIGH) / spread;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(mirrored ? -scale : scale, 0, 0, scale, canvas.width / 2, -TOP * spread * scale);
  pen.lineCap = pen.lineJoin = "round";
  const colours = {
    hand: style.color,
    ground: style.backgroundColor,
    body: style.borderTopColor,
    arm: style.borderRightColor,
    face: style.borderBottomColor,
    light: style.borderLeftColor,
  };
  const point = placesIn(points);
  drawTrunk(pen, point, colours);
  drawHead(pen, point, colours);
  let from = BODY;
  const hands = [0, 1].map((side) => {
    const first = from;
    if (figure.drawn[side]) from += HAND;
    return figure.drawn[side] ? (i) => point(first + i) : null;
  });
  // The right hand leads, so it comes last; each with its arm, which may lie before the other hand.
  for (const side of [0, 1]) {
    drawArm(pen, SHOULDERS[side], ELBOWS[side], hands[side]?.(0) ?? point(WRISTS[side]), point, colours);
  }
  for (const side of [0, 1]) if (hands[side]) drawHand(pen, hands[side], side, colours);
}

/** The place [x, y] of a point by its number. */
const placesIn = (points) => (i) => [points[2 * i], points[2 * i + 1]];
const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];

function line(pen, places) {
  pen.beginPath();
  places.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
}

/** A line with a rim of the ground's colour, so that it stands out from what lies behind. */
function limb(pen, places, width, colour, ground, rim = 0.03) {
  line(pen, places);
  pen.strokeStyle = ground;
  pen.lineWidth = width + 2 * rim;
  pen.stroke();
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
}

function drawTrunk(pen, point, { body }) {
  const [[lx, ly], [rx, ry]] = SHOULDERS.map(point);
  const low = 2 * (TOP + HIGH);
  pen.fillStyle = body;
  pen.beginPath();
  pen.moveTo(lx - 0.28, ly - 0.2);
  pen.bezierCurveTo(lx, ly - 0.14, lx + 0.17, ly - 0.1, lx + 0.16, ly + 0.25);
  pen.lineTo(lx - 0.02, low);
  pen.lineTo(rx + 0.02, low);
  pen.lineTo(rx - 0.16, ry + 0.25);
  pen.bezierCurveTo(rx - 0.17, ry - 0.1, rx, ry - 0.14, rx + 0.28, ry - 0.2);
  pen.closePath();
  pen.fill();
}

/** The ellipse of a head: its centre, half its width and height, and how far it leans, radians. */
function skull(point) {
  const [eyes, mouth, ears] = [EYES, MOUTH, EARS].map(([a, b]) => middle(point(a), point(b)));
  const up = [eyes[0] - mouth[0], eyes[1] - mouth[1]];
  const tall = Math.max(Math.hypot(...up), 0.05);
  const between = middle(eyes, mouth);
  const side = 0.5 * (ears[0] - between[0]); // of a head that is turned
  const centre = [between[0] + ((CROWN - CHIN) / 2) * up[0] + side, between[1] + ((CROWN - CHIN) / 2) * up[1]];
  return { centre, wide: HALF_HEAD * tall, high: ((CROWN + CHIN + 1) / 2) * tall, turn: Math.atan2(up[0], -up[1]) };
}

function drawHead(pen, point, { body, arm, face, ground }) {
  const { centre, wide, high, turn } = skull(point);
  const neck = middle(...SHOULDERS.map(point));
  pen.strokeStyle = arm;
  pen.lineWidth = 0.3;
  line(pen, [[neck[0], neck[1] - 0.06], [centre[0], centre[1] + 0.3]]);
  pen.stroke();
  pen.beginPath();
  pen.ellipse(...centre, wide, high, turn, 0, 2 * Math.PI);
  pen.fillStyle = body;
  pen.strokeStyle = ground;
  pen.lineWidth = 0.05;
  pen.stroke();
  pen.fill();
  pen.fillStyle = pen.strokeStyle = face;
  for (const [x, y] of EYES.map(point)) {
    pen.beginPath();
    pen.arc(x, y, 0.028, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.lineWidth = 0.03;
  const nose = point(0);
  line(pen, [[nose[0] - 0.025, nose[1] + 0.035], [nose[0] + 0.025, nose[1] + 0.035]]);
  pen.stroke();
  pen.beginPath();
  const [left, right] = MOUTH.map(point);
  const mouth = middle(left, right);
  pen.moveTo(...left);
  pen.quadraticCurveTo(mouth[0], mouth[1] + 0.035, ...right);
  pen.stroke();
}

function drawArm(pen, shoulder, elbow, wrist, point, { arm, ground }) {
  limb(pen, [point(shoulder), point(elbow)], 0.25, arm, ground);
  limb(pen, [point(elbow), wrist], 0.18, arm, ground);
  line(pen, [point(shoulder), point(elbow)]);
  pen.lineWidth = 0.25;
  pen.stroke(); // over the forearm's rim
  pen.lineWidth = 0.18;
  line(pen, [point(elbow), wrist]);
  pen.stroke();
}

function drawHand(pen, point, side, { hand, ground, light }) {
  const [wrist, index, little] = [point(0), point(5), point(17)];
  const [ax, ay, bx, by] = [index[0] - wrist[0], index[1] - wrist[1], little[0] - wrist[0], little[1] - wrist[1]];
  const turned = (ax * by - ay * bx) / (Math.hypot(ax, ay) * Math.hypot(bx, by) + 1e-6);
  const shows = Math.min(1, Math.max(-1, 3 * (side === 1 ? -turned : turned))); // 1: the palm, -1: its back
  const finger = (joints) => limb(pen, joints.map(point), 0.068, hand, ground, 0.016);
  const palm = () => {
    line(pen, PALM.map(point));
    pen.closePath();
    pen.strokeStyle = pen.fillStyle = hand;
    pen.lineWidth = 0.085;
    pen.stroke();
    pen.fill();
    if (shows <= 0) return;
    pen.globalAlpha = 0.6 * shows;
    pen.fillStyle = light;
    line(pen, PALM.map(point));
    pen.closePath();
    pen.fill();
    pen.globalAlpha = 1;
  };
  line(pen, PALM.map(point));
  pen.closePath();
  pen.strokeStyle = ground;
  pen.lineWidth = 0.125;
  pen.stroke();
  // Fingers that are bent lie before a palm that shows, and behind the back of a hand.
  if (shows >= 0) palm();
  for (const joints of FINGERS) finger(joints);
  finger(THUMB);
  if (shows < 0) palm();
}
