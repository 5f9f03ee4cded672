// How the connection is: its state in words, the delay, the video that goes out.

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
  #roundTripMs = null;

  /** `parts`: the elements status, text, box, latency, latencyBox, fps, fpsBox. */
  constructor(parts) {
    this.#parts = parts;
  }

  state(name) {
    this.#parts.status.dataset.state = name;
    this.#parts.text.textContent = WORDS[name];
    this.#parts.box.hidden = name !== "live";
    if (name !== "live") {
      this.#roundTripMs = null;
      this.#parts.latency.textContent = "–";
      this.#parts.fps.textContent = "–";
    }
  }

  /** Milliseconds, on this page's own clock, from a ping to its pong. */
  roundTrip(ms) {
    this.#roundTripMs = this.#roundTripMs === null ? ms : 0.7 * this.#roundTripMs + 0.3 * ms;
  }

  /** What the server says of one prediction, with half the round trip: its way back to here. */
  latency(stages) {
    if (this.#roundTripMs === null) return;
    const way = this.#roundTripMs / 2;
    const total = stages.total + way;
    const { latency, latencyBox } = this.#parts;
    latency.textContent = `${Math.round(total)} ms`;
    latency.dataset.ms = total.toFixed(1);
    const rows = Object.entries(stages).filter(([name]) => name !== "total");
    latencyBox.title = [
      "From the newest picture's arrival at the server until its result is here:",
      ...rows.map(([name, ms]) => `${name.replaceAll("_", " ")}: ${ms.toFixed(1)} ms`),
      `way back (half the round trip): ${way.toFixed(1)} ms`,
    ].join("\n");
  }

  sent({ fps, width, height }) {
    this.#parts.fps.textContent = `${Math.round(fps)} fps`;
    this.#parts.fps.dataset.fps = fps;
    this.#parts.fpsBox.title = width
      ? `Pictures a second that leave this browser, ${width} × ${height} pixels each`
      : "Pictures a second that leave this browser";
  }
}
