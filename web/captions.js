// The captions of somebody's session, for others: reads server-sent events and shows the last signs.
//
// `?contrast=high` puts the words on black, as does the key C; `?hold=S` keeps them S seconds after the
// last one (20; 0: for good).

import { element } from "./elements.js";

const MOST = 12; // words; the server keeps as many
const HOLD_S = 20;
const AGAIN_MS = 10_000; // after a refusal other than "there are none"
const GONE_MS = 120_000; // captions that were there may come back at another server, or after a restart
const SOON_MS = 3_000;

const STATES = {
  connecting: "Connecting",
  live: "",
  paused: "The signer has stopped.",
  ended: "These captions have ended, or the address is wrong.",
  lost: "No connection. Trying again.",
};

const at = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const given = Number.parseFloat(query.get("hold") ?? "");
const holdMs = 1000 * (given >= 0 ? given : HOLD_S);
const events = new URL(location.href);
events.pathname += "/events";

const words = new Map(); // number of the line -> element
let heardMs = -Infinity; // when the last message came
let fading = 0;

/** Shows the newest sign, or its newest state, in the order of their numbers. */
function show({ n, gloss, final }) {
  let word = words.get(n);
  if (!word) {
    if (words.size >= MOST && n < Math.min(...words.keys())) return;
    word = element("span", "word");
    word.dataset.n = n;
    words.set(n, word);
    const newer = [...at("words").children].find((other) => Number(other.dataset.n) > n);
    at("words").insertBefore(word, newer ?? null);
    if (words.size > MOST) forget(Math.min(...words.keys()));
  }
  const open = word.dataset.final !== "true";
  word.textContent = gloss;
  word.dataset.final = String(final);
  if (final && open) say(gloss);
  hold(holdMs);
}

function forget(n) {
  words.get(n).remove();
  words.delete(n);
}

/** For screen readers: each sign once, when it will not change any more. */
function say(gloss) {
  at("log").append(element("span", "", `${gloss} `));
  if (at("log").children.length > MOST) at("log").firstElementChild.remove();
}

/** Keeps the words for so long. */
function hold(ms) {
  clearTimeout(fading);
  at("words").dataset.old = String(ms <= 0 && holdMs > 0);
  if (ms > 0) fading = setTimeout(() => (at("words").dataset.old = "true"), ms);
}

function setState(name) {
  document.documentElement.dataset.state = name;
  if (at("state").textContent !== STATES[name]) at("state").textContent = STATES[name];
}

/** All that is known: after this page came, and when the session's state changes. */
function showAll({ state, now_s: nowS, lines }) {
  setState(state);
  const kept = new Set(lines.map(({ n }) => n));
  for (const n of words.keys()) if (!kept.has(n)) forget(n);
  for (const line of lines) show(line);
  const newest = lines.at(-1);
  if (newest) hold(holdMs - 1000 * Math.max(0, nowS - newest.end_s));
}

function read() {
  const source = new EventSource(events);
  source.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    heardMs = performance.now();
    if (message.type === "line") show(message);
    if (message.type === "captions") showAll(message);
    if (message.state === "ended") source.close();
  });
  source.addEventListener("error", async () => {
    if (document.documentElement.dataset.state === "ended") return;
    setState("lost");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    const status = await fetch(location.href, { method: "HEAD" }).then((response) => response.status, () => 0);
    if (status === 404 && performance.now() - heardMs < GONE_MS) setTimeout(read, SOON_MS);
    else if (status === 404) setState("ended");
    else setTimeout(read, AGAIN_MS);
  });
}

function setContrast(name) {
  document.documentElement.dataset.contrast = name;
}

document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey }) => {
  if (key.toLowerCase() !== "c" || ctrlKey || metaKey || altKey) return;
  setContrast(document.documentElement.dataset.contrast === "high" ? "" : "high");
});

setContrast(query.get("contrast") === "high" ? "high" : "");
setState("connecting");
read();
