// A list of tabs: one panel shows at a time; arrow keys, Home and End move along it.

export class Tabs {
  #tabs;

  constructor(list) {
    this.#tabs = [...list.querySelectorAll("[role=tab]")];
    for (const tab of this.#tabs) tab.addEventListener("click", () => this.#show(tab));
    list.addEventListener("keydown", (event) => {
      const at = this.#tabs.indexOf(document.activeElement);
      const last = this.#tabs.length - 1;
      const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.#show(this.#tabs[to]);
      this.#tabs[to].focus();
    });
  }

  /** Shows the panel of the tab with this id. */
  choose(id) {
    this.#show(this.#tabs.find((tab) => tab.id === id));
  }

  #show(shown) {
    for (const tab of this.#tabs) {
      tab.setAttribute("aria-selected", String(tab === shown));
      tab.tabIndex = tab === shown ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== shown;
    }
  }
}
