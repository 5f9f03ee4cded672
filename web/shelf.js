// "Signs you taught": the list, and what changes it. The live session is sent the signs that are kept.

import { save } from "./download.js";
import { IDLE, MAX_FILE, NotKept, shown } from "./sign.js";
import { TaughtSigns } from "./signs.js";
import { TaughtList } from "./taught.js";

/**
 * `showFault(text)`, `more(sign)` records more takes, `nameFault(name)` returns what is wrong with a
 * name, `renamed(old, now)` and `dropped(gloss)` are called afterwards. The rest is TeachPanel's.
 */
export class Shelf {
  #root;
  #announce;
  #showFault;
  #to; // {nameFault, renamed, dropped}
  #signs;
  #session;
  #figures;
  #list;
  #store = false; // does the server keep signs?
  #lastFault = ""; // of a change

  constructor({ root, token, request, announce, stills, figures, showFault, more, ...to }) {
    this.#root = root;
    this.#announce = announce;
    this.#showFault = showFault;
    this.#to = to;
    this.#signs = new TaughtSigns({ token, changed: () => this.#change() });
    this.#session = new SessionSigns(request);
    this.#figures = figures;
    this.#list = new TaughtList({
      list: this.#at("list"),
      stills,
      figures,
      act: {
        more,
        rename: (sign, name) => this.#rename(sign, name),
        drop: (sign) => this.#drop(sign),
        dropTake: (sign, place) => this.#dropTake(sign, place),
      },
    });
    this.#at("move").addEventListener("click", () => this.#settle(() => this.#signs.move()));
    this.#at("stay").addEventListener("click", () => this.#settle(() => this.#signs.stay()));
    this.#at("export").addEventListener("click", () => save("livegloss-signs.json", "application/json", this.#signs.export()));
    this.#at("import").addEventListener("click", () => this.#at("file").click());
    this.#at("file").addEventListener("change", () => this.#import());
    document.addEventListener("visibilitychange", () => document.hidden || this.#refresh());
    window.addEventListener("online", () => this.#refresh());
    this.#show();
  }

  /** The part of the model's card about signs. */
  model(card) {
    this.#store = card.store;
    this.#signs.model(card);
    this.#refresh();
  }

  /** A session began; it knows no taught sign yet. */
  begin() {
    this.#session.begin();
    this.#refresh();
  }

  end() {
    this.#session.end();
  }

  find(gloss) {
    return this.#signs.find(gloss);
  }

  /** Signs that the model can use. */
  get size() {
    return this.#signs.usable.length;
  }

  mark(gloss) {
    this.#list.mark(gloss);
  }

  /**
   * Keeps the takes of `{gloss, space, takes, anew, fault}`, see TaughtSigns; `fault` is shown too.
   * Resolves when the session knows them.
   */
  async keep({ fault, ...run }) {
    await this.#change(() => this.#signs.keep(run), fault);
  }

  #at(name) {
    return this.#root.querySelector(`#teach-${name}`);
  }

  /** Changes the signs, shows them, sends them to the session. Resolves with the fault, or "". */
  async #change(act = () => {}, before = "") {
    const faults = [before];
    try {
      await act();
    } catch (error) {
      if (!(error instanceof NotKept)) throw error;
      faults.push(error.message);
    }
    this.#show();
    faults.push(await this.#session.know(this.#signs.usable));
    const fault = faults.filter(Boolean).join(" ");
    if (fault) this.#showFault((this.#lastFault = fault));
    return fault;
  }

  /** As `#change`, for what a person asked for: an older fault is over. */
  #settle(act) {
    this.#showFault("");
    return this.#change(act);
  }

  async #refresh() {
    let read = false;
    const fault = await this.#change(async () => (read = await this.#signs.refresh()));
    const before = this.#at("fault").textContent;
    if (read && !fault && before === this.#lastFault) this.#showFault(""); // the server is back
  }

  async #rename(sign, name) {
    const taken = this.#signs.find(name) ? "You have a sign of this name already. Choose another one." : "";
    const fault = this.#to.nameFault(name) || taken;
    this.#showFault(fault);
    if (fault) return false;
    const failed = await this.#change(() => this.#signs.rename(sign, name));
    if (!this.#signs.find(name)) {
      if (!failed) this.#showFault(`${sign.gloss} was deleted on another page meanwhile.`);
      return false;
    }
    this.#announce(`${sign.gloss} is now ${name}`);
    this.#to.renamed(sign.gloss, name);
    return true;
  }

  async #drop(sign) {
    this.#figures.dropTakes(sign.takes);
    if (!(await this.#settle(() => this.#signs.drop(sign)))) this.#announce(`${shown(sign.gloss)} is deleted`);
    if (!this.#signs.find(sign.gloss)) this.#to.dropped(sign.gloss);
    this.#at("list-title").focus();
  }

  async #dropTake(sign, place) {
    this.#figures.dropTakes([sign.takes[place]]);
    const fault = await this.#settle(() => this.#signs.dropTake(sign, place));
    if (!fault) this.#announce(`Take ${place + 1} of ${shown(sign.gloss)} is deleted`);
    this.#at("list-title").focus();
  }

  async #import() {
    const [file] = this.#at("file").files;
    if (!file) return;
    const text = file.size <= MAX_FILE ? await file.text() : "";
    this.#at("file").value = ""; // so that the same file can be chosen again
    let count = 0;
    if (await this.#settle(async () => (count = await this.#signs.import(text)))) return;
    this.#announce(count === 1 ? "1 sign was read" : `${count} signs were read`);
  }

  #show() {
    const { all, usable, undecided, where } = this.#signs;
    this.#at("none").hidden = all.length > 0;
    this.#at("export").hidden = all.length === 0;
    this.#at("where").textContent = where;
    this.#at("offer").hidden = undecided.length === 0;
    this.#at("offer-names").textContent = undecided.map(({ gloss }) => shown(gloss)).join(", ");
    const these = undecided.length === 1 ? "this sign" : `these ${undecided.length} signs`;
    this.#at("move").textContent = `Keep ${these} on the server`;
    this.#list.show(all, usable, this.#store);
    this.#root.dispatchEvent(new CustomEvent("taught", {
      bubbles: true,
      detail: usable.filter(({ gloss }) => gloss !== IDLE),
    }));
  }
}

/** The signs that the live session knows: kept equal to the signs that are kept. */
class SessionSigns {
  #request;
  #known = null; // gloss -> its takes as text; null without a session
  #turn = Promise.resolve("");

  /** `request(suffix, options)` reaches the session's own address. */
  constructor(request) {
    this.#request = request;
  }

  /** A new session: it knows no taught sign yet. */
  begin() {
    this.#known = new Map();
  }

  end() {
    this.#known = null;
  }

  /**
   * Makes the session know `signs` and no other taught sign. Resolves with what went wrong, in words;
   * "" when nothing did. Waits for the call before it.
   */
  know(signs) {
    this.#turn = this.#turn.then(() => this.#know(signs));
    return this.#turn;
  }

  async #know(signs) {
    const known = this.#known;
    const kept = new Set(signs.map(({ gloss }) => gloss));
    const faults = [];
    const request = async (gloss, options) => {
      if (known === this.#known) faults.push(await this.#send(gloss, options));
    };
    if (!known) return "";
    // The new before the old: a sign that was renamed is known all the time.
    for (const { gloss, space, takes } of signs) {
      const text = takes.join(" ");
      if (known.get(gloss) === text) continue;
      known.set(gloss, text);
      await request(gloss, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ space, takes }),
      });
    }
    for (const gloss of [...known.keys()]) {
      if (kept.has(gloss)) continue;
      known.delete(gloss);
      await request(gloss, { method: "DELETE" });
    }
    return faults.find(Boolean) ?? "";
  }

  async #send(gloss, options) {
    const again = "It will be sent again when the camera starts anew.";
    try {
      const response = await this.#request(`/signs/${encodeURIComponent(gloss)}`, options);
      if (response.ok || (options.method === "DELETE" && response.status === 404)) return "";
      const { detail } = await response.json().catch(() => ({}));
      return `The running session did not accept ${shown(gloss)}. ${detail ?? again}`;
    } catch {
      return `${shown(gloss)} could not be sent to the running session. ${again}`;
    }
  }
}
