// What the person has set: kept in this browser only, checked when it is read, applied at once.

const KEY = "livegloss.settings.1";
const LONGEST_ID = 400; // characters of a camera's name as browsers make them

const DEFAULTS = {
  threshold: null, // the model's own
  candidates: 5,
  camera: "", // the one that the browser chooses
  theme: "", // as the system's
  left: false,
};
const VALID = {
  threshold: (value) => value === null || (value >= 0.05 && value <= 0.95),
  candidates: (value) => [3, 4, 5].includes(value),
  camera: (value) => typeof value === "string" && value.length <= LONGEST_ID,
  theme: (value) => ["", "light", "dark"].includes(value),
  left: (value) => typeof value === "boolean",
};

/** The dialog, and `values` as chosen in it. Event `change` (detail: the setting's name) follows each choice. */
export class Settings extends EventTarget {
  #dialog;
  #modelThreshold = null;
  values = { ...DEFAULTS };

  constructor(dialog) {
    super();
    this.#dialog = dialog;
    try {
      const kept = Object.entries(JSON.parse(localStorage.getItem(KEY)) ?? {});
      Object.assign(this.values, Object.fromEntries(kept.filter(([name, value]) => VALID[name]?.(value))));
    } catch {
      // not ours, or no storage: the defaults
    }
    for (const name of Object.keys(DEFAULTS)) {
      this.#field(name).addEventListener("change", () => this.#set(name, this.#chosen(name)));
    }
    this.#field("threshold").addEventListener("input", () => this.#showThreshold());
    this.#field("usual").addEventListener("click", () => {
      for (const [name, value] of Object.entries(DEFAULTS)) if (this.values[name] !== value) this.#set(name, value);
      this.#show();
    });
  }

  /** Opens the dialog. `threshold` holds where the person set none; null while it is not known. */
  async open(threshold) {
    this.#modelThreshold = threshold;
    this.#show();
    this.#dialog.showModal();
    await this.#listCameras();
  }

  /** Sets what a person chose elsewhere on the page. */
  choose(name, value) {
    this.#set(name, value);
    this.#show();
  }

  #field(name) {
    return this.#dialog.querySelector(`#set-${name}`);
  }

  #chosen(name) {
    const { type, value, checked } = this.#field(name);
    if (type === "checkbox") return checked;
    return typeof DEFAULTS[name] === "string" ? value : Number(value);
  }

  #set(name, value) {
    this.values[name] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // this browser has no space left: it holds as long as the page
    }
    this.dispatchEvent(new CustomEvent("change", { detail: name }));
  }

  #show() {
    const { threshold, candidates, camera, theme, left } = this.values;
    this.#field("threshold").value = threshold ?? this.#modelThreshold ?? 0.5;
    this.#showThreshold();
    this.#field("candidates").value = candidates;
    this.#field("camera").value = camera;
    this.#field("theme").value = theme;
    this.#field("left").checked = left;
  }

  #showThreshold() {
    const percent = (p) => `${Math.round(100 * p)} %`;
    this.#field("threshold-now").textContent = percent(this.#field("threshold").value);
    const own = this.#modelThreshold === null ? "" : `The model came with ${percent(this.#modelThreshold)}.`;
    this.#field("threshold-own").textContent = own;
  }

  /** Browsers list the cameras' names only once one was allowed. */
  async #listCameras() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const cameras = devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId);
    const options = cameras.map(({ label, deviceId }, i) => new Option(label || `Camera ${i + 1}`, deviceId));
    this.#field("camera").replaceChildren(new Option("The browser's choice", ""), ...options);
    const there = cameras.some(({ deviceId }) => deviceId === this.values.camera);
    this.#field("camera").value = there ? this.values.camera : "";
    this.#field("camera-note").hidden = cameras.length > 0;
  }
}
