// Small pieces of the page: new elements, style sheets, and probabilities in words.

/** A new element of class `name`. `text` is shown as text, never read as HTML. */
export function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

/** A new button of class `name` that sends no form; `act` is called when it is pressed. */
export function button(name, text, act = null) {
  const made = element("button", name, text);
  made.type = "button";
  if (act) made.addEventListener("click", act);
  return made;
}

const styles = new Map(); // file -> promise

/** Applies a style sheet that lies beside the page's modules, once. Resolves when it does, or can't. */
export function styled(file) {
  if (!styles.has(file)) {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(file, import.meta.url) });
    styles.set(file, new Promise((resolve) => (link.onload = link.onerror = resolve)));
    document.head.append(link);
  }
  return styles.get(file);
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
