// A session: keeps a connection alive, and begins a new one with growing pauses when it is lost.

import { Connection, ConnectionError, refusal, request } from "./connection.js";

const FIRST_PAUSE_S = 1;
const LONGEST_PAUSE_S = 15;
const STEADY_MS = 5_000; // a connection that held this long starts the pauses anew

/**
 * Events: `state` (detail {state, error, waitS}), `message` and `roundtrip` (see Connection).
 * States: connecting, live, reconnecting, waiting (counting down to the next attempt), failed.
 */
export class Session extends EventTarget {
  #settings;
  #connection = null;
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
        await this.#connect();
        if (this.#stopped) return;
        before = true;
        sinceMs = performance.now();
        this.#setState("live");
        error = await this.#connection.lost;
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

  async #connect() {
    const { stream, frameRate, token } = this.#settings;
    const response = await request("api/ice", token);
    if (!response.ok) throw await refusal(response);
    const { ice_servers: iceServers } = await response.json();
    if (this.#stopped) return;
    this.#connection = new Connection({ stream, frameRate, token, iceServers });
    for (const name of ["message", "roundtrip"]) {
      this.#connection.addEventListener(name, ({ detail }) => {
        if (!this.#stopped) this.dispatchEvent(new CustomEvent(name, { detail }));
      });
    }
    await this.#connection.open();
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
