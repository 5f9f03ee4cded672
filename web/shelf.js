// "Signs you taught": the list, and what changes it. What is kept, the session is taught.

import { save } from "/static/download.js";
import { Lesson } from "/static/lesson.js";
import { IDLE, MAX_FILE, NotKept, shown } from "/static/sign.js";
import { TaughtSigns } from "/static/signs.js";
import { TaughtList } from "/static/taught.js";

/**
 * `tell(text)` shows a fault, `more(sign)` records more takes, `nameFault(name)` says what is wrong
 * with a name, `renamed(old, now)` and `dropped(gloss)` hear of it. The rest is TeachPanel's.
 */
export class Shelf {
  #root;
  #announce;
  #tell;
  #to; // {nameFault, renamed, dropped}
  #signs;
  #lesson;
  #list;
  #store = false; // does the server keep signs?
  #told = ""; // the last fault of a change

  constructor({ root, token, request, announce, stills, tell, more, ...to }) {
    this.#root = root;
    this.#announce = announce;
    this.#tell = tell;
    this.#to = to;
    this.#signs = new TaughtSigns({ token, changed: () => this.#change() });
    this.#lesson = new Lesson(request);
    this.#list = new TaughtList({
      list: this.#at("list"),
      stills,
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

  /** What the model's card says of signs. */
  model(card) {
    this.#store = card.store;
    this.#signs.model(card);
    this.#refresh();
  }

  /** A session began; it knows nothing taught yet. */
  begin() {
    this.#lesson.begin();
    this.#refresh();
  }

  end() {
    this.#lesson.end();
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
   * Keeps the takes of `{gloss, space, takes, anew, fault}`, see TaughtSigns; `fault` is told too.
   * Resolves when the session knows them.
   */
  async keep({ fault, ...run }) {
    await this.#change(() => this.#signs.keep(run), fault);
  }

  #at(name) {
    return this.#root.querySelector(`#teach-${name}`);
  }

  /** Does something to the signs, shows them, teaches the session. Resolves with the fault, or "". */
  async #change(act = () => {}, before = "") {
    const faults = [before];
    try {
      await act();
    } catch (error) {
      if (!(error instanceof NotKept)) throw error;
      faults.push(error.message);
    }
    this.#show();
    faults.push(await this.#lesson.know(this.#signs.usable));
    const told = faults.filter(Boolean).join(" ");
    if (told) this.#tell((this.#told = told));
    return told;
  }

  /** As `#change`, for what a person asked for: an older fault is over. */
  #settle(act) {
    this.#tell("");
    return this.#change(act);
  }

  async #refresh() {
    let read = false;
    const fault = await this.#change(async () => (read = await this.#signs.refresh()));
    const before = this.#at("fault").textContent;
    if (read && !fault && before === this.#told) this.#tell(""); // the server is back
  }

  async #rename(sign, name) {
    const taken = this.#signs.find(name) ? "You have a sign of this name already. Choose another one." : "";
    const fault = this.#to.nameFault(name) || taken;
    this.#tell(fault);
    if (fault) return false;
    const told = await this.#change(() => this.#signs.rename(sign, name));
    if (!this.#signs.find(name)) {
      if (!told) this.#tell(`${sign.gloss} was deleted on another page meanwhile.`);
      return false;
    }
    this.#announce(`${sign.gloss} is now ${name}`);
    this.#to.renamed(sign.gloss, name);
    return true;
  }

  async #drop(sign) {
    if (!(await this.#settle(() => this.#signs.drop(sign)))) this.#announce(`${shown(sign.gloss)} is deleted`);
    if (!this.#signs.find(sign.gloss)) this.#to.dropped(sign.gloss);
    this.#at("list-title").focus();
  }

  async #dropTake(sign, place) {
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
      detail: usable.map(({ gloss }) => gloss).filter((gloss) => gloss !== IDLE),
    }));
  }
}
