// What probabilities mean to a person, everywhere on the page.

export function percent(p) {
  return p < 0.005 ? "< 1 %" : `${Math.round(100 * p)} %`;
}

/** The idle probability from which nobody signs a sign that the model knows. */
export const RESTING = 0.7;

export function inWords(p) {
  if (p >= 0.8) return "quite sure";
  if (p >= 0.5) return "fairly sure";
  return "only a guess";
}
