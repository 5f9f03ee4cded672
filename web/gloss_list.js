// The list of the signs that can be recognised: searched, in themes, the surest first.

import { button, element } from "./elements.js";
import { inTries, SUREST, themeList, WEAKEST } from "./known_signs.js";

const STARTERS = 5;

export class GlossList {
  #root;
  #starters;
  #ask;
  #practise;
  #figures;
  #signs = null;
  #sought = "";
  #opened = new Set(); // themes that were open before the search

  /**
   * `ask(gloss)`, `practise(list)` and `teach(name)` are called for a sign or a list of signs to
   * practise, or a sign to teach; `starters` are shown to who has not signed yet; `figures` play
   * how a sign is signed.
   */
  constructor({ root, starters, ask, practise, teach, figures }) {
    this.#root = root;
    this.#starters = starters;
    this.#ask = ask;
    this.#practise = practise;
    this.#at("surest-practise").addEventListener("click", () => practise(SUREST));
    this.#at("weak-practise").addEventListener("click", () => practise(WEAKEST));
    this.#figures = figures;
    this.#at("search").addEventListener("input", () => this.#filter());
    this.#at("search-teach").addEventListener("click", () => teach(this.#sought));
  }

  /** `first`: this person has not signed yet. */
  show(signs, first) {
    this.#signs = signs;
    const { glosses, groups, few, surest, weak } = signs;
    this.#at("gloss-count").textContent = glosses.length || "none yet: teach it one";
    this.#at("search-box").hidden = few;
    const plays = glosses.some((gloss) => this.#figures.has(gloss)) ? "The triangle plays how it is signed. " : "";
    this.#at("weak-note").textContent = plays + (weak.length
      ? `${weak.length} of ${glosses.length} are weak: read right in fewer than two of three tries by people it had ` +
        `not met. They show how often, as in “${weak[0]} ${signs.score(weak[0])}”.`
      : "");
    this.#at("weak-practise").hidden = weak.length === 0;
    this.#starters.hidden = !first || surest.length === 0;
    this.#starters.querySelector("ul").replaceChildren(...surest.slice(0, STARTERS).map((gloss) => this.#item(gloss)));
    this.#at("first").hidden = !first || surest.length === 0;
    this.#at("surest").replaceChildren(...surest.map((gloss) => this.#item(gloss)));
    if (!this.#sought) this.#opened = this.#open;
    this.#at("glosses").replaceChildren(...groups.map((group) => this.#group(group)));
    this.#filter();
  }

  /** Marks the sign that was recognised just now. */
  mark(gloss) {
    for (const item of this.#root.querySelectorAll("li")) item.classList.toggle("hit", item.dataset.gloss === gloss);
  }

  #at(id) {
    return this.#root.querySelector(`#${id}`);
  }

  get #themes() {
    return [...this.#root.querySelectorAll("details")];
  }

  get #open() {
    return new Set(this.#themes.filter(({ open }) => open).map(({ dataset }) => dataset.theme));
  }

  #group({ name, glosses }) {
    const list = element("ul", "glosses");
    list.append(...glosses.map((gloss) => this.#item(gloss)));
    list.setAttribute("aria-label", name || "Signs it knows");
    if (!name) return list;
    const theme = element("details");
    theme.dataset.theme = name;
    theme.open = this.#opened.has(name);
    const some = element("span", "some", glosses.join(", "));
    some.setAttribute("aria-hidden", "true");
    const summary = element("summary");
    summary.append(element("span", "name", name), some, element("span", "count", glosses.length));
    const practise = button("plain", "Practise these", () => this.#practise(themeList(name)));
    practise.setAttribute("aria-label", `Practise these: ${name}`);
    theme.append(summary, list, practise);
    return theme;
  }

  #item(gloss) {
    const item = element("li");
    item.dataset.gloss = gloss;
    const name = button("plain", gloss, () => this.#ask(gloss));
    const score = this.#signs.score(gloss);
    name.title = score ? `Practise ${gloss}. It was ${inTries(score)}.` : `Practise ${gloss}`;
    const also = this.#signs.also(gloss);
    if (also.length) name.append(" ", element("span", "also", `also ${also.join(", ")}`));
    if (this.#signs.isWeak(gloss)) name.append(" ", element("span", "weak", score));
    item.append(name);
    if (this.#figures.has(gloss)) item.append(this.#how(gloss));
    return item;
  }

  /** Plays a drawn figure of the sign. */
  #how(gloss) {
    const how = button("plain how-sign", "", () => this.#figures.open(gloss, () => this.#ask(gloss)));
    how.title = `See how ${gloss} is signed`;
    how.setAttribute("aria-label", how.title);
    how.addEventListener("pointerenter", () => this.#figures.warm(), { once: true });
    return how;
  }

  #filter() {
    const sought = this.#at("search").value.trim();
    if (!this.#sought && sought) this.#opened = this.#open;
    this.#sought = sought;
    const found = this.#signs.find(sought);
    for (const item of this.#at("glosses").querySelectorAll("li")) item.hidden = !found.has(item.dataset.gloss);
    for (const theme of this.#themes) {
      const size = theme.querySelectorAll("li:not([hidden])").length;
      theme.hidden = size === 0;
      theme.open = sought ? true : this.#opened.has(theme.dataset.theme);
      theme.querySelector(".count").textContent = size;
      theme.lastElementChild.hidden = sought !== ""; // it stands for the whole theme
    }
    const none = `It does not know “${sought}”. You can teach it.`;
    this.#at("search-count").textContent = !sought ? "" : found.size ? `${found.size} found` : none;
    this.#at("gloss-note").hidden = found.size === 0;
    this.#at("search-teach").hidden = !sought || found.size > 0;
  }
}
