// Practice: the page asks for a sign and tells whether it was recognised, hands-free.

import { percent } from "/static/certainty.js";
import { element } from "/static/element.js";
import { Tally } from "/static/tally.js";

const TRY_MS = 8_000;
const PAUSE_MS = 2_500; // to read the answer from where one signs
const TRIES = 2; // of one prompt, then it goes on
const CLOSE = 5; // a guess up to this place is worth telling

const place = (index) => ["1st", "2nd", "3rd"][index] ?? `${index + 1}th`;

export class PracticePanel {
  #root;
  #announce;
  #start;
  #tally = new Tally();
  #known = []; // the model's
  #taught = [];
  #gloss = ""; // asked for now; "" when nothing is
  #live = false;
  #listening = false;
  #tries = 0;
  #seen = -1; // ids up to this one began before the prompt
  #newest = -1;
  #read = null; // the sign read instead
  #best = Infinity; // the asked gloss's best place among the guesses
  #timer = 0;

  constructor({ root, announce, start }) {
    this.#root = root;
    this.#announce = announce;
    this.#start = start;
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

  model(card) {
    this.#known = card.glosses;
    this.#choices();
  }

  /** Glosses that were taught here, which can be asked for too. */
  taught(glosses) {
    this.#taught = glosses;
    this.#choices();
  }

  hello() {
    this.#live = true;
    this.#seen = this.#newest = -1;
    if (this.#gloss) this.#listen();
  }

  state(name) {
    if (name === "live") return;
    this.#live = this.#listening = false;
    clearTimeout(this.#timer);
    if (name === "off" || name === "failed") this.#stop();
    else if (this.#gloss) this.#say("waiting", "Waiting for the camera and the server");
  }

  prediction({ top }) {
    if (!this.#listening) return;
    const index = top.findIndex(({ gloss }) => gloss === this.#gloss);
    if (index >= 0 && index < CLOSE) this.#best = Math.min(this.#best, index);
  }

  sign(sign) {
    this.#newest = Math.max(this.#newest, sign.id);
    if (!this.#listening || sign.id <= this.#seen) return;
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
    if (this.#live) {
      this.#listen();
      return;
    }
    this.#say("waiting", "Waiting for the camera and the server");
    this.#start();
  }

  #at(name) {
    return this.#root.querySelector(`#practice-${name}`);
  }

  #say(state, text, help = "") {
    this.#at("now").dataset.state = state;
    this.#at("answer").textContent = text;
    this.#at("help").textContent = help;
  }

  #listen() {
    this.#tries += 1;
    this.#seen = this.#newest;
    this.#read = null;
    this.#best = Infinity;
    this.#listening = true;
    this.#say("asking", this.#tries === 1 ? "Sign it now" : "Sign it once more");
    this.#later(() => this.#done(false), TRY_MS);
  }

  #done(recognised) {
    this.#listening = false;
    this.#tally.add(this.#gloss, recognised);
    this.#results();
    const instead = this.#read ? `I read ${this.#read.gloss} (${percent(this.#read.p)}).` : "I read no sign.";
    const close = Number.isFinite(this.#best) ? `Close: it was the ${place(this.#best)} guess at best.` : "";
    const text = recognised ? "Recognised" : "Not recognised";
    this.#say(recognised ? "recognised" : "missed", text, recognised ? "" : `${instead} ${close}`.trim());
    this.#announce(recognised ? text : `${text}. ${instead}`);
    const again = !recognised && this.#tries < TRIES;
    this.#later(() => (again ? this.#listen() : this.ask()), PAUSE_MS);
  }

  #later(act, ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, ms);
  }

  #stop() {
    clearTimeout(this.#timer);
    const held = this.#at("going").contains(document.activeElement);
    this.#gloss = "";
    this.#listening = false;
    this.#at("word").textContent = "";
    this.#say("off", "");
    this.#at("going").hidden = true;
    this.#at("begin").hidden = false;
    if (held) this.#at("begin").focus();
  }

  /** One of those chosen, the likelier the more seldom it was recognised; not the same twice. */
  #choose() {
    const one = this.#at("choice").value;
    if (one) return one;
    const all = this.#glosses();
    const others = all.length > 1 ? all.filter((gloss) => gloss !== this.#gloss) : all;
    let left = Math.random() * others.reduce((sum, gloss) => sum + this.#tally.need(gloss), 0);
    return others.find((gloss) => (left -= this.#tally.need(gloss)) <= 0) ?? others[0];
  }

  #glosses() {
    return [...new Set([...this.#known, ...this.#taught])].sort((a, b) => a.localeCompare(b));
  }

  #choices() {
    const choice = this.#at("choice");
    const { value } = choice;
    const glosses = this.#glosses();
    choice.replaceChildren(new Option("All signs", ""), ...glosses.map((gloss) => new Option(gloss, gloss)));
    choice.value = glosses.includes(value) ? value : "";
    this.#at("begin").disabled = glosses.length === 0;
    this.#at("none").hidden = glosses.length > 0;
  }

  #results() {
    const rows = this.#tally.rows;
    this.#at("results").replaceChildren(...rows.map(row));
    this.#at("empty").hidden = rows.length > 0;
    this.#at("forget").hidden = rows.length === 0;
  }
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
