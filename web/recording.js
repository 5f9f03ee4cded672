// Takes of one sign in a row, hands-free: a count, a take, a pause, until there are enough.

import { IDLE, shown } from "./sign.js";

export const FEWEST = 3; // takes of a sign
const TAKES = 5; // recorded in one go
const PAUSE_MS = 2_000;
const COUNTS = 3; // a second each
const LATE_MS = 5_000; // a result later than this after the window is lost
const LOSSES = 2; // in a row, then it stops

/** `done({gloss, takes, space, fault})` is called at the end; `space` is undefined without a take. */
export class Recording {
  #root;
  #send;
  #announce;
  #showFault;
  #stills;
  #done;
  #figures;
  #run = null; // {gloss, kept, most, windowS, takes, id, losses, timer, stillTimer, still}

  constructor({ root, send, announce, showFault, stills, figures, done }) {
    this.#root = root;
    this.#send = send;
    this.#announce = announce;
    this.#showFault = showFault;
    this.#stills = stills;
    this.#figures = figures;
    this.#done = done;
    this.#at("enough").addEventListener("click", () => this.end());
  }

  get going() {
    return this.#run !== null;
  }

  /** `kept` takes are there already, `most` may be; a take lasts `windowS` seconds. */
  begin({ gloss, kept, most, windowS }) {
    const wanted = gloss === IDLE ? FEWEST : TAKES;
    this.#run = { gloss, kept, most: Math.min(most, kept + wanted), windowS, takes: [], id: null, losses: 0, still: null };
    this.#at("recording").hidden = false;
    this.#at("recording-name").textContent = shown(gloss);
    this.#at("stills").replaceChildren();
    this.#at("enough").focus();
    this.#next("");
  }

  take({ id, space, embedding, start_s: startS, end_s: endS }) {
    const run = this.#run;
    if (!run || run.id !== id) return;
    run.takes.push(embedding);
    run.space = space;
    run.losses = 0;
    this.#stills.keep(embedding, run.still);
    if (run.gloss !== IDLE) this.#figures.keepTake(embedding, startS, endS);
    if (run.still) {
      run.still.setAttribute("aria-label", `Take ${this.#count}`);
      this.#at("stills").append(run.still);
    }
    this.#showFault("");
    if (this.#count >= run.most) this.end();
    else this.#next(`Got take ${this.#count}.`);
  }

  /** The current take will get no result. */
  lost(text) {
    const run = this.#run;
    if (!run?.id) return;
    run.losses += 1;
    this.#showFault(text);
    if (run.losses >= LOSSES) this.end(`${text} Press Record to try again.`);
    else this.#next(text);
  }

  end(fault = "") {
    if (!this.#run) return;
    const { gloss, takes, space } = this.#run;
    this.#wait();
    this.#run = null;
    this.#at("recording").hidden = true;
    this.#done({ gloss, takes, space, fault });
  }

  get #count() {
    return this.#run.kept + this.#run.takes.length;
  }

  #at(name) {
    return this.#root.querySelector(`#teach-${name}`);
  }

  /** A pause, three counts, then a take. */
  #next(text) {
    const run = this.#run;
    run.id = null;
    this.#at("enough").textContent = this.#count >= FEWEST && run.takes.length ? "Enough" : "Stop";
    this.#at("progress").textContent = `${this.#count} of ${run.most} takes`;
    this.#at("recording").dataset.now = "false";
    this.#at("big").textContent = text ? "Again" : "";
    if (text) this.#announce(`${text} Again`);
    const count = (left) => {
      if (left === 0) {
        this.#now();
        return;
      }
      this.#at("big").textContent = left;
      this.#wait(() => count(left - 1), 1_000);
    };
    if (text) this.#wait(() => count(COUNTS), PAUSE_MS);
    else count(COUNTS);
  }

  #now() {
    const run = this.#run;
    run.id = crypto.randomUUID();
    run.still = null;
    const text = run.gloss === IDLE ? "Rest" : "Sign now";
    this.#at("recording").dataset.now = "true";
    this.#at("recording").style.setProperty("--window", `${run.windowS}s`);
    this.#at("big").textContent = text;
    this.#announce(text);
    this.#send({ type: "take", id: run.id });
    this.#wait(() => this.lost("The server sent no result for this take: it is lost."), 1_000 * run.windowS + LATE_MS);
    run.stillTimer = setTimeout(() => (run.still = this.#stills.draw()), 500 * run.windowS);
  }

  // Schedules the next step; the one that was scheduled before is dropped.
  #wait(act = () => {}, ms = 0) {
    clearTimeout(this.#run.timer);
    clearTimeout(this.#run.stillTimer);
    this.#run.timer = setTimeout(act, ms);
  }
}
