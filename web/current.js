// The current sign, in large letters, and the model's candidates while the hands move.

import { element, inWords, percent, RESTING } from "./elements.js";

const FRESH_MS = 3_000; // after this the sign stays, but in a soft colour
const CALM_S = 0.15; // time constant of the bars: predictions come ten times a second, eyes do not

export class CurrentSign {
  #box;
  #word;
  #sure;
  #timer = 0;

  constructor({ box, word, sure }) {
    this.#box = box;
    this.#word = word;
    this.#sure = sure;
  }

  show(sign) {
    Object.assign(this.#box.dataset, { gloss: sign.gloss, final: sign.final, past: false });
    this.#word.textContent = sign.gloss;
    this.#box.style.setProperty("--letters", Math.max(6, sign.gloss.length));
    this.#sure.textContent = `${percent(sign.p)} · ${inWords(sign.p)}`;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.#box.dataset.past = "true"), FRESH_MS);
  }

  /** No sign: `text` says what to do or wait for. */
  rest(text) {
    clearTimeout(this.#timer);
    Object.assign(this.#box.dataset, { gloss: "", final: "", past: false });
    this.#word.textContent = "";
    this.#sure.textContent = text;
  }

  get empty() {
    return !this.#box.dataset.gloss;
  }
}

export class Candidates {
  #list;
  #idle;
  #shown = new Map(); // gloss -> smoothed probability
  #atMs = 0;
  #rows = 5;

  constructor({ list, idle }) {
    this.#list = list;
    this.#idle = idle;
  }

  /** How many are shown at the most. */
  set rows(rows) {
    this.#rows = rows;
    this.#list.style.setProperty("--rows", rows);
  }

  show({ top, idle }) {
    const nowMs = performance.now();
    const step = 1 - Math.exp(-(nowMs - this.#atMs) / 1000 / CALM_S);
    this.#atMs = nowMs;
    const newest = new Map(top.map(({ gloss, p }) => [gloss, p]));
    for (const gloss of new Set([...this.#shown.keys(), ...newest.keys()])) {
      const old = this.#shown.get(gloss) ?? 0;
      const now = old + step * ((newest.get(gloss) ?? 0) - old);
      if (now < 0.001 && !newest.has(gloss)) this.#shown.delete(gloss);
      else this.#shown.set(gloss, now);
    }
    this.#draw([...this.#shown].sort((a, b) => b[1] - a[1]).slice(0, this.#rows));
    const resting = idle >= RESTING;
    this.#list.dataset.resting = String(resting);
    this.#idle.textContent = resting ? `No known sign · ${percent(idle)}` : "";
  }

  clear() {
    this.#shown.clear();
    this.#draw([]);
    this.#list.dataset.resting = "true";
    this.#idle.textContent = "";
  }

  #draw(best) {
    while (this.#list.children.length > best.length) this.#list.lastElementChild.remove();
    while (this.#list.children.length < best.length) {
      const row = element("li");
      row.append(...["gloss", "track", "p"].map((name) => element("span", name)));
      this.#list.append(row);
    }
    best.forEach(([gloss, p], rank) => {
      const row = this.#list.children[rank];
      row.dataset.gloss = gloss;
      row.dataset.p = p.toFixed(3);
      row.style.setProperty("--p", p.toFixed(3));
      row.querySelector(".gloss").textContent = gloss;
      row.querySelector(".p").textContent = percent(p);
    });
  }
}
