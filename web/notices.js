// Notices beside the picture: the error that keeps the page from working, the hint that helps the signer.

import { write } from "./elements.js";

const FLASH_MS = 5_000;

/** What stops the page, in words that say what to do, and when it tries again. */
export class Problem {
  #box;
  #text;
  #countdown;
  #retry;

  /** `retryNow()` is called when the person does not want to wait; the rest are elements. */
  constructor({ box, text, countdown, retry, retryNow }) {
    this.#box = box;
    this.#text = text;
    this.#countdown = countdown;
    this.#retry = retry;
    retry.addEventListener("click", retryNow);
  }

  /** An error with `code` and `message`, null when all is well; `waitS` seconds to the next attempt. */
  show(error, waitS = null) {
    this.#box.hidden = !error;
    this.#box.dataset.code = error?.code ?? "";
    write(this.#text, error?.message ?? ""); // not again at each second of the countdown
    this.#countdown.textContent = waitS ? `Trying again in ${waitS} s.` : "";
    this.#retry.hidden = !waitS;
  }
}

/** One line over the picture: what would help the signer now. */
export class HintLine {
  #line;
  #held = null; // the hint that holds until the server sends another
  #timer = 0;

  constructor(line) {
    this.#line = line;
  }

  /** Shows a hint {code, text} until the next one; the code "ok" takes it away. */
  hold(hint) {
    this.#held = hint.code === "ok" ? null : hint;
    this.#show(this.#held);
  }

  /** Shows one for a moment, then the one before it. */
  flash(hint) {
    this.#show(hint);
    this.#timer = setTimeout(() => this.#show(this.#held), FLASH_MS);
  }

  clear() {
    this.hold({ code: "ok" });
  }

  #show(hint) {
    clearTimeout(this.#timer);
    this.#line.hidden = !hint;
    this.#line.dataset.code = hint?.code ?? "";
    this.#line.textContent = hint?.text ?? "";
  }
}
