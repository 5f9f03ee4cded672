// Taught signs on the server, which keeps them for everyone who has its token.

import { refusal, request } from "./connection.js";
import { NotKept } from "./sign.js";

const TRIES = 3; // of one change, while other pages change the same sign

/** Methods throw ConnectionError where there is no response, NotKept where the server refuses. */
export class ServerStore {
  #token;
  #space;
  #signs = new Map(); // gloss -> sign, as last seen
  #etags = new Map(); // gloss -> ETag of that state

  constructor(token, space) {
    this.#token = token;
    this.#space = space;
  }

  get signs() {
    return [...this.#signs.values()];
  }

  async read() {
    const response = await this.#ask("");
    if (!response.ok) throw await fault(response);
    const { space, signs } = await response.json();
    if (space !== this.#space) throw new NotKept("The server has another model now. Reload the page.");
    this.#signs.clear();
    for (const { gloss, takes, etag } of signs) this.#see(gloss, takes, etag);
  }

  /**
   * Makes the takes of a sign what `change(takes)` gives for those that it has; with none left it is
   * deleted. `change` may be called again, where another page changed the sign meanwhile.
   */
  async change(gloss, change) {
    for (let left = TRIES; ; left -= 1) {
      const old = this.#signs.get(gloss)?.takes ?? [];
      const takes = change(old);
      if (!old.length && !takes.length) return;
      const response = await this.#put(gloss, takes, old.length > 0);
      if (response.ok || (response.status === 404 && !takes.length)) {
        if (takes.length) this.#see(gloss, takes, response.headers.get("ETag"));
        else this.#signs.delete(gloss);
        return;
      }
      if (response.status !== 412 || left === 1) throw await fault(response);
      await this.read();
    }
  }

  #see(gloss, takes, etag) {
    this.#signs.set(gloss, { gloss, space: this.#space, takes, place: "server" });
    this.#etags.set(gloss, etag);
  }

  #put(gloss, takes, old) {
    const headers = old ? { "If-Match": this.#etags.get(gloss) } : { "If-None-Match": "*" };
    const path = `/${encodeURIComponent(gloss)}`;
    if (!takes.length) return this.#ask(path, { method: "DELETE", headers });
    headers["Content-Type"] = "application/json";
    return this.#ask(path, { method: "PUT", headers, body: JSON.stringify({ space: this.#space, takes }) });
  }

  #ask(path, options) {
    return request(`api/signs${path}`, this.#token, options);
  }
}

async function fault(response) {
  if (response.status === 401) return refusal(response);
  const { detail } = await response.json().catch(() => ({}));
  return new NotKept(detail ?? `The server returned an error (${response.status}).`);
}
