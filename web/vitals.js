// The connection's figures: its state in words, the delay stage by stage, the video that is sent.

import { element } from "./elements.js";

const CALM_S = 1; // time constant of the figures, which would flicker otherwise
const DRAWN_MS = 400; // between two drawings

const STAGE_WORDS = {
  decode: "Decode the video",
  window: "Wait until a window is due",
  queue: "Wait for the recogniser",
  encode: "Encode the pictures",
  classify: "Classify the window",
  send: "Send the result",
  back: "Way back to this page",
};
const STATE_WORDS = {
  off: "Camera off",
  camera: "Waiting for the camera",
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  waiting: "Waiting",
  failed: "Stopped",
};

export class Vitals {
  #parts;
  #stages;
  #roundTripMs = null;

  /** `parts`: the elements status, text, box, latency, fps, busy, size, stages and left. */
  constructor(parts) {
    this.#parts = parts;
    this.#stages = new Stages({ box: parts.box, list: parts.stages, left: parts.left });
  }

  state(name) {
    this.#parts.status.dataset.state = name;
    this.#parts.text.textContent = STATE_WORDS[name];
    this.#parts.box.hidden = name !== "live";
    if (name !== "live") {
      this.#roundTripMs = null;
      this.#parts.latency.textContent = "–";
      this.#parts.fps.textContent = "–";
      this.#parts.busy.hidden = true;
      this.#stages.clear();
    }
  }

  /** Milliseconds, on this page's own clock, from a ping to its pong. */
  roundTrip(ms) {
    this.#roundTripMs = this.#roundTripMs === null ? ms : 0.7 * this.#roundTripMs + 0.3 * ms;
  }

  /** The delay of one prediction: as the server measured it, and half the round trip back to here. */
  prediction({ latency_ms: { total, ...stages }, dropped }) {
    if (this.#roundTripMs === null) return;
    const back = this.#roundTripMs / 2;
    this.#parts.latency.textContent = `${Math.round(total + back)} ms`;
    this.#parts.latency.dataset.ms = (total + back).toFixed(1);
    this.#stages.show({ ...stages, back }, dropped);
  }

  /** The server's pace: `hop_s` from prediction to prediction, `added_hop_s` of it added under load. */
  stats({ hop_s: hopS, added_hop_s: addedS }) {
    this.#parts.busy.hidden = !addedS;
    if (addedS) this.#parts.busy.textContent = `Busy: a prediction every ${hopS.toFixed(1)} s`;
  }

  /** Milliseconds since the newest picture of a prediction was taken: a round trip lies in it. */
  age({ latency_ms: { total } }) {
    return total + (this.#roundTripMs ?? 0);
  }

  sent({ fps, width, height }) {
    this.#parts.fps.textContent = `${Math.round(fps)} fps`;
    this.#parts.fps.dataset.fps = fps;
    const size = width ? `, ${width} × ${height} pixels each` : "";
    this.#parts.size.textContent = `This browser sends ${Math.round(fps)} pictures a second${size}.`;
  }
}

/** Stages of the newest predictions, smoothed; drawn only while `box` is open. */
class Stages {
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
        const words = STAGE_WORDS[name] ?? name.replaceAll("_", " ");
        row.append(element("span", "name", words), element("span", "track"), element("span", "ms", `${ms.toFixed(1)} ms`));
        return row;
      }),
    );
  }
}
