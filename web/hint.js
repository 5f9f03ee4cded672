// One line over the picture: what would help the signer now.

const FLASH_MS = 5_000;

export class HintLine {
  #line;
  #held = null; // until the server says otherwise
  #timer = 0;

  constructor(line) {
    this.#line = line;
  }

  /** Shows a hint {code, text} until the next one; the code "ok" takes it away. */
  hold(hint) {
    this.#held = hint.code === "ok" ? null : hint;
    this.#show(this.#held);
  }

  /** Shows one for a moment, then what held before. */
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
