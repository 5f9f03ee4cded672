// Connects the page's parts: the camera's stream -> session -> messages -> the parts that show them.

import { CameraError, closeCamera, openCamera } from "./camera.js";
import { CaptionsShare } from "./captions_share.js";
import { ConnectionError } from "./connection.js";
import { Candidates, CurrentSign } from "./current.js";
import { Figures } from "./figures.js";
import { GlossList } from "./gloss_list.js";
import { KnownSigns } from "./known_signs.js";
import { fetchModel, fetchThemes, showFacts } from "./model.js";
import { Moment } from "./moment.js";
import { HintLine, Problem } from "./notices.js";
import { Overlay } from "./overlay.js";
import { PracticePanel } from "./practice.js";
import { Preview } from "./preview.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { Strip } from "./strip.js";
import { TeachPanel } from "./teach.js";
import { Transcript } from "./transcript.js";
import { Vitals } from "./vitals.js";

const STATS_MS = 1_000;

/** A list of tabs: one panel shows at a time; arrow keys, Home and End move along it. */
class Tabs {
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

const at = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const token = new URLSearchParams(location.hash.slice(1)).get("token");

const candidates = new Candidates(at("candidates"));
const moment = new Moment({
  panel: at("now"),
  title: at("now-title"),
  note: at("idle"),
  current: new CurrentSign({ box: at("current"), word: at("current-word"), sure: at("current-sure") }),
  candidates,
});
const transcript = new Transcript({
  list: at("transcript"),
  empty: at("transcript-empty"),
  fault: at("copy-fault"),
  lately: at("lately"),
  copy: at("copy"),
  save: at("save"),
  clear: at("clear"),
  announcer: at("announcer"),
  cleared: () => {
    session?.send({ type: "clear" });
    moment.forget();
    draft?.clear();
    at("toggle").focus();
  },
});
const settings = new Settings(at("settings"));
const preview = new Preview({ stage: at("stage"), video: at("preview"), button: at("preview-toggle") });
const figures = new Figures({ token, settings, aspect: () => preview.aspect });
const glossList = new GlossList({
  root: at("vocabulary"),
  starters: at("starters"),
  ask: (gloss) => {
    turnTo("tab-practice");
    practice.ask(gloss);
  },
  practise: (list) => {
    turnTo("tab-practice");
    practice.practise(list);
  },
  teach: (name) => {
    turnTo("tab-teach");
    teach.name(name);
  },
  figures,
});
const vitals = new Vitals({
  status: at("status"),
  text: at("status-text"),
  box: at("vitals"),
  latency: at("latency"),
  fps: at("fps"),
  busy: at("busy"),
  size: at("sent-size"),
  stages: at("stages"),
  left: at("left-out"),
});
const problem = new Problem({
  box: at("problem"),
  text: at("problem-text"),
  countdown: at("countdown"),
  retry: at("retry"),
  retryNow: () => session?.retryNow(),
});
const strip = new Strip({ preview, film: at("film"), heat: at("heat") });
const tabs = new Tabs(at("tabs"));
const overlay = new Overlay({ box: at("overlay"), video: at("preview") });
const hint = new HintLine(at("hint"));
const announce = (text) => (at("announcer").textContent = text);
const begin = () => (session ? undefined : start());
const practice = new PracticePanel({ root: at("panel-practice"), announce, start: begin, figures });
const teach = new TeachPanel({
  root: at("panel-teach"),
  send: (message) => session?.send(message),
  request: (suffix, options) => session.request(suffix, options),
  token,
  preview,
  announce,
  start: begin,
  figures,
});
const share = new CaptionsShare({
  root: at("share"),
  request: async (suffix, options) => {
    if (!session) throw new ConnectionError("closed", "There is no session.");
    return session.request(suffix, options);
  },
  announce,
});
at("panel-teach").addEventListener("taught", ({ detail }) => {
  taught = detail.map(({ gloss }) => gloss);
  figures.taught(detail);
  if (model) showSigns();
});

let model = null;
let themes = null;
let taught = []; // glosses
let stream = null;
let session = null;
let draft = null; // the panel of draft sentences, where the server offers them
let run = 0; // counts presses of Start, so that work of an earlier one can see that it is over

async function loadModel() {
  if (!model) [model, themes] = await Promise.all([fetchModel(token), fetchThemes()]);
  showFacts(at("facts"), model);
  figures.model(model);
  showSigns();
  teach.model(model);
  await showDrafts().catch((error) => console.warn(error.message));
}

async function showDrafts() {
  if (model.draft && !draft) {
    const { DraftPanel } = await import("./draft.js");
    const request = (suffix, options) => session?.request(suffix, options);
    draft ??= new DraftPanel({ root: at("draft"), announce, request });
  }
  draft?.show(model.draft);
}

function showSigns() {
  const signs = new KnownSigns(model, themes, taught);
  const first = practice.untried;
  glossList.show(signs, first);
  practice.show(signs);
  const [one, two] = signs.surest;
  at("transcript-first").textContent = first && two ? `Try ${one} or ${two} first.` : "";
}

/** Shows the panel of a tab, from elsewhere on the page. */
function turnTo(tab) {
  tabs.choose(tab);
  for (const part of ["tabs", "stage"]) at(part).scrollIntoView({ block: "nearest" }); // who signs sees both
}

/** Pass the state of camera and connection to all parts that show it. */
function showState(name) {
  for (const part of [vitals, practice, teach]) part.state(name);
}

async function start() {
  const mine = ++run;
  problem.show(null);
  at("toggle").textContent = "Stop";
  showState("camera");
  moment.wait("Allow the camera if the browser asks");
  try {
    await loadModel();
    const opened = await openCamera(model.camera, settings.values.camera, fail);
    if (mine !== run) return closeCamera(opened);
    stream = opened;
    preview.show(stream);
    strip.begin();
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
  stream = null;
  preview.show(null);
  strip.end();
  transcript.settle();
  moment.end();
  clearHints();
  at("toggle").textContent = "Start camera";
  showState("off");
  moment.wait("Start the camera and sign");
}

function fail(error) {
  stop();
  const known = error instanceof CameraError || error instanceof ConnectionError;
  problem.show(known ? error : { code: "page", message: "This page has an internal error. Reload it." });
  showState("failed");
  if (!known) throw error;
}

function onState({ state, error, waitS }) {
  if (state === "failed") {
    fail(error);
    return;
  }
  showState(state);
  problem.show(error, waitS);
  if (state === "live") {
    moment.wait("Sign to the camera");
    moment.begin();
    return;
  }
  moment.wait(state === "waiting" ? "No connection yet" : "Connecting");
  transcript.settle();
  moment.end();
  clearHints();
}

function onMessage(message) {
  overlay.message(message);
  switch (message.type) {
    case "hello":
      figures.begin();
      transcript.begin(message.session);
      share.hello();
      draft?.begin(message.session);
      if (settings.values.threshold !== null) sendThreshold();
      if (model.name !== message.model.name) {
        model = null; // the server came back with another model
        loadModel().catch((error) => console.warn(error.message));
      }
      practice.hello(message);
      teach.hello(message);
      break;
    case "prediction":
      moment.prediction(message);
      figures.prediction(message);
      practice.prediction(message);
      vitals.prediction(message);
      strip.show(message, vitals.age(message));
      break;
    case "sign":
      moment.sign(message);
      transcript.show(message);
      draft?.sign(message);
      glossList.mark(message.gloss);
      practice.sign(message);
      teach.sign(message);
      break;
    case "stats":
      vitals.stats(message);
      break;
    case "hint":
      hint.hold(message);
      break;
    case "take":
      teach.take(message);
      break;
    case "error":
      if (message.code === "take") {
        teach.error(message);
        break;
      }
      hint.flash({ code: message.code, text: message.message });
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

function clearHints() {
  hint.clear();
  overlay.clear();
}

function sendThreshold() {
  session?.send({ type: "settings", threshold: settings.values.threshold ?? model.threshold });
}

/** Applies a setting, chosen now or on an earlier visit. */
function apply(name) {
  const { candidates: rows, theme, left } = settings.values;
  switch (name) {
    case "threshold":
      sendThreshold();
      break;
    case "candidates":
      candidates.rows = rows;
      break;
    case "camera":
      if (stream) {
        stop();
        start();
      }
      break;
    case "theme":
      document.documentElement.dataset.theme = theme;
      break;
    case "left":
      at("stage").dataset.left = String(left);
      break;
  }
}

at("toggle").addEventListener("click", () => (at("toggle").textContent === "Stop" ? stop() : start()));
at("stage").addEventListener("preview", ({ detail: shown }) => (at("strip").dataset.pictures = shown ? "on" : "off"));
at("settings-open").addEventListener("click", () => settings.open(model?.threshold ?? null));
settings.addEventListener("change", ({ detail }) => apply(detail));
window.addEventListener("online", () => session?.retryNow());
window.addEventListener("pagehide", () => {
  if (session) stop();
});

for (const name of ["candidates", "theme", "left"]) apply(name);
preview.hide(query.get("preview") === "off");
vitals.state("off");
moment.wait("Start the camera and sign");
if (query.get("autostart") === "1") start();
else loadModel().catch((error) => problem.show(error));
