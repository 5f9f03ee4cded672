// How the connection is: its state in words, the delay and where it comes from, the video that goes out.

import { Stages } from "/static/stages.js";

const WORDS = {
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
    this.#parts.text.textContent = WORDS[name];
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

  /** What the server says of one prediction, with half the round trip: its way back to here. */
  prediction({ latency_ms: { total, ...stages }, dropped }) {
    if (this.#roundTripMs === null) return;
    const back = this.#roundTripMs / 2;
    this.#parts.latency.textContent = `${Math.round(total + back)} ms`;
    this.#parts.latency.dataset.ms = (total + back).toFixed(1);
    this.#stages.show({ ...stages, back }, dropped);
  }

  /** What the server says of its pace: `hop_s` from answer to answer, `added_hop_s` of it for the load. */
  stats({ hop_s: hopS, added_hop_s: addedS }) {
    this.#parts.busy.hidden = !addedS;
    if (addedS) this.#parts.busy.textContent = `Busy: answers every ${hopS.toFixed(1)} s`;
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
