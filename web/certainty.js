// How certainty is written, everywhere on the page.

export function percent(p) {
  return p < 0.005 ? "< 1 %" : `${Math.round(100 * p)} %`;
}

export function inWords(p) {
  if (p >= 0.8) return "quite sure";
  if (p >= 0.5) return "fairly sure";
  return "only a guess";
}
