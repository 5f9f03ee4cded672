// Small pieces of the page: new elements, and probabilities in words.

/** A new element of class `name`. `text` is shown as text, never read as HTML. */
export function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

/** Shows `text` in `place`; the same text is not written again, which a screen reader might read out. */
export function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/** The idle probability from which on nobody signs a sign that the model knows. */
export const RESTING = 0.7;

export function percent(p) {
  return p < 0.005 ? "< 1 %" : `${Math.round(100 * p)} %`;
}

export function inWords(p) {
  if (p >= 0.8) return "quite sure";
  if (p >= 0.5) return "fairly sure";
  return "only a guess";
}
