// Where the delay comes from, stage by stage, and what was left out on the way.

import { element } from "/static/element.js";

const CALM_S = 1; // time constant of the figures, which would flicker otherwise
const DRAWN_MS = 400; // between two drawings

const WORDS = {
  decode: "Decode the video",
  window: "Wait until a window is due",
  queue: "Wait for the recogniser",
  encode: "Look at the pictures",
  classify: "Name the sign",
  send: "Hand over the result",
  back: "Way back to this page",
};

/** Stages of the newest predictions, smoothed; drawn only while `box` is open. */
export class Stages {
  #box;
  #list;
  #left;
  #means = new Map(); // stage -> ms
  #atMs = 0;
  #drawnMs = 0;

  /** `box`: the details element; `list` and `left`: where the stages and what was left out go. */
  constructor({ box, list, left }) {
    this.#box = box;
    this.#list = list;
    this.#left = left;
    box.addEventListener("toggle", () => this.#draw());
    box.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape" || !box.open) return;
      box.open = false;
      box.querySelector("summary").focus();
    });
  }

  /** `stages`: name -> ms without the total; `dropped`: {frames, windows}, counted by the server. */
  show(stages, { frames, windows }) {
    const nowMs = performance.now();
    const step = 1 - Math.exp(-(nowMs - this.#atMs) / 1_000 / CALM_S);
    this.#atMs = nowMs;
    for (const [name, ms] of Object.entries(stages)) {
      const mean = this.#means.get(name) ?? ms;
      this.#means.set(name, mean + step * (ms - mean));
    }
    if (nowMs - this.#drawnMs < DRAWN_MS) return;
    this.#left.textContent = `Left out because newer ones had come: ${frames} pictures, ${windows} windows.`;
    this.#draw();
  }

  clear() {
    this.#means.clear();
  }

  #draw() {
    if (!this.#box.open) return;
    this.#drawnMs = performance.now();
    const longest = Math.max(...this.#means.values(), 1);
    this.#list.replaceChildren(
      ...[...this.#means].map(([name, ms]) => {
        const row = element("li");
        row.dataset.stage = name;
        row.style.setProperty("--p", (ms / longest).toFixed(3));
        const words = WORDS[name] ?? name.replaceAll("_", " ");
        row.append(element("span", "name", words), element("span", "track"), element("span", "ms", `${ms.toFixed(1)} ms`));
        return row;
      }),
    );
  }
}
