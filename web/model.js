// What the server's model is: its card, the signs it knows, who is in its data.

import { refusal, request } from "/static/connection.js";

/** The bundle's card with `glosses` and `camera`. Throws ConnectionError. */
export async function fetchModel(token) {
  const response = await request("/api/model", token);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

export class ModelCard {
  #glosses;
  #count;
  #facts;

  constructor({ glosses, count, facts }) {
    this.#glosses = glosses;
    this.#count = count;
    this.#facts = facts;
  }

  show(card) {
    this.#count.textContent = card.glosses.length;
    const names = [...card.glosses].sort((a, b) => a.localeCompare(b));
    this.#glosses.replaceChildren(
      ...names.map((gloss) => {
        const item = document.createElement("li");
        item.dataset.gloss = gloss;
        item.textContent = gloss;
        return item;
      }),
    );
    for (const old of this.#facts.querySelectorAll("[data-card]")) old.remove();
    for (const [name, text] of [
      ["data", sentences(card.data)],
      ["licence", card.licence && `Licence: ${card.licence}`],
      ["model", `Model: ${card.name}.`],
    ]) {
      if (!text) continue;
      const item = document.createElement("li");
      item.dataset.card = name;
      item.textContent = text;
      this.#facts.append(item);
    }
  }

  /** Shows that a sign is on the list by marking it. */
  mark(gloss) {
    for (const item of this.#glosses.children) item.classList.toggle("hit", item.dataset.gloss === gloss);
  }
}

// A card's `data` says in words who is in it: under `signers`, else under `people` or `summary`.
function sentences(data) {
  const parts = Array.isArray(data) ? data : [data];
  return parts
    .flatMap((part) => (typeof part === "string" ? [part] : [part?.summary, part?.signers, part?.people]))
    .filter((text) => typeof text === "string")
    .join(" ");
}
