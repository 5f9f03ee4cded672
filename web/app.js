// Where the page's parts meet: the camera goes into a session, its messages go to what shows them.

import { CameraError, closeCamera, openCamera } from "/static/camera.js";
import { ConnectionError } from "/static/connection.js";
import { Candidates, CurrentSign } from "/static/current.js";
import { download } from "/static/download.js";
import { fetchModel, ModelCard } from "/static/model.js";
import { Overlay } from "/static/overlay.js";
import { PracticePanel } from "/static/practice.js";
import { Session } from "/static/session.js";
import { Tabs } from "/static/tabs.js";
import { TeachPanel } from "/static/teach.js";
import { Transcript } from "/static/transcript.js";
import { Vitals } from "/static/vitals.js";

const STATS_MS = 1_000;
const HINT_MS = 5_000;

const at = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const token = new URLSearchParams(location.hash.slice(1)).get("token");

const current = new CurrentSign({ box: at("current"), word: at("current-word"), sure: at("current-sure") });
const candidates = new Candidates({ list: at("candidates"), idle: at("idle") });
const transcript = new Transcript({
  list: at("transcript"),
  empty: at("transcript-empty"),
  announcer: at("announcer"),
});
const modelCard = new ModelCard({
  glosses: at("glosses"),
  count: at("gloss-count"),
  facts: at("facts"),
  searchBox: at("search-box"),
  search: at("search"),
  found: at("search-count"),
});
const vitals = new Vitals({
  status: at("status"),
  text: at("status-text"),
  box: at("vitals"),
  latency: at("latency"),
  latencyBox: at("latency-box"),
  fps: at("fps"),
  fpsBox: at("fps-box"),
});
const overlay = new Overlay({ box: at("overlay"), video: at("preview") });

new Tabs(at("tabs"));
const announce = (text) => (at("announcer").textContent = text);
const begin = () => (session ? undefined : start());
const practice = new PracticePanel({ root: at("panel-practice"), announce, start: begin });
const teach = new TeachPanel({
  root: at("panel-teach"),
  send: (message) => session?.send(message),
  request: (suffix, options) => session.request(suffix, options),
  announce,
  start: begin,
});
at("panel-teach").addEventListener("taught", ({ detail }) => practice.taught(detail));

let model = null;
let stream = null;
let session = null;
let run = 0; // counts presses of Start, so that what an earlier one began can tell it is over
let hintTimer = 0;
let standing = null; // the hint that holds until the server says otherwise

async function loadModel() {
  model ??= await fetchModel(token);
  modelCard.show(model);
  practice.model(model);
  teach.model(model);
}

/** What the camera and the connection are at, for all who show it. */
function tellState(name) {
  for (const part of [vitals, practice, teach]) part.state(name);
}

async function start() {
  const mine = ++run;
  showProblem(null);
  at("toggle").textContent = "Stop";
  tellState("camera");
  current.rest("Allow the camera if the browser asks");
  try {
    await loadModel();
    const opened = await openCamera(model.camera, fail);
    if (mine !== run) return closeCamera(opened);
    showPreview(opened);
  } catch (error) {
    if (mine === run) fail(error);
    return;
  }
  session = new Session({ stream, frameRate: model.camera.frame_rate, token });
  session.addEventListener("state", ({ detail }) => onState(detail));
  session.addEventListener("message", ({ detail }) => onMessage(detail));
  session.addEventListener("roundtrip", ({ detail }) => vitals.roundTrip(detail));
  watchVideo(session);
  session.run().catch(fail);
}

function stop() {
  run += 1;
  session?.stop();
  session = null;
  if (stream) closeCamera(stream);
  showPreview(null);
  transcript.settle();
  candidates.clear();
  forgetHints();
  at("toggle").textContent = "Start camera";
  tellState("off");
  if (current.empty) current.rest("Start the camera and sign");
}

function fail(error) {
  stop();
  const known = error instanceof CameraError || error instanceof ConnectionError;
  showProblem(known ? error : { code: "page", message: "The page itself has a fault. Reload it." });
  tellState("failed");
  if (!known) throw error;
}

function onState({ state, error, waitS }) {
  if (state === "failed") {
    fail(error);
    return;
  }
  tellState(state);
  showProblem(error, waitS);
  if (state === "live") {
    if (current.empty) current.rest("Sign to the camera");
    return;
  }
  if (current.empty) current.rest(state === "waiting" ? "No connection yet" : "Connecting");
  transcript.settle();
  candidates.clear();
  forgetHints();
}

function onMessage(message) {
  overlay.message(message);
  switch (message.type) {
    case "hello":
      transcript.begin(message.session);
      if (model.name !== message.model.name) {
        model = null; // the server came back with another model
        loadModel().catch((error) => console.warn(error.message));
      }
      practice.hello(message);
      teach.hello(message);
      break;
    case "prediction":
      candidates.show(message);
      practice.prediction(message);
      vitals.latency(message.latency_ms);
      break;
    case "sign":
      current.show(message);
      transcript.show(message);
      modelCard.mark(message.gloss);
      practice.sign(message);
      teach.sign(message);
      at("copy").hidden = at("clear").hidden = at("save").hidden = false;
      break;
    case "hint":
      standing = message.code === "ok" ? null : message;
      showHint(standing);
      break;
    case "take":
      teach.take(message);
      break;
    case "error":
      if (message.code === "take") {
        teach.error(message);
        break;
      }
      showHint({ code: message.code, text: message.message });
      break;
  }
}

async function watchVideo(mine) {
  while (session === mine) {
    const sent = await mine.outbound();
    if (sent && session === mine) vitals.sent(sent);
    await new Promise((resolve) => setTimeout(resolve, STATS_MS));
  }
}

function showPreview(opened) {
  stream = opened;
  at("preview").srcObject = opened;
  at("stage").dataset.on = String(opened !== null);
  at("preview-toggle").hidden = opened === null;
  if (opened) at("preview").play().catch(() => {}); // no preview is no reason to stop
}

function hidePreview(hide) {
  at("stage").dataset.preview = hide ? "off" : "on";
  at("preview-toggle").textContent = hide ? "Show picture" : "Hide picture";
}

function showProblem(error, waitS = null) {
  at("problem").hidden = !error;
  at("problem").dataset.code = error?.code ?? "";
  const text = error?.message ?? "";
  // Only when it changes: a countdown must not make a screen reader say it every second.
  if (at("problem-text").textContent !== text) at("problem-text").textContent = text;
  at("countdown").textContent = waitS ? `Trying again in ${waitS} s.` : "";
  at("retry").hidden = !waitS;
}

function showHint(hint) {
  clearTimeout(hintTimer);
  at("hint").hidden = !hint;
  at("hint").dataset.code = hint?.code ?? "";
  at("hint").textContent = hint?.text ?? "";
  if (hint !== standing) hintTimer = setTimeout(() => showHint(standing), HINT_MS);
}

function forgetHints() {
  standing = null;
  showHint(null);
  overlay.clear();
}

at("toggle").addEventListener("click", () => (at("toggle").textContent === "Stop" ? stop() : start()));
at("retry").addEventListener("click", () => session?.hurry());
at("preview-toggle").addEventListener("click", () => hidePreview(at("stage").dataset.preview !== "off"));
at("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(transcript.text());
  at("announcer").textContent = "Transcript copied";
});
at("save").addEventListener("change", ({ target }) => {
  if (target.value) download(transcript.signs, target.value);
  target.value = "";
});
at("clear").addEventListener("click", () => {
  session?.send({ type: "clear" });
  transcript.clear();
  current.rest(session ? "Sign to the camera" : "Start the camera and sign");
  at("copy").hidden = at("clear").hidden = at("save").hidden = true;
  at("toggle").focus();
});
window.addEventListener("online", () => session?.hurry());
window.addEventListener("pagehide", () => {
  if (session) stop();
});

hidePreview(query.get("preview") === "off");
vitals.state("off");
current.rest("Start the camera and sign");
if (query.get("autostart") === "1") start();
else loadModel().catch((error) => showProblem(error));
