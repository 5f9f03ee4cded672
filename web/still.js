// Small stills of takes, drawn from the preview: on this page only, never sent, never stored.

const WIDTH = 120; // pixels
const MOST = 100; // stills; the oldest leave

export class Stills {
  #video;
  #kept = []; // {take, still}, oldest first

  constructor(video) {
    this.#video = video;
  }

  /** What the preview shows now, mirrored as it is; null where it is hidden or has no picture. */
  draw() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const { preview, mirrored } = this.#video.closest("[data-preview]")?.dataset ?? {};
    if (!width || preview !== "on") return null;
    const still = document.createElement("canvas");
    still.className = "still";
    still.setAttribute("role", "img");
    still.width = WIDTH;
    still.height = Math.round((WIDTH * height) / width);
    const paper = still.getContext("2d");
    if (mirrored !== "false") paper.setTransform(-1, 0, 0, 1, WIDTH, 0);
    paper.drawImage(this.#video, 0, 0, still.width, still.height);
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
