// The server's model: its card, the signs it knows, the people in its data.

import { refusal, request } from "./connection.js";
import { element } from "./elements.js";

/** The bundle's card with `glosses` and `camera`. Throws ConnectionError. */
export async function fetchModel(token) {
  const response = await request("api/model", token);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

const FEW = 12; // so many can be looked through without a search

export class ModelCard {
  #glosses;
  #count;
  #facts;
  #searchBox;
  #search;
  #found;
  #ask;

  /** `ask(gloss)` is called for a gloss that was pressed; the rest are elements. */
  constructor({ glosses, count, facts, searchBox, search, found, ask }) {
    this.#glosses = glosses;
    this.#count = count;
    this.#facts = facts;
    this.#searchBox = searchBox;
    this.#search = search;
    this.#found = found;
    this.#ask = ask;
    search.addEventListener("input", () => this.#filter());
  }

  show(card) {
    this.#count.textContent = card.glosses.length || "none yet: teach it one";
    const names = [...card.glosses].sort((a, b) => a.localeCompare(b));
    this.#glosses.replaceChildren(
      ...names.map((gloss) => {
        const item = element("li");
        item.dataset.gloss = gloss;
        const button = element("button", "plain", gloss);
        button.type = "button";
        button.title = `Practise ${gloss}`;
        button.addEventListener("click", () => this.#ask(gloss));
        item.append(button);
        return item;
      }),
    );
    this.#searchBox.hidden = names.length < FEW;
    this.#filter();
    for (const old of this.#facts.querySelectorAll("[data-card]")) old.remove();
    for (const [name, text] of Object.entries(facts(card))) {
      if (!text) continue;
      const item = element("li", "", text);
      item.dataset.card = name;
      this.#facts.append(item);
    }
  }

  #filter() {
    const sought = this.#search.value.trim().toLowerCase();
    let found = 0;
    for (const item of this.#glosses.children) {
      item.hidden = !item.dataset.gloss.toLowerCase().includes(sought);
      found += Number(!item.hidden);
    }
    const none = `It does not know “${sought}”. You can teach it.`;
    this.#found.textContent = sought === "" ? "" : found === 0 ? none : `${found} found`;
  }

  /** Shows that a sign is on the list by marking it. */
  mark(gloss) {
    for (const item of this.#glosses.children) item.classList.toggle("hit", item.dataset.gloss === gloss);
  }
}

// The facts of a card that a person should know, in sentences. A card may lack any of them.
function facts({ name, data = {}, licence, metrics = {} }) {
  const people = data.signer_groups
    ? `It learned from ${data.clips} clips of ${data.signer_groups} signers or groups of signers: ` +
      "few people, and many ways of signing are missing."
    : "";
  const scores = metrics.cross_validation ?? metrics.kept_out;
  const tested = scores?.top1
    ? `On ${scores.clips} clips of people it had never seen it named the right sign in ` +
      `${Math.round(100 * scores.top1)} of 100.`
    : "";
  return {
    people: [people, data.who && `${data.who}.`].filter(Boolean).join(" "),
    tested,
    licence: licence ? `Licence: ${licence}` : "",
    model: `Model: ${name}`,
  };
}
