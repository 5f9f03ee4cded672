// The moment that the Read panel tells of: its word and its candidates are always of the same one.

import { percent, RESTING, write } from "./elements.js";

const HOLD_MS = 1_200; // a sign that is over stays so long though the hands go on: time to read it
const FRESH_MS = 3_000; // then it is the last sign, without candidates, in a soft colour, with its age
const GONE_MS = 15_000; // then the transcript alone has it
const SILENT_MS = 3_000; // a prediction older than this says nothing of now
const TICK_MS = 500;
const WORTH_GUESSING = 0.05; // a gloss this likely is told, though no known sign is likelier

const seconds = (ms) => `${Math.round(ms / 1000)} s`;

/**
 * What is shown (`data-moment` of the panel):
 *   sign    a sign that is being made, or was just now; its own alternatives
 *   unsure  no sign is sure yet, but there is something to guess from; what it could be
 *   past    the last sign and its age; nothing to guess from
 *   rest    what to do or wait for; nothing to guess from
 */
export class Moment {
  #panel;
  #title;
  #note;
  #current;
  #candidates;
  #text = "";
  #sign = null;
  #overMs = 0; // when the sign was over; Infinity while it is made
  #live = false;
  #newest = null; // the newest prediction, null before the first one of a connection
  #newestMs = 0; // when it came, or the connection began
  #timer = 0;

  /** `panel`, `title` and `note` are elements; `current` and `candidates` those of current.js. */
  constructor({ panel, title, note, current, candidates }) {
    this.#panel = panel;
    this.#title = title;
    this.#note = note;
    this.#current = current;
    this.#candidates = candidates;
  }

  /** `text` says what to do or wait for while there is no sign to show. */
  wait(text) {
    this.#text = text;
    this.#draw();
  }

  /** A connection stands: predictions are to come. */
  begin() {
    this.#live = true;
    this.#newestMs = performance.now();
    this.#draw();
  }

  sign(message) {
    this.#sign = message;
    this.#overMs = message.final ? performance.now() : Infinity;
    this.#draw();
  }

  prediction(message) {
    this.#newest = message;
    this.#newestMs = performance.now();
    this.#candidates.follow(message);
    this.#draw();
  }

  /** The connection or the camera is gone: nothing is being made any more. */
  end() {
    this.#live = false;
    this.#newest = null;
    this.#candidates.forget();
    this.#overMs = Math.min(this.#overMs, performance.now());
    this.#draw();
  }

  /** The last sign is not to be seen any more. */
  forget() {
    this.#sign = null;
    this.#draw();
  }

  /** The state now, and the milliseconds since the sign was over. */
  #state(nowMs) {
    const lostMs = this.#newest ? this.#newestMs + SILENT_MS : Infinity;
    const sinceMs = this.#sign ? nowMs - Math.min(this.#overMs, lostMs) : Infinity;
    const as = (state) => ({ state, sinceMs });
    if (sinceMs < HOLD_MS) return as("sign");
    const newest = nowMs - this.#newestMs < SILENT_MS ? this.#newest : null;
    const same = newest?.top[0]?.gloss === this.#sign?.gloss && sinceMs < FRESH_MS;
    const guess = newest && (newest.idle < RESTING || newest.top[0]?.p >= WORTH_GUESSING);
    if (guess && !same) return as("unsure");
    if (sinceMs < FRESH_MS) return as("sign");
    return as(sinceMs < GONE_MS ? "past" : "rest");
  }

  #draw() {
    const nowMs = performance.now();
    const { state, sinceMs } = this.#state(nowMs);
    this.#panel.dataset.moment = state;
    write(this.#title, state === "past" ? "Last sign" : "Now");
    switch (state) {
      case "sign":
        this.#current.show(this.#sign);
        this.#candidates.show([this.#sign, ...this.#sign.alternatives]);
        break;
      case "past":
        this.#current.show(this.#sign, seconds(sinceMs));
        this.#candidates.show([]);
        break;
      case "unsure":
        this.#current.rest("Not sure yet");
        this.#candidates.show(this.#candidates.followed);
        break;
      case "rest":
        this.#current.rest(this.#text);
        this.#candidates.show([]);
        break;
    }
    const silentMs = this.#live ? nowMs - this.#newestMs : 0;
    const known = state === "rest" && this.#newest ? `No known sign · ${percent(this.#newest.idle)}` : "";
    write(this.#note, silentMs >= SILENT_MS ? `No result for ${seconds(silentMs)}` : known);
    clearTimeout(this.#timer);
    if (this.#live || state !== "rest") this.#timer = setTimeout(() => this.#draw(), TICK_MS);
  }
}
