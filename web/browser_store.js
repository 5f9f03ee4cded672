// Taught signs in this browser. `place` matters where the server keeps signs too:
// "waiting" to be taken by the server, or "stays" here; undefined while the person has not decided.

import { MAX_KEPT, NotKept, parse, written } from "./sign.js";

const KEY = "livegloss.signs.1";

/**
 * Bound: 200 signs. What changes is kept at once; where the browser refuses, it lasts as long as the
 * page, `stored` is false and NotKept is thrown. `changed()` is called when another page wrote.
 */
export class BrowserStore {
  #signs = [];
  #stored = true;

  constructor(changed) {
    this.#read();
    window.addEventListener("storage", ({ key }) => {
      if (key !== KEY && key !== null) return;
      this.#readAgain();
      changed();
    });
  }

  get signs() {
    return [...this.#signs];
  }

  get stored() {
    return this.#stored;
  }

  /** Keeps signs in the place of older ones of their names. */
  put(signs) {
    this.#readAgain();
    const key = ({ gloss, space }) => JSON.stringify([space, gloss]);
    const kept = new Map(this.#signs.map((sign) => [key(sign), sign]));
    for (const sign of signs) kept.set(key(sign), sign);
    if (kept.size > MAX_KEPT) throw new NotKept(`At most ${MAX_KEPT} signs can be kept in this browser. Delete some first.`);
    this.#write([...kept.values()]);
  }

  drop(gloss, space) {
    this.#readAgain();
    const left = this.#signs.filter((sign) => sign.gloss !== gloss || sign.space !== space);
    if (left.length < this.#signs.length) this.#write(left);
  }

  rename({ gloss, space }, name) {
    this.#readAgain();
    this.#write(
      this.#signs.map((sign) => (sign.gloss === gloss && sign.space === space ? { ...sign, gloss: name } : sign)),
    );
  }

  // Another page may have written since; but what could not be stored is only in memory.
  #readAgain() {
    if (this.#stored) this.#read();
  }

  #read() {
    let text;
    try {
      text = localStorage.getItem(KEY);
    } catch {
      this.#stored = false; // the person, or a policy, does not let pages store
      return;
    }
    try {
      this.#signs = parse(text);
    } catch {
      this.#signs = []; // nothing kept yet, or not ours
    }
  }

  #write(signs) {
    this.#signs = signs;
    try {
      localStorage.setItem(KEY, written(signs));
      this.#stored = true;
    } catch {
      this.#stored = false;
      const why = "This browser does not store it: it has no room, or is not allowed to.";
      throw new NotKept(`${why} What you taught is gone when this page is closed. Save it to a file.`);
    }
  }
}
