// Small stills of takes, drawn from the preview: on this page only, never sent, never stored.

const WIDTH = 120; // pixels
const MOST = 100; // stills; the oldest leave

export class Stills {
  #preview;
  #kept = []; // {take, still}, oldest first

  constructor(preview) {
    this.#preview = preview;
  }

  /** What the preview shows now, mirrored as it is; null where it is hidden or has no picture. */
  draw() {
    if (!this.#preview.shown) return null;
    const still = document.createElement("canvas");
    still.className = "still";
    still.setAttribute("role", "img");
    still.width = WIDTH;
    still.height = Math.round(WIDTH / this.#preview.aspect);
    this.#preview.paint(still.getContext("2d"), WIDTH, still.height);
    return still;
  }

  keep(take, still) {
    if (still) this.#kept.push({ take, still });
    if (this.#kept.length > MOST) this.#kept.shift();
  }

  /** The still of each take, undefined where there is none. */
  of(takes) {
    const left = [...this.#kept];
    return takes.map((take) => {
      const place = left.findIndex((one) => one.take === take);
      return place < 0 ? undefined : left.splice(place, 1)[0].still;
    });
  }
}
