// Over the picture: where the recogniser sees head and hands, and the edge at which one is cut off.

const SVG = "http://www.w3.org/2000/svg";
const GONE_MS = 1_000; // without a signer in the predictions the drawing fades
const ROOM = 1.25; // a hand's outline is larger than its joints span
const SMALLEST = 0.05; // of the picture's height: a fist seen edge-on still gets a ring

/** Draws into `box`, an element over `video`. The hint has the same in words. */
export class Overlay {
  #box;
  #video;
  #svg = drawn("svg");
  #head = drawn("circle", "head");
  #shoulders = drawn("path", "shoulders");
  #hands = [drawn("circle", "hand"), drawn("circle", "hand")];
  #timer = 0;

  constructor({ box, video }) {
    this.#box = box;
    this.#video = video;
    // The same place as `object-fit: contain` gives the picture.
    this.#svg.setAttribute("preserveAspectRatio", "xMidYMid meet");
    this.#svg.append(this.#shoulders, this.#head, ...this.#hands);
    for (const circle of [this.#head, ...this.#hands]) circle.setAttribute("r", "1");
    this.#shoulders.setAttribute("d", "M-1 0Q0-.3 1 0"); // the signer's left lies at the right
    box.append(this.#svg);
  }

  /** A message of the server: `prediction` moves the drawing, `hint` marks an edge. */
  message({ type, seen, edge }) {
    if (type === "hint") this.#box.dataset.edge = edge ?? "";
    if (type === "prediction" && seen !== undefined) this.#show(seen);
  }

  /** Nothing is seen any more: the session has ended. */
  clear() {
    clearTimeout(this.#timer);
    Object.assign(this.#box.dataset, { seen: "false", edge: "" });
  }

  #show(signer) {
    clearTimeout(this.#timer);
    this.#box.dataset.seen = String(signer !== null);
    if (!signer) return;
    this.#timer = setTimeout(() => (this.#box.dataset.seen = "false"), GONE_MS);
    // Units are thousandths of the picture's height.
    const high = 1000;
    const wide = (high * this.#video.videoWidth) / this.#video.videoHeight || (high * 4) / 3;
    this.#svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    place(this.#head, signer.head, wide, high, 1.08);
    signer.hands.forEach((hand, side) => {
      this.#hands[side].dataset.seen = String(hand !== null);
      if (hand) place(this.#hands[side], squared(hand, wide / high), wide, high, ROOM);
    });
    const [[ax, ay], [bx, by]] = signer.shoulders.map(([x, y]) => [x * wide, y * high]);
    const [half, turn] = [Math.hypot(ax - bx, ay - by) / 2, Math.atan2(ay - by, ax - bx)];
    this.#shoulders.style.transform =
      `translate(${(ax + bx) / 2}px, ${(ay + by) / 2}px) rotate(${turn}rad) scale(${half})`;
  }
}

/** Lay a circle of radius 1 around a box of fractions, as an ellipse; CSS moves it smoothly. */
function place(circle, [left, top, right, bottom], wide, high, room) {
  const [x, y] = [((left + right) / 2) * wide, ((top + bottom) / 2) * high];
  const [rx, ry] = [((right - left) / 2) * wide * room, ((bottom - top) / 2) * high * room];
  circle.style.transform = `translate(${x}px, ${y}px) scale(${rx}, ${ry})`;
}

/** The box, made square: a hand turns too fast for an outline that follows its shape. */
function squared([left, top, right, bottom], aspect) {
  const half = Math.max((right - left) * aspect, bottom - top, SMALLEST) / 2;
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  return [x - half / aspect, y - half, x + half / aspect, y + half];
}

function drawn(tag, name = "") {
  const made = document.createElementNS(SVG, tag);
  if (name) made.setAttribute("class", name);
  return made;
}
