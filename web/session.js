// A session: keeps a connection alive, begins a new one with growing pauses when it is lost, and moves to
// another server when its own is about to stop.

import { Connection, ConnectionError, refusal, request } from "./connection.js";

const FIRST_PAUSE_S = 1;
const LONGEST_PAUSE_S = 15;
const STEADY_MS = 5_000; // a connection that held this long starts the pauses anew
const MOVE_PAUSE_S = 2; // between two attempts to move

/**
 * Events: `state` (detail {state, error, waitS}), `message` and `roundtrip` (see Connection).
 * States: connecting, live, reconnecting, waiting (counting down to the next attempt), failed.
 */
export class Session extends EventTarget {
  #settings;
  #connection = null;
  #next = null; // while it moves: the connection that is to follow
  #stopped = false;
  #wake = () => {};

  constructor({ stream, frameRate, token }) {
    super();
    this.#settings = { stream, frameRate, token };
  }

  /** Runs until `stop()` or until trying again cannot help. */
  async run() {
    let failures = 0;
    let before = false; // was there ever a connection?
    while (!this.#stopped) {
      this.#setState(before ? "reconnecting" : "connecting");
      let error;
      let sinceMs = Infinity;
      try {
        const next = await this.#connect((connection) => (this.#connection = connection));
        if (!next || this.#stopped) return;
        before = true;
        sinceMs = performance.now();
        this.#begin(next);
        error = await this.#lost();
      } catch (reason) {
        error = reason;
      }
      this.#connection?.close();
      if (this.#stopped) return;
      if (!(error instanceof ConnectionError)) throw error;
      if (!error.retry) {
        this.#setState("failed", { error });
        return;
      }
      failures = performance.now() - sinceMs > STEADY_MS ? 0 : failures + 1;
      const growing = Math.min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** Math.max(0, failures - 1));
      await this.#pause(error.afterS ?? growing, error);
    }
  }

  stop() {
    this.#stopped = true;
    this.#connection?.close();
    this.#next?.close();
    this.#wake();
  }

  /** Do not wait for the end of the countdown. */
  retryNow() {
    this.#wake();
  }

  send(message) {
    this.#connection?.send(message);
  }

  /** See Connection.request. */
  async request(suffix, options) {
    if (!this.#connection) throw new ConnectionError("closed", "There is no connection.");
    return this.#connection.request(suffix, options);
  }

  /** See Connection.outbound; null while there is no connection. */
  async outbound() {
    return (await this.#connection?.outbound()) ?? null;
  }

  /** A new connection and the hello that came over it; `made` gets the connection before it is open. */
  async #connect(made) {
    const { stream, frameRate, token } = this.#settings;
    const response = await request("api/ice", token);
    if (!response.ok) throw await refusal(response);
    const { ice_servers: iceServers } = await response.json();
    if (this.#stopped) return null;
    const connection = new Connection({ stream, frameRate, token, iceServers });
    made(connection);
    return { connection, hello: await connection.open() };
  }

  /** From now on what comes over this connection counts. */
  #begin({ connection, hello }) {
    this.#connection = connection;
    const pass = (name, detail) => {
      if (!this.#stopped && connection === this.#connection) this.dispatchEvent(new CustomEvent(name, { detail }));
    };
    connection.addEventListener("roundtrip", ({ detail }) => pass("roundtrip", detail));
    connection.addEventListener("message", ({ detail }) => {
      if (detail.type === "error" && detail.code === "stopping") this.#move(connection, () => pass("message", detail));
      else pass("message", detail);
    });
    pass("message", hello);
    this.#setState("live");
  }

  /** Why the connection was lost that counts by then. */
  async #lost() {
    for (;;) {
      const connection = this.#connection;
      const error = await connection.lost;
      if (connection === this.#connection) return error;
    }
  }

  /**
   * Begin a connection to another server while the old one still works, and then leave that. `failed` is
   * called once if there is none for now; it is tried again for as long as the old connection holds.
   */
  async #move(old, failed) {
    let over = false;
    old.lost.then(() => (over = true));
    for (let first = true; !over && !this.#stopped; first = false) {
      let useless = null;
      try {
        const next = await this.#connect((connection) => (useless = this.#next = connection));
        if (!next || over || this.#stopped) break;
        this.#setState("reconnecting");
        this.#begin(next);
        useless = old;
        break;
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        if (first) failed();
      } finally {
        this.#next = null;
        useless?.close();
      }
      await new Promise((resolve) => setTimeout(resolve, MOVE_PAUSE_S * 1000 * (0.5 + Math.random())));
    }
  }

  async #pause(seconds, error) {
    const untilMs = performance.now() + seconds * 1000 * (0.9 + 0.2 * Math.random());
    let woken = false;
    while (!woken && !this.#stopped) {
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) return;
      this.#setState("waiting", { error, waitS: Math.ceil(leftMs / 1000) });
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.min(1000, leftMs));
        this.#wake = () => {
          woken = true;
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  #setState(state, { error = null, waitS = null } = {}) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, error, waitS } }));
  }
}
