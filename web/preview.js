// The camera's own picture on the page, mirrored for a signer who faces it; and stills drawn from it.

const STILL_WIDTH = 120; // pixels
const MAX_STILLS = 100; // the oldest leave

export class Preview {
  #stage;
  #video;
  #button;

  /** `stage`: what holds `video` and the drawn signer; `button` hides and shows the picture. */
  constructor({ stage, video, button }) {
    this.#stage = stage;
    this.#video = video;
    this.#button = button;
    button.addEventListener("click", () => this.hide(stage.dataset.preview !== "off"));
  }

  /** Shows what the camera gives; null: it is off. */
  show(stream) {
    this.#video.srcObject = stream;
    this.#stage.dataset.on = String(stream !== null);
    this.#stage.dataset.mirrored = String(stream?.getVideoTracks()[0].getSettings().facingMode !== "environment");
    this.#button.hidden = stream === null;
    this.#video.play().catch(() => {}); // no preview is no reason to stop
  }

  /** Is there a picture to be seen? */
  get shown() {
    return this.#stage.dataset.preview !== "off" && this.aspect > 0;
  }

  /** The picture's width by its height; 0 while there is none. */
  get aspect() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    return width && width / height;
  }

  /** Fills a place of `paper`, `top` px down, with what the camera gives now, mirrored as it is here. */
  paint(paper, width, height, top = 0) {
    const wide = Math.max(width, height * this.aspect);
    const high = wide / this.aspect;
    const mirrored = this.#stage.dataset.mirrored !== "false";
    paper.save();
    paper.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? width : 0, top);
    paper.beginPath();
    paper.rect(0, 0, width, height); // what is taller than its place must not cover another
    paper.clip();
    paper.drawImage(this.#video, (width - wide) / 2, (height - high) / 2, wide, high);
    paper.restore();
  }

  hide(hide) {
    this.#stage.dataset.preview = hide ? "off" : "on";
    this.#button.textContent = hide ? "Show picture" : "Hide picture";
    this.#stage.dispatchEvent(new CustomEvent("preview", { detail: !hide }));
  }
}

/** Small stills of takes: on this page only, never sent, never stored. */
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
    still.width = STILL_WIDTH;
    still.height = Math.round(STILL_WIDTH / this.#preview.aspect);
    this.#preview.paint(still.getContext("2d"), STILL_WIDTH, still.height);
    return still;
  }

  keep(take, still) {
    if (still) this.#kept.push({ take, still });
    if (this.#kept.length > MAX_STILLS) this.#kept.shift();
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
