// livegloss for other sites: the recogniser of the server from which this module comes.
//
//   import { Livegloss } from "https://signs.example/livegloss.js";
//   const livegloss = new Livegloss();
//   livegloss.on("sign", ({ gloss, final }) => { if (final) console.log(gloss); });
//   await livegloss.start();
//
// The server must name the site's origin (--allow-origin). docs/guides/embed.md is the guide.
// What comes are gloss guesses, not a translation: say so where you show them.

import { CameraError, closeCamera, openCamera } from "./camera.js";
import { ConnectionError } from "./connection.js";
import { fetchModel } from "./model.js";
import { Session } from "./session.js";

export { CameraError, ConnectionError };

/**
 * @typedef {object} Options
 * @property {string} [token] the server's token, if it asks for one (--token)
 * @property {HTMLVideoElement} [video] shows the camera's picture while it is open, as it is: mirror it in CSS
 * @property {MediaStream} [stream] sent instead of the camera; it stays yours, `stop` leaves it as it is
 * @property {string} [camera] `deviceId` of the camera wanted; another one is taken where it is not there
 */

/**
 * @typedef {object} Candidate
 * @property {string} gloss
 * @property {number} p probability, 0 to 1
 */

/**
 * A sign. A later one with the same `session` and `id` replaces it, until one is `final`.
 * @typedef {object} Sign
 * @property {number} session counts starts and reconnects from 1; `id` counts from 1 in each
 * @property {number} id
 * @property {string} gloss
 * @property {number} p probability, 0 to 1
 * @property {Candidate[]} alternatives likeliest first
 * @property {number} start_s seconds of the session's video
 * @property {number} end_s
 * @property {boolean} final
 */

/**
 * What the model says of the last two seconds or so, several times a second.
 * @typedef {object} Prediction
 * @property {number} seq
 * @property {Candidate[]} top likeliest first
 * @property {number} idle probability that nobody signs a sign that the model knows
 * @property {{start_s: number, end_s: number}} window seconds of the session's video
 * @property {number[]} attention how much each moment of the window counted; the sum is 1
 * @property {Record<string, number>} latency_ms `total`, and each stage
 */

/**
 * @typedef {object} Hint
 * @property {string} code "ok" when all is well again
 * @property {string} text what would help the signer, as a sentence
 * @property {?string} edge where in the picture: left, top, right, bottom
 */

/**
 * off; camera (waits for the person's permission); connecting; live; reconnecting; waiting (for the next
 * attempt); failed (it has stopped, see the error).
 * @typedef {"off"|"camera"|"connecting"|"live"|"reconnecting"|"waiting"|"failed"} State
 */

/**
 * What went wrong. `message` is a sentence for a person, `code` is for programs. Of the camera: insecure,
 * unsupported, denied, system, missing, busy, gone. Of the connection: origin (this site is not allowed),
 * token, unreachable, full, ice, dtls, lost, refused, protocol, server, stopped.
 * @typedef {CameraError|ConnectionError} Failure
 */

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string[]} glosses the signs that it knows
 * @property {string} [licence]
 */

/**
 * What `on` takes, and what it calls back with.
 * @typedef {object} Events
 * @property {(prediction: Prediction) => void} prediction
 * @property {(sign: Sign) => void} sign
 * @property {(hint: Hint) => void} hint
 * @property {(state: State, waitS: ?number) => void} state `waitS`: seconds to the next attempt, where it waits
 * @property {(error: Failure) => void} error it tries again by itself unless the state is `failed`
 */

const EVENTS = ["prediction", "sign", "hint", "state", "error"];
const running = new Set(); // what must stop when the page goes away

window.addEventListener("pagehide", () => running.forEach((one) => one.stop()));

/** One recogniser: at most one camera and one session at a time. Several may run side by side. */
export class Livegloss {
  #options;
  #listeners = new Map(); // name -> Set of callbacks
  #state = "off";
  #model = null;
  #run = null; // {stream, own, session, started} from start to stop
  #sessions = 0;

  /** @param {Options} [options] */
  constructor(options = {}) {
    this.#options = options;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** @returns {?Model} the server's model; null before the first start */
  get model() {
    return this.#model;
  }

  /**
   * Calls `callback` for each event of a kind.
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} callback
   * @returns {() => void} takes the callback away again
   */
  on(name, callback) {
    if (!EVENTS.includes(name)) throw new TypeError(`livegloss has no event “${name}”`);
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(callback);
    return () => this.#listeners.get(name).delete(callback);
  }

  /**
   * Opens the camera and begins a session; called again meanwhile it begins no second one. A server that is
   * full, or that is lost later, is tried again until `stop`; `error` and `state` tell of that.
   * @returns {Promise<Model>} once signs can come
   * @throws {Failure} trying again can't help, or it was stopped meanwhile (`stopped`)
   */
  start() {
    if (!this.#run) {
      const run = { stream: null, own: !this.#options.stream, session: null };
      run.started = new Promise((resolve, reject) => Object.assign(run, { resolve, reject }));
      run.started.catch(() => {}); // the `error` event has told it, too
      this.#run = run;
      running.add(this);
      this.#open(run).catch((error) => this.#fail(run, error));
    }
    return this.#run.started;
  }

  /** Ends the session and lets the camera go, at once. Safe to call at any time. */
  stop() {
    const run = this.#run;
    if (!run) return;
    this.#close(run);
    run.reject(new ConnectionError("stopped", "It was stopped before it was live.", { retry: false }));
    this.#setState("off");
  }

  async #open(run) {
    const { token, stream, camera = "", video } = this.#options;
    this.#setState("camera");
    this.#model = await fetchModel(token);
    if (run !== this.#run) return;
    const opened = stream ?? (await openCamera(this.#model.camera, camera, (error) => this.#fail(run, error)));
    if (run !== this.#run) {
      if (run.own) closeCamera(opened);
      return;
    }
    run.stream = opened;
    if (video) {
      Object.assign(video, { srcObject: opened, muted: true, playsInline: true });
      video.play().catch(() => {}); // the page may have taken the element away
    }
    run.session = new Session({ stream: opened, frameRate: this.#model.camera.frame_rate, token });
    run.session.addEventListener("message", ({ detail }) => {
      if (run !== this.#run) return;
      switch (detail.type) {
        case "hello":
          this.#sessions += 1;
          break;
        case "sign":
          this.#emit("sign", { ...detail, session: this.#sessions });
          break;
        case "prediction":
        case "hint":
          this.#emit(detail.type, detail);
          break;
        case "error":
          this.#emit("error", new ConnectionError(detail.code, detail.message));
          break;
      }
    });
    run.session.addEventListener("state", ({ detail: { state, error, waitS } }) => {
      if (run !== this.#run) return;
      if (state === "failed") return this.#fail(run, error);
      if (error && this.#state !== state) this.#emit("error", worded(error)); // once, not each second
      this.#setState(state, waitS);
      if (state === "live") run.resolve(this.#model);
    });
    await run.session.run();
  }

  #fail(run, error) {
    if (run !== this.#run) return;
    this.#close(run);
    const failure = worded(error);
    run.reject(failure);
    this.#emit("error", failure);
    this.#setState("failed");
  }

  #close(run) {
    this.#run = null;
    running.delete(this);
    run.session?.stop();
    if (run.stream && run.own) closeCamera(run.stream);
    const { video } = this.#options;
    if (video && video.srcObject === run.stream) video.srcObject = null;
  }

  #setState(state, waitS = null) {
    if (state === this.#state && waitS === null) return;
    this.#state = state;
    this.#emit("state", state, waitS);
  }

  // A callback that throws must not disturb the session: the browser reports it.
  #emit(name, ...details) {
    for (const callback of this.#listeners.get(name) ?? []) {
      try {
        callback(...details);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

/** An error of the page's parts, in words that fit another site: it has other buttons and addresses. */
function worded(error) {
  if (error instanceof CameraError) return new CameraError(error.code, error.message.replace("press Start camera", "start again"));
  if (error.code === "token") return new ConnectionError("token", "This server asks for a token, or for another one.", error);
  return error;
}
