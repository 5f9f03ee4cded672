// The window that was read last: small pictures of it, and under them how much each moment weighed.

import { element, RESTING } from "./elements.js";

const PICTURES = 8; // shown, evenly over the window
const EVERY_MS = 60; // between two pictures kept: more than twice as many as are shown
const KEPT = 64; // pictures; the oldest is drawn over
const [WIDTH, HEIGHT] = [96, 72]; // px of a kept picture
const CALM_MS = 250; // between two drawings: predictions come ten times a second, eyes do not
const STILL_MS = 2_000; // the same for who asked for reduced motion

/** Pictures are taken from the preview, stay on this page, and are drawn over within seconds. */
export class Strip {
  #preview;
  #film;
  #heat;
  #kept;
  #times = []; // ms of performance.now() at which each place of `kept` was drawn
  #next = 0;
  #timer = 0;
  #drawnMs = -Infinity;
  #reduced = matchMedia("(prefers-reduced-motion: reduce)");

  constructor({ preview, film, heat }) {
    this.#preview = preview;
    [film.width, film.height] = [PICTURES * WIDTH, HEIGHT];
    this.#film = film.getContext("2d");
    this.#heat = heat;
    const kept = Object.assign(document.createElement("canvas"), { width: WIDTH, height: KEPT * HEIGHT });
    this.#kept = kept.getContext("2d");
  }

  /** The camera is on. */
  begin() {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#keep(), EVERY_MS);
  }

  /** The camera is off: nothing is kept. */
  end() {
    clearInterval(this.#timer);
    this.#times = [];
    this.#film.clearRect(0, 0, PICTURES * WIDTH, HEIGHT);
    this.#heat.replaceChildren();
  }

  /**
   * Shows a prediction's window, whose newest picture was taken about `ageMs` ago. While nobody
   * signs, the window before stays.
   */
  show({ attention, window: { start_s: start, end_s: end }, idle }, ageMs) {
    const nowMs = performance.now();
    const pauseMs = this.#reduced.matches ? STILL_MS : CALM_MS;
    if (nowMs - this.#drawnMs < pauseMs || (idle >= RESTING && this.#heat.children.length)) return;
    this.#drawnMs = nowMs;
    const lengthMs = 1_000 * (end - start);
    for (let i = 0; i < PICTURES; i += 1) {
      const from = this.#nearest(nowMs - ageMs - lengthMs * (1 - (i + 0.5) / PICTURES));
      this.#film.drawImage(this.#kept.canvas, 0, from * HEIGHT, WIDTH, HEIGHT, i * WIDTH, 0, WIDTH, HEIGHT);
    }
    this.#warm(attention);
  }

  #keep() {
    if (!this.#preview.aspect) return;
    this.#preview.paint(this.#kept, WIDTH, HEIGHT, this.#next * HEIGHT);
    this.#times[this.#next] = performance.now();
    this.#next = (this.#next + 1) % KEPT;
  }

  #nearest(ms) {
    let best = 0;
    this.#times.forEach((time, place) => {
      if (Math.abs(time - ms) < Math.abs(this.#times[best] - ms)) best = place;
    });
    return best;
  }

  #warm(attention) {
    while (this.#heat.children.length > attention.length) this.#heat.lastElementChild.remove();
    while (this.#heat.children.length < attention.length) this.#heat.append(element("i"));
    const most = Math.max(...attention, Number.MIN_VALUE);
    attention.forEach((weight, step) => {
      this.#heat.children[step].style.setProperty("--weight", (weight / most).toFixed(2));
    });
  }
}
