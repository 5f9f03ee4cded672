// The camera's own picture on the page: a mirror for who faces it, and hidden on request.

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

  get mirrored() {
    return this.#stage.dataset.mirrored !== "false";
  }

  hide(hide) {
    this.#stage.dataset.preview = hide ? "off" : "on";
    this.#button.textContent = hide ? "Show picture" : "Hide picture";
    this.#stage.dispatchEvent(new CustomEvent("preview", { detail: !hide }));
  }
}
