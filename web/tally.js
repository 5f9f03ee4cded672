// How often each sign was recognised when it was asked for: kept in this browser only.

const KEY = "livegloss.tally.1";
const MAX_GLOSSES = 500;
const LAST = 10; // attempts remembered one by one

const isEntry = (value) =>
  Array.isArray(value) && value.length === 3 && typeof value[0] === "string" && value[0].length <= 200 &&
  Number.isSafeInteger(value[1]) && value[1] > 0 && /^[01]{1,10}$/.test(value[2]);

/** Attempts by gloss. Bound: the 500 glosses asked last, the last ten attempts of each. */
export class Tally {
  #entries = new Map(); // gloss -> {asked, last: "0110…"}, the one asked last at the end

  constructor() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY));
      for (const [gloss, asked, last] of kept.filter(isEntry).slice(-MAX_GLOSSES)) {
        this.#entries.set(gloss, { asked, last });
      }
    } catch {
      // nothing kept yet, or not ours: begin anew
    }
  }

  add(gloss, recognised) {
    const { asked, last } = this.#entries.get(gloss) ?? { asked: 0, last: "" };
    this.#entries.delete(gloss);
    this.#entries.set(gloss, { asked: asked + 1, last: (last + (recognised ? "1" : "0")).slice(-LAST) });
    if (this.#entries.size > MAX_GLOSSES) this.#entries.delete(this.#entries.keys().next().value);
    try {
      const rows = [...this.#entries].map(([name, entry]) => [name, entry.asked, entry.last]);
      localStorage.setItem(KEY, JSON.stringify(rows));
    } catch {
      // no room in this browser: the results last as long as the page
    }
  }

  forget() {
    this.#entries.clear();
    try {
      localStorage.removeItem(KEY);
    } catch {
      // this browser keeps nothing for the page
    }
  }

  /** 0 (always recognised of late) to 1 (never); one half for what was never asked. */
  need(gloss) {
    const last = this.#entries.get(gloss)?.last ?? "";
    return (last.split("0").length - 1 + 1) / (last.length + 2);
  }

  /** `{gloss, asked, last}` each, the most in need first; `last` is a text of 0 and 1, oldest first. */
  get rows() {
    const rows = [...this.#entries].map(([gloss, entry]) => ({ gloss, ...entry }));
    return rows.sort((a, b) => this.need(b.gloss) - this.need(a.gloss) || a.gloss.localeCompare(b.gloss));
  }
}
