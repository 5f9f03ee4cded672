// Captions for others: asks the server for an address that shows this page's signs, and for no more.
//
// The address goes on when the connection comes back, and when the page is loaded again in the same
// tab: the key that the server gave is kept there.

import { address, refusal } from "./connection.js";
import { button, element } from "./elements.js";

const KEY = "livegloss.captions.1";

export class CaptionsShare {
  #root;
  #request;
  #key = "";
  #page = element("input");
  #open = element("a", "", "Open");
  #vtt = element("a", "", "WebVTT stream");
  #begin = button("plain", "Captions for others");
  #copy = button("plain", "Copy");
  #stop = button("plain", "Stop sharing");
  #box = element("div", "shared");
  #say = element("p", "note");
  #fault = element("p", "fault");

  /** `request(suffix, options)` reaches the session's own address; throws where there is none. */
  constructor({ root, request, announce }) {
    this.#root = root;
    this.#request = request;
    this.#fault.role = "alert";
    Object.assign(this.#page, { readOnly: true, id: "share-page" });
    this.#page.setAttribute("aria-label", "Address of the captions");
    this.#page.addEventListener("focus", () => this.#page.select());
    for (const link of [this.#open, this.#vtt]) Object.assign(link, { target: "_blank", rel: "noopener" });
    this.#begin.addEventListener("click", () => this.#ask(true));
    this.#stop.addEventListener("click", () => this.#end());
    this.#copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(this.#page.value);
        announce("Address copied");
        this.#fault.textContent = "";
      } catch {
        this.#fault.textContent = "The browser did not allow copying. Select the address and copy it yourself.";
      }
    });
    const line = element("p", "address");
    line.append(this.#page, this.#copy, this.#open, this.#vtt, this.#stop);
    this.#box.append(line, this.#say);
    root.append(this.#begin, this.#box, this.#fault);
    this.#show(null);
    try {
      this.#key = sessionStorage.getItem(KEY) ?? "";
    } catch {
      // this browser keeps nothing: a reload makes a new address
    }
  }

  /** A session has begun: the captions, if there are any, go on with it. */
  hello() {
    if (this.#key) this.#ask(false);
  }

  async #ask(pressed) {
    const body = this.#key ? JSON.stringify({ key: this.#key }) : undefined;
    const options = { method: "PUT", body, headers: { "Content-Type": "application/json" } };
    let shared;
    try {
      const response = await this.#request("/captions", options);
      if (!response.ok) throw await refusal(response);
      shared = await response.json();
    } catch (error) {
      const why = error.code === "closed" ? "Start the camera first." : error.message;
      this.#fault.textContent = why;
      return;
    }
    this.#keep(shared.key);
    const before = this.#page.value;
    this.#show(shared);
    this.#fault.textContent = before && before !== this.#page.value ? "The address is a new one: the server had forgotten the old one." : "";
    if (pressed) this.#page.focus();
  }

  async #end() {
    try {
      const response = await this.#request("/captions", { method: "DELETE" });
      if (!response.ok && response.status !== 404) throw await refusal(response);
    } catch (error) {
      // Without a session nothing is shown. Without its key this page never goes on with the captions.
      if (error.code !== "closed") {
        this.#fault.textContent = error.message;
        return;
      }
    }
    this.#keep("");
    this.#show(null);
    this.#fault.textContent = "";
    this.#begin.focus();
  }

  #keep(key) {
    this.#key = key;
    try {
      if (key) sessionStorage.setItem(KEY, key);
      else sessionStorage.removeItem(KEY);
    } catch {
      // see above
    }
  }

  #show(shared) {
    this.#root.dataset.on = String(Boolean(shared));
    this.#begin.hidden = Boolean(shared);
    this.#box.hidden = !shared;
    this.#page.value = shared ? address(shared.page).href : "";
    if (!shared) return;
    this.#open.href = address(shared.page).href;
    this.#vtt.href = address(shared.vtt).href;
    const here = /^(localhost|127\.|\[::1\])/.test(address("").hostname) ? " It works on this computer only." : "";
    this.#say.textContent = `Who has this address reads your signs as captions, in a browser or in OBS (Browser Source), and sees no video.${here}`;
  }
}
