// In Practise: how the sign that is asked for is signed, and beside it how the person signed it.

import { element } from "./elements.js";
import { FigureView } from "./figure_view.js";

const AFTER_MS = 700; // after a try, until the hands are down again

export class PracticeFigures {
  #figures;
  #view;
  #box = element("div", "practice-figures");
  #wish = element("input");
  #gloss = "";
  #sign = null; // the figure of the sign that is asked for
  #own = null; // the figure of the last try
  #startS = 0;
  #timer = 0;

  constructor({ root, figures, hand }) {
    this.#figures = figures;
    this.#view = new FigureView(hand);
    this.#box.id = "practice-figures";
    const label = element("label", "", " Show how it is signed");
    this.#wish.type = "checkbox";
    this.#wish.checked = figures.shown;
    this.#wish.addEventListener("change", () => {
      figures.shown = this.#wish.checked;
      this.#show();
    });
    label.prepend(this.#wish);
    this.#box.append(this.#view.root, label);
    root.querySelector("#practice-now").after(this.#box);
    this.#show();
  }

  /** `gloss` is asked for; "": nothing is any more. */
  async asked(gloss) {
    clearTimeout(this.#timer);
    if (gloss === this.#gloss) return; // asked for again: all stays as it is
    this.#gloss = gloss;
    this.#sign = this.#own = null;
    this.#show();
    if (!this.#figures.has(gloss)) return;
    const sign = await this.#figures.of(gloss).catch(() => null); // practising goes on without it
    if (this.#gloss !== gloss) return;
    this.#sign = sign;
    this.#show();
  }

  /** A try begins at this media time. */
  began(startS) {
    clearTimeout(this.#timer);
    this.#startS = startS;
  }

  /** The try is over: what was seen of it is shown. */
  done() {
    const [gloss, startS] = [this.#gloss, this.#startS];
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      const figure = await this.#figures.between(startS, Infinity);
      if (!figure || this.#gloss !== gloss) return;
      this.#own = figure;
      this.#show();
    }, AFTER_MS);
  }

  #show() {
    const list = [];
    if (this.#sign) list.push({ figure: this.#sign, label: "The sign", name: `How ${this.#gloss} is signed, drawn` });
    if (this.#own) list.push({ figure: this.#own, label: "You, as others see you", name: `How you signed ${this.#gloss}, drawn`, own: true });
    this.#box.hidden = !list.length;
    this.#view.root.hidden = !this.#wish.checked;
    this.#view.show(this.#wish.checked ? list : []);
  }
}
