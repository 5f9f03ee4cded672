// One connection: a WebRTC peer set up over WHIP (RFC 9725), its `results` channel and heartbeat.
// It does not retry: session.js does.

const GATHER_MS = 500; // wait this long for addresses before the offer goes out; later ones trickle
const CONNECT_MS = 12_000;
const PING_MS = 1_000;
const SILENCE_MS = 4_000; // four pings unanswered, and nothing else came: the other side is gone
const SHAKY_MS = 4_000; // how long a connection may be "disconnected" before it counts as lost
const PROTOCOL = 1;

/**
 * Why there is no connection. `retry`: trying again can help; `afterS`: seconds that the server asked
 * to wait (null: it did not ask).
 */
export class ConnectionError extends Error {
  constructor(code, message, { retry = true, afterS = null } = {}) {
    super(message);
    Object.assign(this, { code, retry, afterS });
  }
}

// How far a connection came that did not come about, and what is known of the cause.
const STAGES = {
  ice: "The server can be reached, but not by video: no way for it was found (ICE). The network here or the server's may not let UDP pass. Another network may help.",
  dtls: "The server was found, but the video could not be encrypted for it (DTLS). Try again; if that does not help, try another browser.",
  silent: "The server was found and takes the video, but sends nothing back. Try again.",
};

// Why a server ended a session that it had greeted.
const ENDS = new Map(Object.entries({
  "no video": "The camera is on, but sends no picture. Is it covered or switched off? Another program may be using it.",
  flood: "This browser sent far more data than video needs, so the server ended the connection.",
}));

const unreachable = () =>
  new ConnectionError("unreachable", "The server cannot be reached. Check that it runs and that you are online.");

// The server: these modules lie one folder below its root. It is not the page's where another site
// imports them (livegloss.js).
const ROOT = new URL("..", import.meta.url);
let answered = false; // this server has let this page read a response

/** The whole address of a path of the server; what is whole already stays. */
export const address = (path) => new URL(path, ROOT);

/** Whether the server responds, although this page may not read what: it does not name its origin. */
async function refusesOrigin() {
  if (ROOT.origin === location.origin || answered) return false;
  const options = { mode: "no-cors", signal: AbortSignal.timeout(CONNECT_MS) };
  return fetch(address("healthz"), options).then(() => true, () => false);
}

/** The ConnectionError of a request that failed with `error`, without a response. */
async function unanswered(error) {
  if (error.name === "TypeError" && (await refusesOrigin())) {
    const text = `The server ${ROOT.origin} does not let pages of ${location.origin} use it. Its operator can: --allow-origin ${location.origin}`;
    return new ConnectionError("origin", text, { retry: false });
  }
  return unreachable();
}

function noToken(wrong) {
  const why = wrong ? "The token in this page's address is not this server's." : "This server asks for a token.";
  const text = `${why} Open the page with the whole address that the server printed; it ends in #token=…`;
  return new ConnectionError("token", text, { retry: false });
}

/** fetch with the server's token; a network failure becomes a ConnectionError. */
export async function request(path, token, options = {}) {
  const headers = new Headers(options.headers);
  try {
    if (token) headers.set("Authorization", `Bearer ${token}`);
  } catch {
    throw noToken(true); // it has characters that no token has
  }
  try {
    const response = await fetch(address(path), { signal: AbortSignal.timeout(CONNECT_MS), ...options, headers });
    answered = true;
    return response;
  } catch (error) {
    throw await unanswered(error);
  }
}

/** The ConnectionError, in words for a person, of a response that is not a success. */
export async function refusal(response) {
  const { status } = response;
  const detail = await response.json().then((body) => body.detail || body.title, () => "");
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const afterS = Number.isFinite(wait) ? Math.max(1, wait) : null;
  if (status === 401) return noToken(response.headers.get("WWW-Authenticate")?.includes("invalid_token"));
  if (status === 429 || status === 503) {
    return new ConnectionError("full", detail || "The server is full.", { afterS });
  }
  if (status >= 500) return new ConnectionError("server", `The server had a problem (${status}). ${detail}`.trim(), { afterS });
  const text = `The server did not accept this browser's video (${status}). ${detail}`.trim();
  return new ConnectionError("refused", text, { retry: false });
}

/**
 * Events: `message` (detail: one object of the protocol), `roundtrip` (detail: ms).
 * `open()` resolves with the server's hello; `lost` resolves with a ConnectionError afterwards.
 */
export class Connection extends EventTarget {
  #peer;
  #channel;
  #token;
  #location = null; // of the session, for PATCH and DELETE
  #etag = null;
  #late = []; // candidates that missed the offer
  #patches = Promise.resolve();
  #timers = new Set();
  #receivedMs = 0;
  #closed = false;
  #end = null; // why the server is about to end it, if it said so
  #lose;

  constructor({ stream, iceServers, frameRate, token }) {
    super();
    this.#token = token;
    this.lost = new Promise((resolve) => (this.#lose = resolve));
    this.#peer = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    const [track] = stream.getVideoTracks();
    const video = this.#peer.addTransceiver(track, {
      direction: "sendonly",
      streams: [stream],
      sendEncodings: [{ maxFramerate: frameRate }],
    });
    const codecs = RTCRtpSender.getCapabilities("video")?.codecs;
    if (codecs && video.setCodecPreferences) {
      const isVp8 = (codec) => codec.mimeType.toLowerCase() === "video/vp8";
      video.setCodecPreferences([...codecs.filter(isVp8), ...codecs.filter((codec) => !isVp8(codec))]);
    }
    this.#channel = this.#peer.createDataChannel("results");
  }

  async open() {
    const hello = new Promise((resolve, reject) => {
      this.#listen(resolve, reject);
      this.#after(CONNECT_MS, () => reject(this.#unconnected()));
    });
    const ended = this.lost.then((error) => Promise.reject(error));
    for (const promise of [hello, ended]) promise.catch(() => {}); // the offer may fail first
    await Promise.race([this.#offer(), ended]);
    const greeting = await Promise.race([hello, ended]);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#beat();
    return greeting;
  }

  send(message) {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  /** fetch of the session's own address and `suffix`; throws a ConnectionError without a session. */
  async request(suffix, options) {
    if (!this.#location) throw new ConnectionError("closed", "There is no session.");
    return request(`${this.#location}${suffix}`, this.#token, options);
  }

  /** What is sent now, {fps, width, height} as far as the browser reports; null before that. */
  async outbound() {
    for (const report of (await this.#peer.getStats()).values()) {
      if (report.type === "outbound-rtp" && report.kind === "video") {
        return { fps: report.framesPerSecond ?? 0, width: report.frameWidth, height: report.frameHeight };
      }
    }
    return null;
  }

  /** End it, here and on the server. Safe to call twice, and while the page goes away. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#lose(new ConnectionError("closed", "The connection was closed here."));
    for (const timer of this.#timers) clearTimeout(timer);
    // The server first: were the peer closed before, DELETE would find the session gone.
    this.#hangUp().finally(() => this.#peer.close());
  }

  #after(ms, act) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  /** Why there was no hello: the first stage that was not completed. */
  #unconnected() {
    const found = ["connected", "completed"].includes(this.#peer.iceConnectionState);
    const dtls = this.#peer.getSenders()[0]?.transport?.state;
    const stage = dtls === "connected" ? "silent" : dtls === "failed" || found ? "dtls" : "ice";
    return new ConnectionError(stage, STAGES[stage]);
  }

  #listen(resolve, reject) {
    const end = (text) => this.#lose(new ConnectionError("lost", text));
    this.#peer.addEventListener("connectionstatechange", () => {
      const state = this.#peer.connectionState;
      if (state === "failed") {
        reject(this.#unconnected()); // without effect once the server has sent its hello
        end("The connection was lost.");
      }
      if (state === "disconnected") {
        this.#after(SHAKY_MS, () => {
          if (this.#peer.connectionState === "disconnected") end("The connection was lost.");
        });
      }
    });
    this.#channel.addEventListener("close", () => {
      this.#location = null; // the session is over there: nothing to DELETE
      if (this.#end) this.#lose(this.#end);
      end("The server ended the connection.");
    });
    this.#channel.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      this.#receivedMs = performance.now();
      if (message.type === "pong") {
        this.dispatchEvent(new CustomEvent("roundtrip", { detail: this.#receivedMs - message.t }));
      } else if (message.type === "hello" && message.protocol !== PROTOCOL) {
        const text = "This page has another version than the server. Reload it.";
        reject(new ConnectionError("protocol", text, { retry: false }));
      } else {
        if (message.type === "hello") resolve(message);
        const why = message.type === "error" && ENDS.get(message.code);
        if (why) this.#end = new ConnectionError(message.code, why);
        else this.dispatchEvent(new CustomEvent("message", { detail: message }));
      }
    });
  }

  async #offer() {
    const gathered = new Promise((resolve) => {
      this.#peer.addEventListener("icecandidate", ({ candidate }) => {
        this.#late.push(candidate); // null at the end
        if (!candidate) resolve();
        if (this.#location) this.#trickle();
      });
    });
    await this.#peer.setLocalDescription();
    await Promise.race([gathered, new Promise((resolve) => this.#after(GATHER_MS, resolve))]);
    let { sdp } = this.#peer.localDescription;
    if (this.#late.includes(null)) sdp = sdp.replace(/(a=candidate:.*\r\n)(?!a=candidate:)/g, "$1a=end-of-candidates\r\n");
    this.#late = []; // what was gathered by now stands in the offer
    const response = await request("whip", this.#token, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: sdp,
    });
    if (response.status !== 201) throw await refusal(response);
    this.#location = new URL(response.headers.get("Location"), response.url).href;
    this.#etag = response.headers.get("ETag");
    const answer = await response.text();
    if (this.#closed) return this.#hangUp(); // stopped while the request was under way
    await this.#peer.setRemoteDescription({ type: "answer", sdp: answer });
    if (this.#late.length) this.#trickle();
  }

  #trickle() {
    const candidates = this.#late.splice(0);
    const lines = this.#peer.localDescription.sdp.split("\r\n");
    const first = (prefix) => lines.find((line) => line.startsWith(prefix));
    const fragment = [
      first("a=ice-ufrag:"),
      first("a=ice-pwd:"),
      first("m="),
      first("a=mid:"),
      ...candidates.map((candidate) => (candidate ? `a=${candidate.candidate}` : "a=end-of-candidates")),
    ];
    const headers = { "Content-Type": "application/trickle-ice-sdpfrag" };
    if (this.#etag) headers["If-Match"] = this.#etag;
    const body = `${fragment.join("\r\n")}\r\n`;
    // In order, and best effort: the addresses in the offer are most often enough.
    this.#patches = this.#patches
      .then(() => request(this.#location, this.#token, { method: "PATCH", headers, body }))
      .catch((error) => console.warn("trickle:", error.message));
  }

  #beat() {
    this.#receivedMs = performance.now();
    const ping = () => {
      if (performance.now() - this.#receivedMs > SILENCE_MS) {
        this.#lose(new ConnectionError("lost", "The server stopped sending."));
        return;
      }
      this.send({ type: "ping", t: performance.now() });
      this.#after(PING_MS, ping);
    };
    ping();
  }

  async #hangUp() {
    if (!this.#location) return;
    const session = this.#location;
    this.#location = null;
    // keepalive: sent even while the page is being closed. Whether it arrives no longer matters here.
    const options = { method: "DELETE", keepalive: true };
    await request(session, this.#token, options).catch(() => {});
  }
}
