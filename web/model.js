// The server's model: its card, and the people in its data.

import { refusal, request } from "./connection.js";
import { element } from "./elements.js";

/** The bundle's card with `glosses` and `camera`. Throws ConnectionError. */
export async function fetchModel(token) {
  const response = await request("api/model", token);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** The themes and synonyms by which signs are found: see known_signs.js. Throws ConnectionError. */
export async function fetchThemes() {
  const response = await request("static/themes.json");
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Shows what a person should know of the model at the end of `list`. */
export function showFacts(list, card) {
  for (const old of list.querySelectorAll("[data-card]")) old.remove();
  for (const [name, text] of Object.entries(facts(card))) {
    if (!text) continue;
    const item = element("li", "", text);
    item.dataset.card = name;
    list.append(item);
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
