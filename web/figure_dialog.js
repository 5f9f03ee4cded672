// A dialog in which a figure plays: how a sign is signed.

import { button, element } from "./elements.js";
import { FigureView } from "./figure_view.js";

const FROM_DATA =
  "Drawn from the landmarks of one signer in research data: for academic, non-commercial use. " +
  "Signs vary between people and regions, and faces are missing here: see a dictionary that you trust too.";
const OWN = "Drawn from what was seen while you recorded it. Kept in this browser only.";
const PALM = "A light palm faces you, a dark hand shows its back.";

export class FigureDialog {
  #dialog = element("dialog", "how");
  #title = element("h2");
  #fault = element("p", "fault");
  #takes = element("div", "choices");
  #note = element("p", "note");
  #practise = button("plain", "Practise it", () => {
    const { practise } = this.#wanted;
    this.#dialog.close();
    practise();
  });
  #view;
  #wanted = null; // what was asked for last

  constructor(hand) {
    this.#view = new FigureView(hand);
    this.#title.id = "how-title";
    this.#fault.setAttribute("role", "alert");
    const close = element("button", "primary", "Close");
    const form = element("form");
    form.method = "dialog";
    const doing = element("div", "choices");
    doing.append(this.#practise, close);
    form.append(this.#title, this.#takes, this.#view.root, this.#fault, this.#note, doing);
    this.#dialog.setAttribute("aria-labelledby", this.#title.id);
    this.#dialog.append(form);
    this.#dialog.addEventListener("keydown", (event) => this.#view.key(event));
    this.#dialog.addEventListener("close", () => {
      if (this.#dialog.open) return; // it was opened again meanwhile
      this.#wanted = null;
      this.#view.clear();
    });
    document.body.append(this.#dialog);
  }

  /** `load()` resolves with `[{figure, label}]`; `own`: they are the person's takes. */
  async show(wanted) {
    const { gloss, own, practise, load } = wanted;
    this.#wanted = wanted;
    this.#title.textContent = own ? `How you sign “${gloss}”` : `How “${gloss}” is signed`;
    this.#note.textContent = `${own ? OWN : FROM_DATA} ${PALM}`;
    this.#practise.hidden = !practise;
    this.#fault.textContent = "";
    this.#takes.replaceChildren();
    this.#view.root.hidden = true;
    if (!this.#dialog.open) this.#dialog.showModal();
    let list;
    try {
      list = await load();
    } catch (error) {
      if (this.#wanted === wanted) this.#fault.textContent = `The figure could not be shown. ${error.message}`;
      return;
    }
    if (this.#wanted !== wanted || !list.length) return;
    this.#view.root.hidden = false;
    const name = `${gloss}, drawn`;
    const play = (place) => {
      this.#view.show([{ figure: list[place].figure, name, own }]);
      [...this.#takes.children].forEach((one, i) => one.setAttribute("aria-pressed", String(i === place)));
    };
    if (list.length > 1) this.#takes.append(...list.map(({ label }, place) => button("plain", label, () => play(place))));
    play(0);
    this.#view.focus(); // keys steer it at once; on a button Space would press that
  }
}
