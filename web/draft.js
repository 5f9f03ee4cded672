// A draft sentence of the newest signs, written by the language model that the server's operator
// chose. Each group of words shows on which signs it rests; what rests on none is marked. Loaded
// only where the server offers drafts.

import { button, element, percent, styled } from "./elements.js";

const NOTE = "A draft from guesses, not a translation";
const NO_SESSION = "Start the camera first: drafts are written for a live session only.";
const KINDS = { added: "added, rests on no sign", untied: "the model did not say on which sign it rests" };

export class DraftPanel {
  #root;
  #announce;
  #request;
  #most = 0; // signs of a draft
  #signs = new Map(); // "session/id" -> the final sign; oldest first, the newest #most of them
  #left = new Set(); // keys of signs that the person leaves out
  #session = "";
  #drafted = []; // keys of the signs of the draft that is shown
  #stop = null; // of the draft under way: its AbortController
  #parts = {};

  /**
   * `root` is a section. `request(suffix, options)` fetches from the session's address; without a
   * session it is undefined, or throws a ConnectionError.
   */
  constructor({ root, announce, request }) {
    this.#root = root;
    this.#announce = announce;
    this.#request = request;
    styled("draft.css");
    this.#build();
  }

  /** Of `GET /api/model`: {model, host, signs}; null hides the panel. */
  show(offer) {
    this.#root.hidden = !offer;
    if (!offer) return;
    this.#most = offer.signs;
    const where = offer.host ? `at ${offer.host}` : "on this server's own machine";
    this.#parts.where.textContent = `At the press of the button, glosses and their probabilities go to the language model ${offer.model} ${where}. No picture does.`;
  }

  /** Ids of signs count from the start in each session. */
  begin(session) {
    this.#session = session;
  }

  sign(sign) {
    if (!sign.final) return;
    const key = `${this.#session}/${sign.id}`;
    this.#signs.set(key, sign);
    if (this.#signs.size > this.#most) {
      const [oldest] = this.#signs.keys();
      this.#signs.delete(oldest);
      this.#left.delete(oldest);
      this.#parts.signs.querySelector(`[data-key="${oldest}"]`)?.parentElement.remove();
    }
    this.#chip(key, sign);
    this.#parts.help.hidden = false;
  }

  /** The transcript is empty. */
  clear() {
    this.#stop?.abort();
    this.#signs.clear();
    this.#left.clear();
    this.#parts.signs.replaceChildren();
    this.#parts.help.hidden = true;
    this.#fault("");
    this.#reset();
  }

  #build() {
    const parts = {
      title: element("h2", "", "Draft sentence"),
      ask: button("plain", "Draft a sentence"),
      note: element("strong", "", `${NOTE}. `),
      where: element("span"),
      fault: element("p", "fault"),
      signs: element("ol", "draft-signs"),
      help: element("p", "note", "Press a sign to leave it out."),
      words: element("p", "draft-words"),
      edited: element("textarea"),
      legend: element("p", "note"),
      doing: element("div", "choices"),
      edit: button("plain", "Edit"),
      undo: button("plain", "Back to the model's words"),
      copy: button("plain", "Copy"),
    };
    this.#parts = parts;
    parts.title.id = "draft-title";
    parts.fault.setAttribute("role", "alert");
    parts.signs.setAttribute("aria-label", "Signs for the draft");
    parts.words.setAttribute("role", "group");
    parts.words.setAttribute("aria-label", "The draft, word by word");
    parts.edited.setAttribute("aria-label", "The draft as you changed it");
    parts.edited.rows = 3;
    parts.edited.maxLength = 4000;
    parts.legend.append(element("span", "word sample", "so"), " rests on no sign. ", element("span", "word unsure", "so"), " rests on an unsure guess.");
    parts.legend.firstChild.dataset.kind = "added";
    const head = element("div", "log-head");
    head.append(parts.title, parts.ask);
    const say = element("p", "draft-note");
    say.append(parts.note, parts.where);
    parts.doing.append(parts.edit, parts.undo, parts.copy);
    this.#root.replaceChildren(head, say, parts.signs, parts.help, parts.fault, parts.words, parts.edited, parts.legend, parts.doing);
    parts.help.hidden = true;
    this.#reset();

    parts.ask.addEventListener("click", () => (this.#stop ? this.#stop.abort() : this.#draft()));
    parts.edit.addEventListener("click", () => this.#editing(true));
    parts.undo.addEventListener("click", () => {
      this.#editing(false);
      parts.edit.focus();
    });
    parts.copy.addEventListener("click", () => this.#copy());
    for (const type of ["pointerover", "focusin", "click"]) {
      parts.words.addEventListener(type, ({ target }) => this.#light(target.closest(".word")));
    }
    for (const type of ["pointerleave", "focusout"]) parts.words.addEventListener(type, () => this.#light(null));
  }

  #chip(key, { gloss, p, alternatives }) {
    const old = this.#parts.signs.querySelector(`[data-key="${key}"]`);
    const chip = old ?? button("chip", "");
    const others = alternatives.slice(0, 4).map((one) => `${one.gloss} ${percent(one.p)}`);
    chip.dataset.key = key;
    chip.title = others.length ? `or ${others.join(", ")}` : "";
    chip.replaceChildren(element("span", "gloss", gloss), " ", element("span", "p", percent(p)));
    if (old) return;
    chip.setAttribute("aria-pressed", "true");
    chip.addEventListener("click", () => {
      if (!this.#left.delete(key)) this.#left.add(key);
      chip.setAttribute("aria-pressed", String(!this.#left.has(key)));
    });
    const item = element("li");
    item.append(chip);
    this.#parts.signs.append(item);
  }

  // Shows on which signs a group of words rests; null: on none.
  #light(word) {
    const lit = new Set(word?.dataset.ties?.split(" ") ?? []);
    for (const chip of this.#parts.signs.querySelectorAll(".chip")) chip.classList.toggle("lit", lit.has(chip.dataset.key));
    for (const one of this.#parts.words.children) one.classList.toggle("lit", one === word);
  }

  #fault(text) {
    this.#parts.fault.textContent = text;
  }

  // No draft is there.
  #reset() {
    this.#parts.words.replaceChildren();
    this.#parts.words.hidden = true;
    this.#light(null);
    this.#editing(false);
    this.#finish();
  }

  // The draft under way, if any, is over.
  #finish() {
    const { ask, words, legend, doing } = this.#parts;
    const some = words.children.length > 0;
    this.#stop = null;
    ask.textContent = some ? "Draft again" : "Draft a sentence";
    words.setAttribute("aria-busy", "false");
    legend.hidden = doing.hidden = !some;
  }

  #editing(on) {
    const { words, edited, legend, edit, undo, ask } = this.#parts;
    const there = words.children.length > 0;
    if (on) edited.value = this.#text;
    words.hidden = on || !there;
    legend.hidden = on || !there;
    edited.hidden = undo.hidden = !on;
    edit.hidden = ask.hidden = on;
    if (on) edited.focus();
  }

  get #text() {
    return [...this.#parts.words.children].map(({ textContent }) => textContent).join(" ");
  }

  async #draft() {
    const chosen = [...this.#signs].filter(([key]) => !this.#left.has(key));
    this.#fault("");
    if (!chosen.length) return this.#fault("There is no sign to write of yet.");
    const stop = new AbortController();
    this.#reset();
    this.#stop = stop;
    this.#drafted = chosen.map(([key]) => key);
    this.#parts.ask.textContent = "Stop";
    this.#parts.words.hidden = false;
    this.#parts.words.setAttribute("aria-busy", "true");
    const guess = ({ gloss, p }) => ({ gloss, p });
    const signs = chosen.map(([, sign]) => ({ ...guess(sign), alternatives: sign.alternatives.slice(0, 4).map(guess) }));
    let why = "";
    try {
      const response = await this.#request("/draft", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ signs }),
        signal: stop.signal,
      });
      if (!response) why = NO_SESSION;
      else why = response.ok ? await this.#read(response) : await this.#refusal(response);
    } catch (error) {
      const broken = error.code === "closed" ? NO_SESSION : "The connection to this server broke off.";
      why = stop.signal.aborted ? "Stopped." : broken;
    }
    if (this.#stop !== stop) return; // cleared meanwhile
    this.#finish();
    this.#parts.words.hidden = !this.#parts.words.children.length;
    this.#fault(why);
    const unsure = this.#parts.words.querySelectorAll(".unsure").length;
    if (this.#text) this.#announce(`Draft: ${this.#text}${unsure ? `. ${unsure} of its parts rest on unsure guesses.` : ""}`);
  }

  // Shows the words as they come. Returns why the draft ended before its end, "" if it did not.
  async #read(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "The connection to this server broke off.";
      const events = (waiting + value).split("\n\n");
      waiting = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        const message = JSON.parse(event.slice(6));
        if (message.type === "end") return message.message;
        if (message.type === "words") this.#add(message);
      }
    }
  }

  async #refusal(response) {
    return response.json().then(
      ({ detail }) => detail,
      () => `The server did not take the signs (${response.status}).`,
    );
  }

  #add({ text, kind, ties, unsure }) {
    const word = button("word", text);
    const names = ties.map(({ gloss, p }) => `${gloss} ${percent(p)}`).join(", ");
    const means = ties.length ? `${unsure ? "unsure, " : ""}rests on ${names}` : KINDS[kind];
    word.dataset.kind = kind;
    if (ties.length) word.dataset.ties = ties.map(({ sign }) => this.#drafted[sign - 1]).join(" ");
    word.classList.toggle("unsure", unsure);
    word.title = means;
    word.setAttribute("aria-label", `${text}: ${means}`);
    this.#parts.words.append(word);
  }

  async #copy() {
    const { edited } = this.#parts;
    const text = edited.hidden ? this.#text : edited.value;
    try {
      await navigator.clipboard.writeText(`${text}\n(${NOTE})`);
      this.#fault("");
      this.#announce("Draft copied");
    } catch {
      this.#fault("The browser did not allow copying. Select the text and copy it yourself.");
    }
  }
}
