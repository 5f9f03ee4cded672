// The transcript: signs with their times, newest first. A sign that comes again is revised in place.

import { download } from "./download.js";
import { element, percent } from "./elements.js";

const LONGEST = 500; // rows kept; the oldest leave
const LATELY = 6; // signs in the line that stands beside the other panels
const WORTH_NAMING = 0.03; // an alternative less likely than this is none

export class Transcript {
  #list;
  #empty;
  #announcer;
  #fault;
  #lately;
  #actions;
  #rows = new Map(); // "session/id" -> row
  #session = "";

  /**
   * `cleared()` is called when the person has emptied it; the rest are elements. `lately` shows the
   * newest signs where the transcript itself is out of sight.
   */
  constructor({ list, empty, fault, lately, copy, save, clear, announcer, cleared }) {
    this.#list = list;
    this.#empty = empty;
    this.#announcer = announcer;
    this.#fault = fault;
    this.#lately = lately;
    this.#actions = [copy, save, clear];
    copy.addEventListener("click", () => this.#copy());
    save.addEventListener("change", () => {
      if (save.value) download(this.signs, save.value);
      save.value = "";
    });
    clear.addEventListener("click", () => {
      this.#clear();
      cleared();
    });
  }

  /** Ids count from the start in each session: those to come belong to this one. */
  begin(session) {
    this.settle();
    this.#session = session;
  }

  /** Signs that were open when the connection ended will not be revised any more. */
  settle() {
    for (const row of this.#rows.values()) row.dataset.final = "true";
  }

  show(sign) {
    const key = `${this.#session}/${sign.id}`;
    let row = this.#rows.get(key);
    if (!row) {
      row = this.#add(sign.id);
      this.#rows.set(key, row);
    }
    row.dataset.gloss = sign.gloss;
    row.dataset.final = String(sign.final);
    row.dataset.p = sign.p;
    row.dataset.start = sign.start_s;
    row.dataset.length = Math.max(0, sign.end_s - sign.start_s).toFixed(3);
    row.title = `${sign.start_s.toFixed(1)}–${sign.end_s.toFixed(1)} s of the video`;
    row.querySelector(".gloss").textContent = sign.gloss;
    row.querySelector(".p").textContent = percent(sign.p);
    const others = sign.alternatives.filter(({ p }) => p >= WORTH_NAMING).slice(0, 2);
    row.querySelector(".others").textContent = others.length
      ? `or ${others.map(({ gloss }) => gloss).join(", ")}`
      : "";
    this.#showLately();
    if (sign.final) this.#announcer.textContent = `${sign.gloss}, ${percent(sign.p)}`;
  }

  /**
   * Oldest first: {gloss, p, start_s, end_s, at, line}; seconds from the first one, `at` ISO 8601.
   * Within a session by the video's own time; sessions are joined by when their first sign came.
   */
  get signs() {
    const rows = [...this.#list.children].reverse();
    const began = new Map(); // session -> when its video began, s since 1970
    let first = null;
    return rows.map((row) => {
      const time = row.querySelector("time");
      const { gloss, p, session, length } = row.dataset;
      if (!began.has(session)) began.set(session, Date.parse(time.dateTime) / 1000 - Number(row.dataset.start));
      first ??= began.get(session) + Number(row.dataset.start);
      const start = Number((began.get(session) + Number(row.dataset.start) - first).toFixed(3));
      return {
        gloss,
        p: Number(p),
        start_s: start,
        end_s: start + Number(length),
        at: time.dateTime,
        line: `${time.textContent}  ${gloss}  ${percent(Number(p))}`,
      };
    });
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.signs.map(({ line }) => line).join("\n"));
      this.#fault.textContent = "";
      this.#announcer.textContent = "Transcript copied";
    } catch {
      this.#fault.textContent = "The browser did not allow copying. Select the text and copy it yourself.";
    }
  }

  #clear() {
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#fault.textContent = this.#announcer.textContent = this.#lately.textContent = "";
    this.#fill(false);
  }

  #showLately() {
    const newest = [...this.#list.children].slice(0, LATELY);
    this.#lately.textContent = newest.map(({ dataset }) => dataset.gloss).join(" · ");
  }

  #fill(full) {
    this.#empty.hidden = full;
    for (const action of this.#actions) action.hidden = !full;
  }

  #add(id) {
    const row = element("li");
    row.dataset.id = id;
    row.dataset.session = this.#session;
    const time = element("time");
    const now = new Date();
    time.dateTime = now.toISOString();
    time.textContent = now.toLocaleTimeString([], { hourCycle: "h23" });
    row.append(time, ...["gloss", "others", "p"].map((name) => element("span", name)));
    this.#list.prepend(row);
    this.#fill(true);
    if (this.#list.children.length > LONGEST) {
      const last = this.#list.lastElementChild;
      this.#rows.delete(`${last.dataset.session}/${last.dataset.id}`);
      last.remove();
    }
    return row;
  }
}
