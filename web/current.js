// The big word of the Read panel, and the bars of what it could be.

import { element, inWords, percent, write } from "./elements.js";

const CALM_S = 0.15; // time constant of the bars: predictions come ten times a second, eyes do not

export class CurrentSign {
  #box;
  #word;
  #sure;

  constructor({ box, word, sure }) {
    this.#box = box;
    this.#word = word;
    this.#sure = sure;
  }

  /** `age`: how long ago it was, for a sign of the past. */
  show({ gloss, p, final }, age = "") {
    Object.assign(this.#box.dataset, { gloss, final, past: age !== "" });
    this.#box.style.setProperty("--letters", Math.max(6, gloss.length));
    write(this.#word, gloss);
    write(this.#sure, `${percent(p)} · ${inWords(p)}${age && ` · ${age} ago`}`);
  }

  /** No sign: `text` says what to do or wait for. */
  rest(text) {
    Object.assign(this.#box.dataset, { gloss: "", final: "", past: false });
    write(this.#word, "");
    write(this.#sure, text);
  }
}

export class Candidates {
  #list;
  #followed = new Map(); // gloss -> smoothed probability
  #atMs = 0;
  #rows = 5;

  constructor(list) {
    this.#list = list;
  }

  /** How many are shown at the most. */
  set rows(rows) {
    this.#rows = rows;
    this.#list.style.setProperty("--rows", rows);
  }

  /** Smooths a prediction in, shown or not. */
  follow({ top }) {
    const nowMs = performance.now();
    const step = 1 - Math.exp(-(nowMs - this.#atMs) / 1000 / CALM_S);
    this.#atMs = nowMs;
    const newest = new Map(top.map(({ gloss, p }) => [gloss, p]));
    for (const gloss of new Set([...this.#followed.keys(), ...newest.keys()])) {
      const old = this.#followed.get(gloss) ?? 0;
      const now = old + step * ((newest.get(gloss) ?? 0) - old);
      if (now < 0.001 && !newest.has(gloss)) this.#followed.delete(gloss);
      else this.#followed.set(gloss, now);
    }
  }

  forget() {
    this.#followed.clear();
  }

  /** What the predictions say of late, the likeliest first: {gloss, p} each. */
  get followed() {
    return [...this.#followed].map(([gloss, p]) => ({ gloss, p })).sort((a, b) => b.p - a.p);
  }

  /** Shows the first of `all`, {gloss, p} each; an empty list shows none. */
  show(all) {
    const best = all.slice(0, this.#rows);
    this.#list.dataset.resting = String(best.length === 0);
    while (this.#list.children.length > best.length) this.#list.lastElementChild.remove();
    while (this.#list.children.length < best.length) {
      const row = element("li");
      row.append(...["gloss", "track", "p"].map((name) => element("span", name)));
      this.#list.append(row);
    }
    best.forEach(({ gloss, p }, rank) => {
      const row = this.#list.children[rank];
      row.dataset.gloss = gloss;
      row.dataset.p = p.toFixed(3);
      row.style.setProperty("--p", p.toFixed(3));
      row.querySelector(".gloss").textContent = gloss;
      row.querySelector(".p").textContent = percent(p);
    });
  }
}
