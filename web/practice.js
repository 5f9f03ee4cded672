// Practice: the page asks for a sign and shows whether it was recognised, hands-free.

import { element, percent } from "./elements.js";
import { inTries, SUREST, themeList, WEAKEST } from "./known_signs.js";

const TRY_MS = 8_000;
const PAUSE_MS = 2_500; // to read the result from where one signs
const COMPARE_MS = 5_000; // to compare one's own figure with the sign's, where they are shown
const TRIES = 2; // of one prompt, then it goes on
const CLOSE = 5; // a guess up to this place is worth showing
const ALL = "";
const TALLY_KEY = "livegloss.tally.1";
const MAX_GLOSSES = 500;
const LAST = 10; // attempts remembered one by one

const place = (index) => ["1st", "2nd", "3rd"][index] ?? `${index + 1}th`;

export class PracticePanel {
  #root;
  #announce;
  #start;
  #figures;
  #tally = new Tally();
  #signs = null;
  #pools = new Map(); // value of the choice -> the glosses of which one is asked for
  #gloss = ""; // asked for now; "" when nothing is
  #live = false;
  #watching = false;
  #tries = 0;
  #seen = -1; // ids up to this one began before the prompt
  #newest = -1;
  #read = null; // the sign read instead
  #best = Infinity; // the asked gloss's best place among the guesses
  #timer = 0;

  untried = this.#tally.rows.length === 0; // nobody practised in this browser before this visit

  constructor({ root, announce, start, figures }) {
    this.#root = root;
    this.#announce = announce;
    this.#start = start;
    this.#figures = figures;
    this.#at("begin").addEventListener("click", () => this.ask());
    this.#at("next").addEventListener("click", () => this.ask());
    this.#at("stop").addEventListener("click", () => this.#stop());
    this.#at("forget").addEventListener("click", () => {
      this.#tally.forget();
      this.#results();
      this.#announce("Your results are forgotten");
      this.#at("results-title").focus();
    });
    this.#results();
  }

  /** What can be asked for; at the first visit, one of the surest unless something is chosen. */
  show(signs) {
    const choice = this.#at("choice");
    const before = this.#signs ? choice.value : this.untried ? SUREST : ALL;
    const { glosses, groups, few, surest, weak } = signs;
    this.#signs = signs;
    this.#pools = new Map();
    const pool = (value, text, all) => {
      this.#pools.set(value, all);
      return new Option(text, value);
    };
    choice.replaceChildren(pool(ALL, "All signs", glosses));
    if (surest.length) choice.append(pool(SUREST, "The surest signs", surest));
    if (weak.length) choice.append(pool(WEAKEST, "The weak signs", weak));
    for (const { name, glosses: some } of groups) {
      const options = some.map((gloss) => pool(gloss, gloss, [gloss]));
      if (few) choice.append(...options);
      else choice.append(themed(name, pool(themeList(name), `${name}: any of ${some.length}`, some), options));
    }
    choice.value = this.#pools.has(before) ? before : ALL;
    this.#at("begin").disabled = glosses.length === 0;
    this.#at("none").hidden = glosses.length > 0;
  }

  hello() {
    this.#live = true;
    this.#seen = this.#newest = -1;
    if (this.#gloss) this.#watch();
  }

  state(name) {
    if (name === "live") return;
    this.#live = this.#watching = false;
    clearTimeout(this.#timer);
    if (name === "off" || name === "failed") this.#stop();
    else if (this.#gloss) this.#showPrompt("waiting", "Waiting for the camera and the server");
  }

  prediction({ top }) {
    if (!this.#watching) return;
    const index = top.findIndex(({ gloss }) => gloss === this.#gloss);
    if (index >= 0 && index < CLOSE) this.#best = Math.min(this.#best, index);
  }

  sign(sign) {
    this.#newest = Math.max(this.#newest, sign.id);
    if (!this.#watching || sign.id <= this.#seen) return;
    if (sign.gloss === this.#gloss) this.#done(true);
    else this.#read = sign;
  }

  /** Asks for `gloss`, or for one that was recognised seldom. */
  ask(gloss = this.#choose()) {
    clearTimeout(this.#timer);
    if (!gloss) return;
    this.#gloss = gloss;
    this.#tries = 0;
    const word = this.#at("word");
    word.textContent = gloss;
    word.style.setProperty("--letters", Math.max(4, gloss.length));
    this.#at("begin").hidden = true;
    this.#at("going").hidden = false;
    this.#announce(`Sign ${gloss}`);
    this.#draw("asked", gloss);
    if (this.#live) {
      this.#watch();
      return;
    }
    this.#showPrompt("waiting", "Waiting for the camera and the server");
    this.#start();
  }

  /** Asks for the signs of a list: see known_signs.js. */
  practise(list) {
    this.#at("choice").value = list;
    this.ask();
  }

  #at(name) {
    return this.#root.querySelector(`#practice-${name}`);
  }

  #showPrompt(state, text, help = "") {
    this.#at("now").dataset.state = state;
    this.#at("answer").textContent = text;
    this.#at("help").textContent = help;
  }

  #watch() {
    this.#tries += 1;
    this.#seen = this.#newest;
    this.#read = null;
    this.#best = Infinity;
    this.#watching = true;
    this.#draw("began", this.#figures.nowS);
    this.#showPrompt("asking", this.#tries === 1 ? "Sign it now" : "Sign it once more", this.#weakness);
    this.#later(() => this.#done(false), TRY_MS);
  }

  #done(recognised) {
    this.#watching = false;
    this.#tally.add(this.#gloss, recognised);
    this.#results();
    const instead = this.#read ? `I read ${this.#read.gloss} (${percent(this.#read.p)}).` : "I read no sign.";
    const close = Number.isFinite(this.#best) ? `Close: it was the ${place(this.#best)} guess at best.` : "";
    const text = recognised ? "Recognised" : "Not recognised";
    this.#showPrompt(recognised ? "recognised" : "missed", text, recognised ? "" : [instead, close, this.#weakness].filter(Boolean).join(" "));
    this.#announce(recognised ? text : `${text}. ${instead}`);
    const again = !recognised && this.#tries < TRIES;
    this.#draw("done");
    const compared = this.#figures.shown && this.#figures.has(this.#gloss);
    this.#later(() => (again ? this.#watch() : this.ask()), compared ? COMPARE_MS : PAUSE_MS);
  }

  /** How it is signed, and how the person did: drawn once the code for it is here. */
  #draw(act, ...about) {
    this.#figures.practice(this.#root).then((drawn) => drawn[act](...about), () => {});
  }

  get #weakness() {
    const weak = this.#signs.isWeak(this.#gloss);
    return weak ? `A weak sign: ${inTries(this.#signs.score(this.#gloss))}.` : "";
  }

  #later(act, ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, ms);
  }

  #stop() {
    clearTimeout(this.#timer);
    const held = this.#at("going").contains(document.activeElement);
    if (this.#gloss) this.#draw("asked", "");
    this.#gloss = "";
    this.#watching = false;
    this.#at("word").textContent = "";
    this.#showPrompt("off", "");
    this.#at("going").hidden = true;
    this.#at("begin").hidden = false;
    if (held) this.#at("begin").focus();
  }

  /** One of those chosen, the likelier the more seldom it was recognised; not the same twice. */
  #choose() {
    const all = this.#pools.get(this.#at("choice").value) ?? [];
    const others = all.length > 1 ? all.filter((gloss) => gloss !== this.#gloss) : all;
    let left = Math.random() * others.reduce((sum, gloss) => sum + this.#tally.need(gloss), 0);
    return others.find((gloss) => (left -= this.#tally.need(gloss)) <= 0) ?? others[0];
  }

  #results() {
    const rows = this.#tally.rows;
    this.#at("results").replaceChildren(...rows.map(row));
    this.#at("empty").hidden = rows.length > 0;
    this.#at("forget").hidden = rows.length === 0;
  }
}

function themed(name, ...options) {
  const group = element("optgroup");
  group.label = name;
  group.append(...options.flat());
  return group;
}

function row({ gloss, last }) {
  const item = element("li");
  item.dataset.gloss = gloss;
  const recognised = last.split("1").length - 1;
  const dots = element("span", "dots");
  dots.setAttribute("aria-hidden", "true");
  for (const one of last) {
    const dot = element("i");
    dot.dataset.recognised = String(one === "1");
    dots.append(dot);
  }
  item.append(element("span", "gloss", gloss), dots, element("span", "score", `${recognised} of ${last.length}`));
  return item;
}

const isEntry = (value) =>
  Array.isArray(value) && value.length === 3 && typeof value[0] === "string" && value[0].length <= 200 &&
  Number.isSafeInteger(value[1]) && value[1] > 0 && /^[01]{1,10}$/.test(value[2]);

/** How often each sign was recognised when it was asked for, kept in this browser only. Bound: the 500 glosses asked last, the last ten attempts of each. */
class Tally {
  #entries = new Map(); // gloss -> {asked, last: "0110…"}, the one asked last at the end

  constructor() {
    try {
      const kept = JSON.parse(localStorage.getItem(TALLY_KEY));
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
      localStorage.setItem(TALLY_KEY, JSON.stringify(rows));
    } catch {
      // this browser has no space left: the results last as long as the page
    }
  }

  forget() {
    this.#entries.clear();
    try {
      localStorage.removeItem(TALLY_KEY);
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
