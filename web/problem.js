// What keeps the page from reading signs, in words that say what to do, and when it tries again.

export class Problem {
  #box;
  #text;
  #countdown;
  #retry;

  /** `hurry()` is called by who does not want to wait; the rest are elements. */
  constructor({ box, text, countdown, retry, hurry }) {
    this.#box = box;
    this.#text = text;
    this.#countdown = countdown;
    this.#retry = retry;
    retry.addEventListener("click", hurry);
  }

  /** An error with `code` and `message`, null when all is well; `waitS` seconds to the next attempt. */
  show(error, waitS = null) {
    this.#box.hidden = !error;
    this.#box.dataset.code = error?.code ?? "";
    const text = error?.message ?? "";
    // Only when it changes: a countdown must not make a screen reader say it every second.
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#countdown.textContent = waitS ? `Trying again in ${waitS} s.` : "";
    this.#retry.hidden = !waitS;
  }
}
