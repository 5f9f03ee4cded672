// Drawn figures of signs, from the server or of a person's own takes. What draws them is loaded when a
// figure is first asked for: see figure.js, figure_view.js, trace.js.

import { refusal, request } from "./connection.js";
import { styled } from "./elements.js";

const CACHED = 60; // figures of the server; the one asked for longest ago leaves
const SEEN = 300; // predictions remembered: half a minute
const TAKES_KEY = "livegloss.takes.1";
const MAX_TAKES = 120; // figures of takes in this browser: about 400 kB
const MAX_TAKE = 24_000; // characters of one
const SHOWN_KEY = "livegloss.practice.figure.1";
const LATE_S = 0.2; // after a take its last predictions may still come

/** `settings` are the page's; `aspect()` is the width of the camera's picture by its height. */
export class Figures {
  #token;
  #settings;
  #aspect;
  #glosses = new Set(); // of which the server has a figure
  #cache = new Map(); // gloss -> promise of its figure
  #taught = new Map(); // gloss -> its takes
  #seen = []; // {endS, aspect, seen}, oldest first
  #takes = new TakeFigures();
  #dialog = null; // promise
  #practice = null; // promise

  constructor({ token, settings, aspect }) {
    this.#token = token;
    this.#settings = settings;
    this.#aspect = aspect;
  }

  /** The server's model. */
  model({ figures }) {
    this.#glosses = new Set(Array.isArray(figures) ? figures : []);
    this.#cache.clear();
  }

  /** The signs that were taught: `[{gloss, takes}]`. */
  taught(signs) {
    this.#taught = new Map(signs.map(({ gloss, takes }) => [gloss, takes]));
  }

  has(gloss) {
    return this.#glosses.has(gloss) || this.hasTakes(this.#taught.get(gloss) ?? []);
  }

  hasTakes(takes) {
    return takes.some((take) => this.#takes.has(take));
  }

  /** The figure of a sign; of a taught one, of its first take. Throws ConnectionError, or RangeError. */
  async of(gloss) {
    if (!this.#glosses.has(gloss)) return (await this.ofTakes(this.#taught.get(gloss) ?? []))[0].figure;
    const known = this.#cache.get(gloss) ?? this.#fetch(gloss);
    this.#cache.delete(gloss);
    this.#cache.set(gloss, known);
    if (this.#cache.size > CACHED) this.#cache.delete(this.#cache.keys().next().value);
    known.catch(() => this.#cache.delete(gloss));
    return known;
  }

  /** `{figure, label}` of each of the takes that has one. */
  async ofTakes(takes) {
    const { unpack } = await import("./figure.js");
    return takes.flatMap((take, place) => {
      const figure = this.#takes.read(take, unpack);
      return figure ? [{ figure, label: `Take ${place + 1}` }] : [];
    });
  }

  /** Shows in a dialog how `gloss` is signed; `practise()` is called when the person wants to. */
  async open(gloss, practise) {
    const own = !this.#glosses.has(gloss);
    const loading = own ? this.ofTakes(this.#taught.get(gloss)) : this.of(gloss).then((figure) => [{ figure }]);
    loading.catch(() => {}); // the dialog tells of it
    const dialog = await this.warm();
    dialog.show({ gloss, own, practise, load: () => loading });
  }

  /** Shows the takes of a sign that was taught. */
  async openTakes(gloss, takes) {
    const dialog = await this.warm();
    dialog.show({ gloss, own: true, load: () => this.ofTakes(takes) });
  }

  /** Loads what draws, so that a figure plays sooner. Resolves with the dialog. */
  warm() {
    const code = [import("./figure_dialog.js"), import("./figure_view.js"), import("./figure.js"), styled("figure.css")];
    this.#dialog ??= Promise.all(code).then(([{ FigureDialog }]) => new FigureDialog(this.hand));
    this.#dialog.catch(() => (this.#dialog = null)); // the server is away: the next press tries again
    return this.#dialog;
  }

  /** What Practise shows: see practice_figures.js. */
  practice(root) {
    this.#practice ??= Promise.all([import("./practice_figures.js"), styled("figure.css")]).then(
      ([{ PracticeFigures }]) => new PracticeFigures({ root, figures: this, hand: this.hand }),
    );
    return this.#practice;
  }

  /** Does the person want to see figures while practising? */
  get shown() {
    try {
      return localStorage.getItem(SHOWN_KEY) !== "off";
    } catch {
      return true;
    }
  }

  set shown(shown) {
    try {
      localStorage.setItem(SHOWN_KEY, shown ? "on" : "off");
    } catch {
      // this browser keeps nothing for the page
    }
  }

  /** Which hand leads: a figure is mirrored for who signs with the left one. */
  get hand() {
    const settings = this.#settings;
    return {
      get left() {
        return settings.values.left;
      },
      turn: () => settings.choose("left", !settings.values.left),
    };
  }

  /** A session began: its clock is another one. */
  begin() {
    this.#seen = [];
  }

  prediction({ window: { end_s: endS }, seen }) {
    if (!seen) return;
    this.#seen.push({ endS, aspect: this.#aspect() || 4 / 3, seen });
    if (this.#seen.length > SEEN) this.#seen.shift();
  }

  /** Media time of the newest picture in which somebody was seen; 0 before. */
  get nowS() {
    return this.#seen.at(-1)?.endS ?? 0;
  }

  /** What was seen of the person meanwhile, as a figure; null where it was too little. */
  async between(startS, endS) {
    const samples = this.#seen.filter((one) => one.endS >= startS && one.endS <= endS);
    const { figureOf } = await import("./trace.js");
    return figureOf(samples);
  }

  /** Keeps in this browser what was seen during a take, beside the take. */
  async keepTake(take, startS, endS) {
    await new Promise((resolve) => setTimeout(resolve, 1_000 * LATE_S));
    const figure = await this.between(startS, endS + LATE_S).catch(() => null); // a take is whole without
    if (figure) this.#takes.keep(take, figure.pack());
  }

  dropTakes(takes) {
    this.#takes.drop(takes);
  }

  async #fetch(gloss) {
    const [response, { unpack }] = await Promise.all([
      request(`api/figures/${encodeURIComponent(gloss)}`, this.#token),
      import("./figure.js"),
    ]);
    if (!response.ok) throw await refusal(response);
    return unpack(await response.arrayBuffer());
  }

}

/**
 * The figures of takes that were recorded on this page, kept in this browser under the takes' own
 * numbers, so that they stay with them wherever the takes are kept. Bound: the newest 120.
 */
class TakeFigures {
  #kept = new Map(); // key of the take -> base64, oldest first

  constructor() {
    this.#read();
    window.addEventListener("storage", ({ key }) => (key === TAKES_KEY || key === null) && this.#read());
  }

  has(take) {
    return this.#kept.has(keyOf(take));
  }

  /** The take's figure by `unpack`; undefined where there is none, or none that can be read. */
  read(take, unpack) {
    try {
      const text = atob(this.#kept.get(keyOf(take)));
      return unpack(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
    } catch {
      return undefined;
    }
  }

  keep(take, buffer) {
    this.#read();
    this.#kept.set(keyOf(take), btoa(String.fromCharCode(...new Uint8Array(buffer))));
    while (this.#kept.size > MAX_TAKES) this.#kept.delete(this.#kept.keys().next().value);
    this.#write();
  }

  drop(takes) {
    this.#read();
    for (const take of takes) this.#kept.delete(keyOf(take));
    this.#write();
  }

  #read() {
    try {
      const kept = JSON.parse(localStorage.getItem(TAKES_KEY)) ?? [];
      const sound = (one) => Array.isArray(one) && one.length === 2 && one.every((text) => typeof text === "string" && text.length <= MAX_TAKE);
      this.#kept = new Map(kept.filter(sound).slice(-MAX_TAKES));
    } catch {
      // nothing kept, or not ours; what this page recorded stays
    }
  }

  #write() {
    try {
      if (this.#kept.size) localStorage.setItem(TAKES_KEY, JSON.stringify([...this.#kept]));
      else localStorage.removeItem(TAKES_KEY);
    } catch {
      // this browser has no space left: they last as long as the page
    }
  }
}

const keyOf = (take) => take.slice(0, 48); // its first 18 numbers: no two takes have the same
