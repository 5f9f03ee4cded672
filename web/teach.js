// Teaching a sign: takes follow each other hands-free, then the session knows the sign.

import { save } from "/static/download.js";
import { element } from "/static/element.js";
import { IDLE, lookalike, MAX_FILE, nameFault, TaughtSigns, unlike } from "/static/signs.js";

const TAKES = 5; // recorded in one go
const FEWEST = 3;
const PAUSE_MS = 2_000;
const LATE_MS = 5_000; // an answer later than this after the window is lost
const LOSSES = 2; // in a row, then it stops

const shown = (gloss) => (gloss === IDLE ? "No sign (rest)" : gloss);
const counted = (number) => (number === 1 ? "1 take" : `${number} takes`);

/** `request(suffix, options)` reaches the session's own address; the rest is as for every panel. */
export class TeachPanel {
  #root;
  #send;
  #request;
  #announce;
  #start;
  #signs = new TaughtSigns();
  #card = null;
  #space = null;
  #live = false;
  #windowS = 2;
  #waiting = null; // the gloss to record once the camera is live
  #run = null; // {gloss, takes, id, count, losses, timer} while takes are recorded
  #trying = ""; // the gloss that the person was invited to try

  constructor({ root, send, request, announce, start }) {
    this.#root = root;
    this.#send = send;
    this.#request = request;
    this.#announce = announce;
    this.#start = start;
    this.#at("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#at("rest-record").addEventListener("click", () => this.#record(IDLE));
    this.#at("enough").addEventListener("click", () => this.#end());
    this.#at("export").addEventListener("click", () => this.#export());
    this.#at("import").addEventListener("click", () => this.#at("file").click());
    this.#at("file").addEventListener("change", () => this.#import());
    this.#list();
  }

  model(card) {
    this.#card = card;
    this.#space = card.signs.space;
    this.#list();
  }

  async hello(message) {
    this.#live = true;
    this.#space = message.model.space;
    this.#windowS = message.model.window_s;
    this.#list();
    for (const sign of this.#signs.of(this.#space)) await this.#teach(sign);
    if (this.#waiting === null) return;
    const gloss = this.#waiting;
    this.#waiting = null;
    this.#begin(gloss);
  }

  state(name) {
    if (name === "live") return;
    this.#live = false;
    if (this.#run) this.#end("The connection ended. Press Record to go on.");
    if (name === "off" || name === "failed") this.#waiting = null;
  }

  take({ id, space, embedding }) {
    const run = this.#run;
    if (!run || run.id !== id) return;
    run.takes.push(embedding);
    run.space = space;
    run.losses = 0;
    this.#fresh();
    if (run.takes.length >= run.most) this.#end();
    else this.#next(`Got take ${run.takes.length}.`);
  }

  error({ code, message }) {
    if (code === "take" && this.#run?.id) this.#lost(message);
  }

  sign({ gloss }) {
    for (const row of this.#at("list").children) row.classList.toggle("hit", row.dataset.gloss === gloss);
    if (gloss !== this.#trying) return;
    this.#trying = "";
    this.#at("try").dataset.seen = "true";
    this.#at("try").textContent = `It recognised ${gloss}.`;
    this.#announce(`It recognised ${gloss}`);
  }

  #at(name) {
    return this.#root.querySelector(`#teach-${name}`);
  }

  #tell(text) {
    this.#at("fault").textContent = text;
  }

  #submit() {
    const gloss = this.#at("name").value.trim();
    let fault = nameFault(gloss);
    if (!fault && gloss.toLowerCase() === IDLE) fault = "This name is kept for standing still. Choose another one.";
    if (!fault && this.#card?.glosses.includes(gloss)) fault = "It knows a sign of this name already. Choose another one.";
    if (!fault && !this.#signs.find(gloss, this.#space) && this.#signs.of(this.#space).length >= (this.#card?.signs.max ?? 50)) {
      fault = "It knows as many taught signs as it can. Delete one first.";
    }
    this.#at("name").setAttribute("aria-invalid", String(fault !== ""));
    this.#tell(fault);
    if (fault) this.#at("name").focus();
    else this.#record(gloss);
  }

  #record(gloss) {
    this.#tell("");
    if (this.#live) {
      this.#begin(gloss);
      return;
    }
    this.#waiting = gloss;
    this.#announce("Starting the camera");
    this.#start();
  }

  #begin(gloss) {
    const kept = this.#signs.find(gloss, this.#space)?.takes ?? [];
    const most = this.#card?.signs.takes ?? 8;
    if (kept.length >= most) {
      this.#tell(`${shown(gloss)} has ${counted(kept.length)}, which is as many as fit. Delete it to record it anew.`);
      return;
    }
    const wanted = gloss === IDLE ? FEWEST : TAKES;
    this.#run = { gloss, takes: [...kept], most: Math.min(most, kept.length + wanted), id: null, losses: 0 };
    this.#trying = "";
    this.#at("try").textContent = "";
    this.#at("form").hidden = this.#at("rest").hidden = true;
    this.#at("recording").hidden = false;
    this.#at("recording-name").textContent = shown(gloss);
    this.#at("enough").focus();
    this.#next("");
  }

  /** A pause, three counts, then a take. */
  #next(text) {
    const run = this.#run;
    run.id = null;
    this.#at("enough").textContent = run.takes.length >= FEWEST ? "Enough" : "Stop";
    this.#at("progress").textContent = `${run.takes.length} of ${run.most} takes`;
    this.#at("recording").dataset.now = "false";
    this.#at("big").textContent = text ? "Again" : "";
    if (text) this.#announce(`${text} Again`);
    const count = (left) => {
      if (left === 0) {
        this.#now();
        return;
      }
      this.#at("big").textContent = left;
      this.#later(() => count(left - 1), 1_000);
    };
    if (text) this.#later(() => count(3), PAUSE_MS);
    else count(3);
  }

  #now() {
    const run = this.#run;
    run.id = crypto.randomUUID();
    const text = run.gloss === IDLE ? "Rest" : "Sign now";
    this.#at("recording").dataset.now = "true";
    this.#at("recording").style.setProperty("--window", `${this.#windowS}s`);
    this.#at("big").textContent = text;
    this.#announce(text);
    this.#send({ type: "take", id: run.id });
    this.#later(() => this.#lost("No answer came for this take: it is lost."), 1_000 * this.#windowS + LATE_MS);
  }

  #lost(text) {
    const run = this.#run;
    run.losses += 1;
    this.#tell(text);
    if (run.losses >= LOSSES) this.#end(`${text} Press Record to try again.`);
    else this.#next(text);
  }

  #later(act, ms) {
    clearTimeout(this.#run.timer);
    this.#run.timer = setTimeout(act, ms);
  }

  #fresh() {
    clearTimeout(this.#run.timer);
    this.#tell("");
  }

  /** The takes so far become the sign, if they are enough. */
  async #end(fault = "") {
    const { gloss, takes, space, timer } = this.#run;
    clearTimeout(timer);
    this.#run = null;
    this.#at("recording").hidden = true;
    this.#list();
    this.#at("name").focus();
    this.#tell(fault);
    if (space === undefined) return; // nothing new was recorded
    if (takes.length < FEWEST) {
      this.#tell(`${fault} ${counted(takes.length)} ${takes.length === 1 ? "is" : "are"} too few: it takes at least ${FEWEST}. Nothing was kept.`.trim());
      return;
    }
    const sign = { gloss, space, takes, date: new Date().toISOString().slice(0, 10) };
    if (!this.#change(() => this.#signs.keep(sign))) return;
    this.#at("name").value = "";
    if (!(await this.#teach(sign)) || gloss === IDLE) return;
    this.#trying = gloss;
    this.#at("try").dataset.seen = "false";
    this.#at("try").textContent = `Try it: sign ${gloss} now.`;
    this.#announce(`${gloss} is taught. Sign it now to try it.`);
  }

  #change(act) {
    try {
      act();
    } catch (error) {
      this.#tell(error.message);
      return false;
    }
    this.#list();
    return true;
  }

  /** Tells the session; what goes wrong is said in words. */
  async #teach({ gloss, space, takes }) {
    return this.#ask(gloss, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ space, takes }),
    });
  }

  async #ask(gloss, options) {
    if (!this.#live) return false;
    try {
      const response = await this.#request(`/signs/${encodeURIComponent(gloss)}`, options);
      if (response.ok) return true;
      const { detail } = await response.json().catch(() => ({}));
      this.#tell(`The server did not take ${shown(gloss)}. ${detail ?? ""}`.trim());
    } catch {
      this.#tell(`The server could not be told of ${shown(gloss)}. It will be told when the camera starts again.`);
    }
    return false;
  }

  #delete(sign) {
    if (!this.#change(() => this.#signs.drop(sign))) return;
    if (sign.gloss === this.#trying) {
      this.#trying = "";
      this.#at("try").textContent = "";
    }
    if (sign.space === this.#space) this.#ask(sign.gloss, { method: "DELETE" });
    this.#announce(`${shown(sign.gloss)} is deleted`);
    this.#at("list-title").focus();
  }

  #deleteTake(sign, place) {
    const takes = sign.takes.filter((_, i) => i !== place);
    if (!takes.length) {
      this.#delete(sign);
      return;
    }
    const rest = { ...sign, takes };
    if (!this.#change(() => this.#signs.keep(rest))) return;
    if (sign.space === this.#space) this.#teach(rest);
    this.#announce(`Take ${place + 1} of ${shown(sign.gloss)} is deleted`);
    this.#at("list-title").focus();
  }

  #export() {
    save("livegloss-signs.json", "application/json", this.#signs.export());
  }

  async #import() {
    const [file] = this.#at("file").files;
    if (!file) return;
    const text = file.size <= MAX_FILE ? await file.text() : "";
    this.#at("file").value = ""; // so that the same file can be chosen again
    let signs = [];
    this.#tell("");
    if (!this.#change(() => (signs = this.#signs.import(text)))) return;
    this.#announce(signs.length === 1 ? "1 sign was read" : `${signs.length} signs were read`);
    for (const sign of signs) if (sign.space === this.#space) await this.#teach(sign);
  }

  #list() {
    const signs = this.#signs.all;
    const here = this.#space === null ? signs : this.#signs.of(this.#space);
    const restFirst = this.#card?.glosses.length === 0 && !here.some(({ gloss }) => gloss === IDLE);
    this.#at("rest").hidden = !restFirst || this.#run !== null;
    this.#at("form").hidden = restFirst || this.#run !== null;
    this.#at("none").hidden = signs.length > 0;
    this.#at("export").hidden = signs.length === 0;
    this.#at("list").replaceChildren(...signs.map((sign) => this.#row(sign, here)));
    this.#root.dispatchEvent(new CustomEvent("taught", {
      bubbles: true,
      detail: here.map(({ gloss }) => gloss).filter((gloss) => gloss !== IDLE),
    }));
  }

  #row(sign, here) {
    const row = element("li");
    row.dataset.gloss = sign.gloss;
    const name = element("span", "gloss", shown(sign.gloss));
    const facts = element("span", "facts-line", `${counted(sign.takes.length)} · ${sign.date}`);
    const useful = here.includes(sign);
    const more = element("button", "plain", sign.gloss === IDLE ? "Record again" : "Add takes");
    more.type = "button";
    more.hidden = !useful;
    more.addEventListener("click", () => (sign.gloss === IDLE ? this.#again(sign) : this.#record(sign.gloss)));
    const remove = element("button", "plain", "Delete");
    remove.type = "button";
    remove.addEventListener("click", () => this.#delete(sign));
    more.setAttribute("aria-label", `${more.textContent}: ${shown(sign.gloss)}`);
    remove.setAttribute("aria-label", `Delete ${shown(sign.gloss)}`);
    row.append(name, facts, more, remove);
    if (!useful) row.append(element("p", "note", "Taught to another model: this one cannot use it."));
    const twin = useful && lookalike(sign, here);
    if (twin) row.append(element("p", "note", `Looks much like ${shown(twin.gloss)}: they may be mixed up.`));
    for (const place of unlike(sign.takes)) {
      const note = element("p", "note", `Take ${place + 1} looks unlike the others. `);
      const drop = element("button", "plain", "Delete this take");
      drop.type = "button";
      drop.addEventListener("click", () => this.#deleteTake(sign, place));
      note.append(drop);
      row.append(note);
    }
    return row;
  }

  #again(sign) {
    this.#delete(sign);
    this.#record(IDLE);
  }
}
