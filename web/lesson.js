// What the live session was taught: kept equal to the signs that are kept.

import { shown } from "/static/sign.js";

export class Lesson {
  #request;
  #told = null; // gloss -> its takes as text; null without a session
  #turn = Promise.resolve("");

  /** `request(suffix, options)` reaches the session's own address. */
  constructor(request) {
    this.#request = request;
  }

  /** A new session: it was taught nothing yet. */
  begin() {
    this.#told = new Map();
  }

  end() {
    this.#told = null;
  }

  /**
   * Makes the session know `signs`, and none that was taught before and is not among them. Resolves
   * with what went wrong, in words; "" when nothing did. Waits for the one before it.
   */
  know(signs) {
    this.#turn = this.#turn.then(() => this.#know(signs));
    return this.#turn;
  }

  async #know(signs) {
    const told = this.#told;
    const kept = new Set(signs.map(({ gloss }) => gloss));
    const faults = [];
    const ask = async (gloss, options) => {
      if (told === this.#told) faults.push(await this.#ask(gloss, options));
    };
    if (!told) return "";
    // The new before the old: a sign that was renamed is known all the time.
    for (const { gloss, space, takes } of signs) {
      const text = takes.join(" ");
      if (told.get(gloss) === text) continue;
      told.set(gloss, text);
      await ask(gloss, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ space, takes }),
      });
    }
    for (const gloss of [...told.keys()]) {
      if (kept.has(gloss)) continue;
      told.delete(gloss);
      await ask(gloss, { method: "DELETE" });
    }
    return faults.find(Boolean) ?? "";
  }

  async #ask(gloss, options) {
    const again = "It will be told again when the camera starts anew.";
    try {
      const response = await this.#request(`/signs/${encodeURIComponent(gloss)}`, options);
      if (response.ok || (options.method === "DELETE" && response.status === 404)) return "";
      const { detail } = await response.json().catch(() => ({}));
      return `The running recognition did not take ${shown(gloss)}. ${detail ?? again}`;
    } catch {
      return `The running recognition could not be told of ${shown(gloss)}. ${again}`;
    }
  }
}
