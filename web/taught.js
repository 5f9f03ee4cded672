// The list of the signs that were taught: a row each, with what can be done and what to know of it.

import { button, element } from "./elements.js";
import { IDLE, lookalike, named, shown, unlike } from "./sign.js";

const WHERE = { server: "on the server", waiting: "waits for the server" };

export const counted = (number) => (number === 1 ? "1 take" : `${number} takes`);

/** `act` has a function each for more, rename (resolves true when done), drop, dropTake. */
export class TaughtList {
  #list;
  #stills;
  #figures;
  #act;
  #shown = ""; // the rows' content, so that they are made anew only when it changes
  #later = null; // rows that wait while a name is being typed

  constructor({ list, stills, figures, act }) {
    this.#figures = figures;
    this.#list = list;
    this.#stills = stills;
    this.#act = act;
  }

  /** `usable`: those of `signs` that the model can use; `server`: some may be kept there. */
  show(signs, usable, server) {
    if (this.#list.querySelector("form")) {
      this.#later = [signs, usable, server];
      return;
    }
    const pictures = signs.map(({ takes }) => this.#stills.of(takes));
    const drawn = signs.map(({ takes }) => this.#figures.hasTakes(takes));
    const content = JSON.stringify([signs, usable, server, pictures.flat().filter(Boolean).length, drawn]);
    if (content === this.#shown) return;
    this.#shown = content;
    this.#list.replaceChildren(...signs.map((sign, i) => this.#row(sign, usable, server, pictures[i])));
  }

  /** Marks the sign that was recognised just now. */
  mark(gloss) {
    for (const row of this.#list.children) row.classList.toggle("hit", row.dataset.gloss === gloss);
  }

  #row(sign, usable, server, pictures) {
    const row = element("li");
    row.dataset.gloss = sign.gloss;
    const useful = usable.includes(sign);
    const rest = sign.gloss === IDLE;
    const about = element("div", "about-sign");
    const where = WHERE[sign.place] ?? (server ? "in this browser" : "");
    const facts = [counted(sign.takes.length), sign.date, where].filter(Boolean).join(" · ");
    about.append(element("span", "gloss", shown(sign.gloss)), element("span", "facts-line", facts));
    const doing = element("div", "doing");
    if (this.#figures.hasTakes(sign.takes)) {
      doing.append(this.#button("See it", sign, () => this.#figures.openTakes(sign.gloss, sign.takes)));
    }
    if (useful) doing.append(this.#button(rest ? "Record again" : "Add takes", sign, () => this.#act.more(sign)));
    if (useful && !rest) doing.append(this.#button("Rename", sign, () => this.#rename(sign, row)));
    doing.append(this.#button("Delete", sign, () => this.#act.drop(sign)));
    row.append(about, doing);
    if (!useful) row.append(element("p", "note", why(sign, usable)));
    const twin = useful && lookalike(sign, usable);
    if (twin) row.append(element("p", "note", `Looks much like ${shown(twin.gloss)}: they may be mixed up.`));
    const odd = unlike(sign.takes);
    if (pictures.some(Boolean)) row.append(this.#takes(sign, pictures, odd));
    else row.append(...odd.map((place) => this.#odd(sign, place)));
    return row;
  }

  #button(text, { gloss }, act) {
    const made = button("plain", text, act);
    made.setAttribute("aria-label", text === "Delete" ? `Delete ${shown(gloss)}` : `${text}: ${shown(gloss)}`);
    return made;
  }

  #odd(sign, place) {
    const note = element("p", "note", `Take ${place + 1} looks unlike the others. `);
    note.append(button("plain", "Delete this take", () => this.#act.dropTake(sign, place)));
    return note;
  }

  // Each take as it looked, for signs that were recorded on this page.
  #takes(sign, pictures, odd) {
    const strip = element("ol", "takes");
    strip.setAttribute("aria-label", `Takes of ${shown(sign.gloss)}`);
    pictures.forEach((still, place) => {
      const name = `Take ${place + 1}`;
      const item = element("li");
      still?.setAttribute("aria-label", `${name} of ${shown(sign.gloss)}: a still from its middle`);
      const drop = button("plain", "Delete", () => this.#act.dropTake(sign, place));
      drop.setAttribute("aria-label", `Delete take ${place + 1} of ${shown(sign.gloss)}`);
      const words = odd.includes(place) ? `${name}: unlike the others` : name;
      item.append(still ?? element("span", "still", "no picture"), element("span", odd.includes(place) ? "odd" : "", words), drop);
      strip.append(item);
    });
    const box = element("div", "takes-box");
    box.append(strip, element("p", "facts-line", "The pictures are on this page alone, and gone when you reload it."));
    return box;
  }

  #rename(sign, row) {
    const form = element("form", "renaming");
    const name = element("input");
    name.value = sign.gloss;
    name.autocomplete = "off";
    name.spellcheck = false;
    name.maxLength = 80;
    name.setAttribute("aria-label", `New name of ${shown(sign.gloss)}`);
    name.setAttribute("aria-describedby", "teach-fault");
    const save = element("button", "plain", "Save");
    const leave = button("plain", "Cancel");
    const close = () => {
      form.remove();
      row.classList.remove("renamed");
      if (this.#later) this.show(...this.#later);
      this.#later = null;
    };
    const focus = (gloss) => {
      const now = [...this.#list.children].find((one) => one.dataset.gloss === gloss);
      now?.querySelector("button[aria-label^=Rename]")?.focus();
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const wanted = named(name.value);
      const done = wanted === sign.gloss || (await this.#act.rename(sign, wanted));
      name.setAttribute("aria-invalid", String(!done));
      if (!done) {
        name.focus();
        return;
      }
      close();
      focus(wanted);
    });
    const cancel = () => {
      close();
      focus(sign.gloss);
    };
    leave.addEventListener("click", cancel);
    form.addEventListener("keydown", ({ key }) => key === "Escape" && cancel());
    form.append(name, save, leave);
    row.classList.add("renamed");
    row.prepend(form);
    name.select();
  }
}

function why(sign, usable) {
  const same = usable.some(({ gloss, space }) => gloss === sign.gloss && space === sign.space);
  if (same) return "The server has a sign of this name, and that one is used. Delete this one, or the other.";
  return "Taught to another model: this one cannot use it.";
}
