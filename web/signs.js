// All the signs that a person taught, wherever they are kept: in this browser, or on the server
// where it offers that. What the server does not take waits in the browser until it does.

import { BrowserStore } from "./browser_store.js";
import { ConnectionError } from "./connection.js";
import { ServerStore } from "./server_store.js";
import { IDLE, joined, NotKept, parse, shown, without, written } from "./sign.js";

const today = () => new Date().toISOString().slice(0, 10);

/**
 * Signs are `{gloss, space, takes, date, place}`; `place` is "server", "waiting" (for the server), or
 * anything else for this browser. What changes them throws NotKept, after keeping what can be kept.
 */
export class TaughtSigns {
  #token;
  #browser;
  #server = null;
  #read = false; // was the server's folder seen?
  #most = 8; // takes of a sign

  space = null; // the model's: signs of another one are kept, but of no use now

  /** `changed()` is called when another page of this browser changed something. */
  constructor({ token, changed }) {
    this.#token = token;
    this.#browser = new BrowserStore(changed);
  }

  /** Of the model's card: `{space, store, takes}`. */
  model({ space, store, takes }) {
    if (space !== this.space || store !== (this.#server !== null)) {
      this.#server = store ? new ServerStore(this.#token, space) : null;
      this.#read = false;
    }
    this.space = space;
    this.#most = takes;
  }

  get all() {
    const here = this.#browser.signs;
    const waits = new Set(here.filter((sign) => this.#waits(sign)).map(({ gloss }) => gloss));
    const there = this.#server?.signs.filter(({ gloss }) => !waits.has(gloss)) ?? [];
    return [...there, ...here];
  }

  /** Those that this model can use, one of a name. */
  get usable() {
    const first = new Map();
    const here = this.all.filter(({ space }) => this.space === null || space === this.space);
    for (const sign of here) if (!first.has(sign.gloss)) first.set(sign.gloss, sign);
    return [...first.values()];
  }

  /** Signs of this browser for which the person has not decided whether they go to the server. */
  get undecided() {
    if (!this.#read) return [];
    return this.#browser.signs.filter(({ space, place }) => space === this.space && place === undefined);
  }

  /** Where a new sign is kept, to follow "a row of numbers". */
  get where() {
    if (this.#server) return "stored on this server for everyone who has its token";
    return this.#browser.stored ? "stored in this browser" : "gone when this page is closed, for this browser does not store it";
  }

  find(gloss) {
    return this.usable.find((sign) => sign.gloss === gloss);
  }

  /** Sees what the server has, and hands it what waits. False where the server keeps no signs. */
  async refresh() {
    if (!this.#server) return false;
    try {
      await this.#server.read();
    } catch (error) {
      throw new NotKept(`The signs on the server could not be read. ${error.message}`);
    }
    this.#read = true;
    await this.#send(this.#browser.signs.filter((sign) => this.#waits(sign)));
    return true;
  }

  /** Adds takes to a sign, or begins it with them; `anew`: they stand in for its old ones. */
  async keep({ gloss, space, takes, anew }) {
    const change = (old) => (anew ? takes : [...old, ...takes].slice(-this.#most));
    const known = this.all.find((sign) => sign.gloss === gloss && sign.space === space);
    const here = { gloss, space, takes: change(known?.takes ?? []), date: today(), place: known?.place };
    const stays = known && known.place !== "server" && known.place !== "waiting";
    if (!this.#server || space !== this.space || stays) return this.#browser.put([here]);
    const waited = known?.place === "waiting" ? known.takes : [];
    try {
      await this.#server.change(gloss, (old) => change(joined(old, waited)));
    } catch (error) {
      throw new NotKept(this.#wait([here], error));
    }
    if (known?.place === "waiting") this.#browser.drop(gloss, space);
  }

  async drop(sign) {
    if (sign.place !== "server") this.#browser.drop(sign.gloss, sign.space);
    if (sign.place === "server" || this.#waits(sign)) await this.#change(sign.gloss, () => [], "deleted");
  }

  /** Deletes the take at `place`, and with its last one the sign. */
  async dropTake(sign, place) {
    const takes = sign.takes.filter((_, i) => i !== place);
    if (sign.place === "server") await this.#change(sign.gloss, (now) => without(now, [sign.takes[place]]), "changed");
    else if (takes.length) this.#browser.put([{ ...sign, takes }]);
    else await this.drop(sign);
  }

  /** The new name is kept before the old one goes. */
  async rename(sign, name) {
    if (sign.place !== "server") return this.#browser.rename(sign, name);
    const begin = (old) => {
      if (old.length) throw new NotKept(`The server has a sign named ${name} already.`);
      return sign.takes;
    };
    await this.#change(name, begin, "renamed", sign.gloss);
    // Takes that another page added to the old name meanwhile stay under it.
    await this.#change(sign.gloss, (now) => without(now, sign.takes), `deleted; it is kept as ${name} too`);
  }

  /** Adds the signs of a file, and takes to those that are here. Returns how many signs. */
  async import(text) {
    let signs;
    try {
      signs = parse(text);
    } catch {
      throw new NotKept("This is no file of taught signs. Nothing was changed.");
    }
    const kept = this.all;
    const merged = signs.map((sign) => {
      const old = kept.find(({ gloss, space }) => gloss === sign.gloss && space === sign.space);
      return { ...sign, place: old?.place, takes: this.#join(old?.takes ?? [], sign) };
    });
    const goes = ({ space, place }) => this.#server && space === this.space && place !== "stays";
    this.#browser.put(merged.filter((sign) => !goes(sign)));
    await this.#send(merged.filter(goes));
    return signs.length;
  }

  export() {
    return written(this.all.map(({ place, ...sign }) => sign));
  }

  /** Moves what is undecided to the server. */
  async move() {
    await this.#send(this.undecided);
  }

  /** Leaves what is undecided here for good. */
  stay() {
    this.#browser.put(this.undecided.map((sign) => ({ ...sign, place: "stays" })));
  }

  #waits({ space, place }) {
    return this.#server !== null && space === this.space && place === "waiting";
  }

  // Rest is always recorded whole; of other signs takes are gathered.
  #join(old, { gloss, takes }) {
    return gloss === IDLE ? takes : joined(old, takes).slice(-this.#most);
  }

  async #change(gloss, change, what, named = gloss) {
    try {
      await this.#server.change(gloss, change);
    } catch (error) {
      throw new NotKept(`On the server ${shown(named)} could not be ${what}. ${error.message}`);
    }
  }

  // Hands signs to the server, as far as it takes them.
  async #send(signs) {
    const faults = [];
    for (const [i, sign] of signs.entries()) {
      try {
        await this.#server.change(sign.gloss, (old) => this.#join(old, sign));
        if (sign.place !== "server") this.#browser.drop(sign.gloss, sign.space);
      } catch (error) {
        const gone = error instanceof ConnectionError; // then it would not take the others either
        faults.push(this.#wait(gone ? signs.slice(i) : [sign], error));
        if (gone) break;
      }
    }
    if (faults.length) throw new NotKept(faults[0]);
  }

  // Keeps here what the server did not take, beside what is here. Returns the message for the person.
  #wait(signs, error) {
    const text = `The server did not take ${signs.map(({ gloss }) => shown(gloss)).join(", ")}. ${error.message}`;
    try {
      const here = this.#browser.signs;
      const old = (sign) => here.find(({ gloss, space }) => gloss === sign.gloss && space === sign.space);
      this.#browser.put(signs.map((sign) => ({ ...sign, takes: this.#join(old(sign)?.takes ?? [], sign), place: "waiting" })));
    } catch (full) {
      return `${text} ${full.message}`;
    }
    return `${text} This browser keeps ${signs.length === 1 ? "it" : "them"} until the server does.`;
  }
}
