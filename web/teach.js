// The Teach panel: a sign is named, recorded, kept, and tried.

import { write } from "./elements.js";
import { Stills } from "./preview.js";
import { FEWEST, Recording } from "./recording.js";
import { Shelf } from "./shelf.js";
import { IDLE, named, nameFault, shown } from "./sign.js";
import { counted } from "./taught.js";

/**
 * `request(suffix, options)` reaches the session's own address, `token` is the server's, `preview`
 * what stills are made of; the rest is as for every panel.
 */
export class TeachPanel {
  #root;
  #announce;
  #start;
  #shelf;
  #recording;
  #card = null;
  #live = false;
  #windowS = 2;
  #waiting = null; // {gloss, anew} to record once the camera is live
  #anew = false; // the takes being recorded stand in for the old ones
  #trying = ""; // the gloss that the person was invited to try

  constructor({ root, send, request, token, preview, announce, start, figures }) {
    this.#root = root;
    this.#announce = announce;
    this.#start = start;
    const stills = new Stills(preview);
    const showFault = (text) => this.#showFault(text);
    this.#recording = new Recording({ root, send, announce, showFault, stills, figures, done: (run) => this.#recorded(run) });
    root.addEventListener("taught", () => this.#offer());
    this.#shelf = new Shelf({
      root, token, request, announce, stills, figures, showFault,
      more: ({ gloss }) => this.#record(gloss, gloss === IDLE),
      nameFault: (name) => this.#nameFault(name),
      renamed: (old, now) => old === this.#trying && this.#invite(now),
      dropped: (gloss) => gloss === this.#trying && this.#invite(""),
    });
    this.#at("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#at("rest-record").addEventListener("click", () => this.#record(IDLE));
  }

  /** Fills in the name of a sign to record. */
  name(name) {
    this.#at("name").value = name;
    this.#at("name").focus();
  }

  model(card) {
    this.#card = card;
    this.#shelf.model(card.signs);
  }

  hello({ model }) {
    this.#live = true;
    this.#windowS = model.window_s;
    if (model.space !== this.#card.signs.space) this.#shelf.model({ ...this.#card.signs, space: model.space });
    this.#shelf.begin();
    if (this.#waiting) this.#begin(this.#waiting);
    this.#waiting = null;
  }

  state(name) {
    if (name === "live") return;
    this.#live = false;
    this.#shelf.end();
    this.#recording.end("The connection ended. Press Record to go on.");
    if (name === "off" || name === "failed") this.#waiting = null;
  }

  take(message) {
    this.#recording.take(message);
  }

  error({ message }) {
    this.#recording.lost(message);
  }

  sign({ gloss }) {
    this.#shelf.mark(gloss);
    if (gloss !== this.#trying) return;
    this.#trying = "";
    this.#at("try").dataset.seen = "true";
    this.#at("try").textContent = `It recognised ${gloss}.`;
    this.#announce(`It recognised ${gloss}`);
  }

  #at(name) {
    return this.#root.querySelector(`#teach-${name}`);
  }

  #showFault(text) {
    write(this.#at("fault"), text);
  }

  #invite(gloss) {
    this.#trying = gloss;
    this.#at("try").dataset.seen = "false";
    this.#at("try").textContent = gloss && `Try it: sign ${gloss} now.`;
  }

  /** What can be recorded now: a model that was never trained needs rest before signs. */
  #offer() {
    const restFirst = this.#card?.glosses.length === 0 && !this.#shelf?.find(IDLE);
    this.#at("rest").hidden = !restFirst || this.#recording.going;
    this.#at("form").hidden = restFirst || this.#recording.going;
  }

  #submit() {
    const gloss = named(this.#at("name").value);
    const full = !this.#shelf.find(gloss) && this.#shelf.size >= (this.#card?.signs.max ?? 50);
    const fault = this.#nameFault(gloss) || (full ? "It knows as many taught signs as it can. Delete one first." : "");
    this.#at("name").setAttribute("aria-invalid", String(fault !== ""));
    this.#showFault(fault);
    if (fault) this.#at("name").focus();
    else this.#record(gloss);
  }

  #nameFault(gloss) {
    if (gloss.toLowerCase() === IDLE) return "This name is kept for standing still. Choose another one.";
    if (this.#card?.glosses.includes(gloss)) return "It knows a sign of this name already. Choose another one.";
    return nameFault(gloss);
  }

  #record(gloss, anew = false) {
    this.#showFault("");
    if (this.#live) {
      this.#begin({ gloss, anew });
      return;
    }
    this.#waiting = { gloss, anew };
    this.#announce("Starting the camera");
    this.#start();
  }

  #begin({ gloss, anew }) {
    const kept = this.#kept(gloss, anew);
    const most = this.#card.signs.takes;
    if (kept >= most) {
      this.#showFault(`${shown(gloss)} has ${counted(kept)}, the most that a sign can have. Delete it to record it anew.`);
      return;
    }
    this.#anew = anew;
    this.#invite("");
    this.#recording.begin({ gloss, kept, most, windowS: this.#windowS });
    this.#offer();
  }

  /** Takes that count beside the new ones. */
  #kept(gloss, anew) {
    return anew ? 0 : (this.#shelf.find(gloss)?.takes.length ?? 0);
  }

  /** The takes become the sign, or join it, if they are enough. */
  async #recorded({ gloss, takes, space, fault }) {
    const anew = this.#anew;
    this.#offer();
    this.#at("name").focus();
    this.#showFault(fault);
    if (space === undefined) return; // nothing new was recorded
    if (this.#kept(gloss, anew) + takes.length < FEWEST) {
      const few = `${counted(takes.length)} ${takes.length === 1 ? "is" : "are"} too few: it takes at least ${FEWEST}.`;
      this.#showFault(`${fault} ${few} Nothing was ${anew ? "changed" : "kept"}.`.trim());
      return;
    }
    this.#at("name").value = "";
    await this.#shelf.keep({ gloss, space, takes, anew, fault });
    if (gloss === IDLE || !this.#live || !this.#shelf.find(gloss)) return;
    this.#invite(gloss);
    this.#announce(`${gloss} is taught. Sign it now to try it.`);
  }
}
