// One drawn figure, or two beside each other, with what plays them: buttons and keys.

import { button, element } from "./elements.js";
import { ASPECT, draw } from "./figure.js";

const SLOW = 0.4;
const PAUSE_S = 0.7; // before it begins again
const STILLS = 4; // poses shown to who asked for reduced motion
const KEYS = "Space plays and pauses, the arrow keys go picture by picture, Home goes to the start, S is slow motion, L is left-handed.";

/**
 * `root` holds it all. `hand`: `{left, turn()}`. Playing goes round and round, but not for who asked
 * for reduced motion: poses stand still, and it plays once when it is asked to.
 * `root.dataset.state` is playing or paused, `root.dataset.time` the time in the sign, s.
 */
export class FigureView {
  #hand;
  #row = element("div", "drawn-row");
  #stills = element("ol", "drawn-stills");
  #play = button("plain", "Pause", () => this.toggle());
  #slow = button("plain", "Slow", () => this.#setSlow(!this.#isSlow));
  #left = button("plain", "Left-handed", () => this.turn());
  #isSlow = false;
  #shown = []; // {figure, canvas, own}
  #poses = []; // {canvas, timeS} of the first one
  #timeS = 0;
  #lastMs = 0;
  #frame = 0;
  #reduced = matchMedia("(prefers-reduced-motion: reduce)");

  root = element("div", "drawn");

  constructor(hand) {
    this.#hand = hand;
    this.#row.tabIndex = 0;
    this.#row.setAttribute("role", "group");
    this.#row.setAttribute("aria-label", `Drawn figure. ${KEYS}`);
    this.#stills.setAttribute("aria-label", "The sign in four poses");
    const doing = element("div", "drawn-controls");
    doing.append(this.#play, button("plain", "Replay", () => this.replay()), this.#slow, this.#left);
    this.root.append(this.#row, this.#stills, doing);
    this.root.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.#paint()).observe(this.#row);
    this.#setSlow(false);
  }

  /**
   * Shows `[{figure, label, name, own}]` from the start: `label` stands under it, `name` is read out.
   * A person's `own` figure is never mirrored: it shows what the hands did.
   */
  show(list) {
    this.#shown = list.map(({ figure, label = "", name, own = false }) => {
      const box = element("figure");
      const canvas = element("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", name);
      box.append(canvas);
      if (label) box.append(element("figcaption", "", label));
      return { figure, canvas, box, own };
    });
    this.#row.replaceChildren(...this.#shown.map(({ box }) => box));
    this.#poses = [];
    this.#stills.replaceChildren();
    this.#timeS = 0;
    if (this.#reduced.matches && this.#shown.length) {
      this.#timeS = this.#shown[0].figure.poses(3)[1];
      this.#showStills(list);
    }
    this.#go(!this.#reduced.matches && this.#shown.length > 0);
  }

  focus() {
    this.#row.focus();
  }

  /** Nothing is shown any more. */
  clear() {
    this.show([]);
  }

  get playing() {
    return this.root.dataset.state === "playing";
  }

  toggle() {
    if (!this.playing && this.#timeS >= this.#lengthS) this.#timeS = 0;
    this.#go(!this.playing);
  }

  replay() {
    this.#timeS = 0;
    this.#go(true);
  }

  turn() {
    this.#hand.turn();
    this.#paint();
  }

  /** Keys that steer it, also where the focus is elsewhere in a dialog. */
  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const act = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.#step(-1),
      ArrowRight: () => this.#step(1),
      Home: () => this.replay(),
      s: () => this.#setSlow(!this.#isSlow),
      l: () => this.turn(),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || (event.key === " " && event.target.closest("button, input"))) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  get #lengthS() {
    return Math.max(0, ...this.#shown.map(({ figure }) => figure.lengthS));
  }

  #step(pictures) {
    const fps = this.#shown[0]?.figure.fps ?? 15;
    this.#go(false);
    this.#timeS = Math.min(this.#lengthS, Math.max(0, (Math.round(this.#timeS * fps) + pictures) / fps));
    this.#paint();
  }

  #setSlow(slow) {
    this.#isSlow = slow;
    this.#slow.setAttribute("aria-pressed", String(slow));
  }

  #go(play) {
    cancelAnimationFrame(this.#frame);
    this.root.dataset.state = play ? "playing" : "paused";
    this.#play.textContent = play ? "Pause" : "Play";
    this.#lastMs = performance.now();
    this.#paint();
    if (play) this.#frame = requestAnimationFrame((nowMs) => this.#tick(nowMs));
  }

  #tick(nowMs) {
    if (!this.root.isConnected) return this.#go(false);
    const passedS = Math.min(0.25, Math.max(0, nowMs - this.#lastMs) / 1_000); // not what a hidden page slept
    this.#lastMs = nowMs;
    this.#timeS += passedS * (this.#isSlow ? SLOW : 1);
    if (this.#timeS > this.#lengthS + PAUSE_S) {
      this.#timeS = 0;
      if (this.#reduced.matches) return this.#go(false);
    }
    this.#paint();
    this.#frame = requestAnimationFrame((ms) => this.#tick(ms));
  }

  #paint() {
    this.#left.setAttribute("aria-pressed", String(this.#hand.left));
    this.root.dataset.time = Math.min(this.#timeS, this.#lengthS).toFixed(3);
    if (!this.#row.clientWidth) return; // in a panel that is not open
    const spread = Math.max(1, ...this.#shown.map(({ figure }) => figure.spread));
    const paint = (canvas, { figure, own }, timeS) => {
      fit(canvas);
      draw(canvas, figure, figure.at(timeS), { mirrored: !own && this.#hand.left, spread });
    };
    for (const one of this.#shown) paint(one.canvas, one, this.#timeS);
    for (const { canvas, timeS } of this.#poses) paint(canvas, this.#shown[0], timeS);
  }

  #showStills([{ figure, name }]) {
    this.#poses = figure.poses(STILLS).map((timeS, i) => {
      const [item, canvas] = [element("li"), element("canvas")];
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${name}, pose ${i + 1} of ${STILLS}`);
      item.append(canvas);
      return { item, canvas, timeS };
    });
    this.#stills.replaceChildren(...this.#poses.map(({ item }) => item));
  }
}

/** As many pixels as the screen has for it. */
function fit(canvas) {
  const width = Math.round((canvas.clientWidth || 160) * Math.min(devicePixelRatio, 2));
  if (canvas.width === width) return;
  canvas.width = width;
  canvas.height = Math.round(width / ASPECT);
}
