// Pictures of the camera go to the server one by one, and its answers are drawn over the video.

import { Tracks, area, percent, read } from "./live_faces.js";
import { Pace } from "./live_pace.js";

const byId = (id) => document.getElementById(id);
const root = byId("live");
const words = JSON.parse(root.dataset.words);
const classes = new Map(words.classes.map((each) => [each.name, each]));
const video = byId("video");

// the server may have another model by now
const look = (name) => classes.get(name) ?? { emoji: "", color: [200, 200, 200] };
const emoji = (names) => names.map((name) => look(name).emoji).join("");
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/* ---- boxes, labels and bars over the video ---- */

const stage = byId("stage");
const marks = byId("marks");
const mirror = byId("mirror");
const UNSURE_COLOR = [255, 255, 255];
const BARS = 3;
const BAR_ROW = 17;
const GAP = 5;

function draw(tracks) {
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  if (!width || !height) return;
  marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const answers = tracks.list.map((track) => ({ ...read(track, words), box: placed(track.box, width, height) }));
  const largest = tracks.largest;
  answers.sort((one, other) => area(other.track) - area(one.track));
  const taken = answers.map(({ box }) => box);
  const boxes = answers.map((each) => boxOf(each, answers.length > 1 && each.track === largest));
  const labels = answers.map((each) => labelOf(each, taken, width, height));
  const panels = answers.map((each) => barsOf(each, taken, width, height));
  marks.replaceChildren(...[...boxes, ...panels, ...labels].flat());
}

// only the picture is mirrored by the style sheet; what is drawn over it moves instead, so that
// words can be read
function placed([x, y, width, height], stageWidth, stageHeight) {
  const left = mirror.checked ? 1 - x - width : x;
  return [left * stageWidth, y * stageHeight, width * stageWidth, height * stageHeight];
}

function shape(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const colorOf = (answer) => (answer.sure ? look(answer.names[0]).color : UNSURE_COLOR);

function rectangle([x, y, width, height], attributes) {
  return shape("rect", { x, y, width, height, ...attributes });
}

function boxOf(answer, isMarked) {
  const line = isMarked ? 5 : 3;
  const common = { fill: "none", rx: 4 };
  return [
    rectangle(answer.box, { ...common, stroke: "#000", "stroke-opacity": 0.6, "stroke-width": line + 3 }),
    rectangle(answer.box, {
      ...common, class: "face-box", stroke: `rgb(${colorOf(answer)})`, "stroke-width": line,
      ...(answer.sure ? {} : { "stroke-dasharray": "10 7" }),
    }),
  ];
}

// where there is no room for words the signs alone stand, which the panel explains
function labelOf(answer, taken, width, height) {
  const size = width < 480 ? 15 : 18;
  const signs = emoji(answer.names) || "?";
  const share = answer.sure ? ` ${percent(answer.ranking[0][1])}` : "";
  const text = shape("text", {
    class: "face-label", "font-size": size, "font-weight": 650, fill: ink(colorOf(answer)),
  }, `${signs} ${answer.words}${share}`);
  marks.append(text);
  const plate = () => [0, 0, text.getComputedTextLength() + 14, size * 1.55];
  const among = (wishes) => place(answer.box, plate(), taken, width, height, wishes);
  let found = among(["above", "below"]);
  if (!found && taken.length > 1) text.textContent = signs;
  found ??= among(["above", "below", "inside"]);
  const at = [...found, ...plate().slice(2)];
  taken.push(at);
  text.setAttribute("x", at[0] + 7);
  text.setAttribute("y", at[1] + size * 1.12);
  const fill = `rgb(${colorOf(answer)})`;
  return [rectangle(at, { rx: 4, fill, stroke: "#000", "stroke-opacity": 0.6 }), text];
}

// the panel beside the video has them too, so they need not cover a face
function barsOf(answer, taken, width, height) {
  const panel = [0, 0, Math.min(width, Math.max(196, Math.min(answer.box[2], 240))), BARS * BAR_ROW + 10];
  const found = place(answer.box, panel, taken, width, height, ["below", "right", "left"]);
  if (!found) return [];
  const [x, y] = found;
  const at = [x, y, panel[2], panel[3]];
  taken.push(at);
  return [rectangle(at, { rx: 6, fill: "#000", "fill-opacity": 0.72, class: "face-bars" }),
          ...answer.ranking.slice(0, BARS).flatMap((entry, row) =>
            barRow(entry, x + 8, y + 5 + row * BAR_ROW, panel[2] - 16))];
}

function barRow([name, value], x, y, width) {
  const { emoji: sign, color } = look(name);
  const text = { y: y + 12.5, "font-size": 12.5, fill: "#fff" };
  const track = [x + 78, y + 4, width - 78 - 50, 9];
  return [
    shape("text", { ...text, x }, `${sign} ${name}`),
    rectangle(track, { fill: "#fff", "fill-opacity": 0.25 }),
    rectangle([track[0], track[1], track[2] * value, track[3]],
              { fill: `rgb(${color})`, stroke: "#fff", "stroke-width": 0.5 }),
    shape("text", { ...text, x: x + width, "text-anchor": "end" }, percent(value)),
  ];
}

// the first place of those wished that is in the picture and free; inside the box always is
function place([x, y, width, height], [, , ownWidth, ownHeight], taken, stageWidth, stageHeight, wishes) {
  const left = clamp(x + (ownWidth > width ? (width - ownWidth) / 2 : 0), stageWidth - ownWidth);
  const middle = clamp(y + (height - ownHeight) / 2, stageHeight - ownHeight);
  const places = {
    above: [left, y - ownHeight - GAP],
    below: [left, y + height + GAP],
    right: [x + width + GAP, middle],
    left: [x - ownWidth - GAP, middle],
  };
  for (const wish of wishes) {
    if (wish === "inside") return [left, clamp(y + height - ownHeight - GAP, stageHeight - ownHeight)];
    const [px, py] = places[wish];
    const inside = px >= 0 && py >= 0 && px + ownWidth <= stageWidth && py + ownHeight <= stageHeight;
    if (inside && !taken.some((other) => overlap([px, py, ownWidth, ownHeight], other))) return [px, py];
  }
  return null;
}

const clamp = (value, most) => Math.max(0, Math.min(value, most));

function overlap([x, y, width, height], [left, top, across, down]) {
  return x < left + across && left < x + width && y < top + down && top < y + height;
}

// black or white, whichever has more contrast (luminance of WCAG 2)
function ink(color) {
  const [red, green, blue] = color.map((part) =>
    (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

/* ---- the panel beside the video ---- */

const bars = [...byId("bars").rows];
const SPEAK_EVERY_MS = 5000;
let spokenAt = -SPEAK_EVERY_MS;
let spoken = "";
const NO_ANSWER = "No answer from the server";
let withoutFace = "No face yet";  // what is told while there is no face to tell of

function tell(tracks, now) {
  const largest = tracks.largest;
  const answer = largest && read(largest, words);
  write("verdict-emoji", answer ? emoji(answer.names) : "");
  write("verdict-words", answer ? verdictOf(answer) : withoutFace);
  if (words.agreementTemperature) {
    write("people", answer?.sure ? `${answer.agreement} of 10 people would say ${answer.names[0]}` : "");
  }
  bars.forEach((row, index) => fillBar(row, words.classes[index].name, answer));
  advise(largest);
  const others = tracks.list.filter((track) => track !== largest).map((track) => {
    const { names, words: text } = read(track, words);
    return `${emoji(names)} ${text}`;
  });
  write("others", others.length ? `Also in view: ${others.join("; ")}` : "");
  // what keeps the answers away is read aloud from the line of the state
  if (isRunning() && withoutFace !== NO_ANSWER) speak(answer, tracks.list.length, now);
}

const verdictOf = (answer) =>
  answer.sure ? capital(`${answer.words} ${percent(answer.ranking[0][1])}`)
    : capital(answer.words.replace("unsure", words.unsure));

function fillBar(row, name, answer) {
  const value = answer ? answer.track.probabilities[name] ?? 0 : null;
  row.className = answer?.names.includes(name) ? "first" : "";
  row.querySelector(".fill").setAttribute("width", value === null ? 0 : (100 * value).toFixed(1));
  row.querySelector(".share").textContent = value === null ? "–" : percent(value);
}

function advise(track) {
  const notes = track ? [...track.notes].filter(([, weight]) => weight > 0.5).map(([note]) => `${note}.`) : [];
  const list = byId("advice");
  if ([...list.children].map((item) => item.textContent).join() === notes.join()) return;
  list.replaceChildren(...notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  }));
  list.hidden = !notes.length;
}

// a voice that speaks of every change would never be silent
function speak(answer, count, now) {
  const text = !answer ? `${withoutFace}.`
    : `${count > 1 ? `${count} faces; the largest: ` : ""}${answer.words}.`;
  if (text === spoken || now - spokenAt < SPEAK_EVERY_MS) return;
  [spoken, spokenAt] = [text, now];
  write("spoken", text);
}

function write(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function say(text, isTrouble = false) {
  write("state", text);
  byId("state").classList.toggle("trouble", isTrouble);
}

/* ---- what may go wrong with a camera ---- */

const REFUSED = ["The camera may not be used",
  "This browser keeps the page from using the camera. Allow it with the camera or lock sign beside "
  + "the address, or in the privacy settings of your device, then start again."];
const NOT_OPENED = ["The camera cannot be opened",
  "It may be in use by another program or tab. Close that, then start again."];
const PROBLEMS = {
  NotAllowedError: REFUSED,
  SecurityError: REFUSED,
  NotFoundError: ["No camera was found",
    "Connect one, or open this page on a phone or computer that has one, then start again."],
  NotReadableError: NOT_OPENED,
  AbortError: NOT_OPENED,
  ended: ["The camera has gone",
    "It was unplugged, or the browser took it away. Connect or allow it again, then start again."],
  insecure: ["The camera needs a secure address",
    "Browsers give a camera only to pages that come over https, or from this same machine as "
    + "http://localhost. Open this page at such an address."],
  missing: ["This browser offers no camera", "Open this page in a current browser."],
  outdated: ["This page is out of date", "Load it again, then start the camera."],
};

function complain(kind) {
  const [title, advice] = PROBLEMS[kind] ?? NOT_OPENED;
  const notice = byId("live-problem");
  notice.querySelector("h2").textContent = title;
  notice.querySelector("p").textContent = advice;
  notice.hidden = false;
}

/* ---- the camera ---- */

function remembered(key) {
  try { return localStorage.getItem(key); } catch { return null; }  // a browser may forbid it
}

function remember(key, value) {
  try { localStorage.setItem(key, value); } catch { /* then it is chosen again next time */ }
}

async function openCamera(deviceId) {
  const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { ...size, ...which }, audio: false });
  } catch (error) {
    // the remembered camera may be elsewhere by now
    if (deviceId && ["OverconstrainedError", "NotFoundError"].includes(error.name)) return openCamera("");
    throw error;
  }
}

async function listCameras() {
  const current = stream?.getVideoTracks()[0]?.getSettings().deviceId;
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput" && device.deviceId);
  byId("camera").replaceChildren(...cameras.map((camera, index) => {
    const isCurrent = camera.deviceId === current;
    return new Option(camera.label || `Camera ${index + 1}`, camera.deviceId, isCurrent, isCurrent);
  }));
  byId("camera-row").hidden = !cameras.length;
}

/* ---- running ---- */

const TIMEOUT_MS = 15000;
const STALE_MS = 1500;
const UNREACHABLE = "The server cannot be reached. Trying again…";
const canvas = document.createElement("canvas");
let stream = null;
let epoch = 0;  // what belongs to an earlier one is void
let pace = new Pace();
let tracks = new Tracks();
let underway = new Set();
let timer = 0;
let earliest = 0;
let sent = 0;
let shown = 0;
let lastAnswerAt = 0;
let token = root.dataset.token;
let renewals = 0;
let isOn = false;
let mirrorKey = "live-mirror";

const isRunning = () => stream !== null && !document.hidden;

async function start() {
  const own = halt();
  release();
  byId("live-problem").hidden = true;
  setSwitch(true);
  write("stage-words", "Waiting for the camera…");
  say("Waiting for your permission to use the camera…");
  try {
    const opened = await openCamera(remembered("live-camera"));
    if (own !== epoch) return stopTracks(opened);
    await show(opened);
  } catch (error) {
    if (own !== epoch) return;
    stop();
    complain(error.name);
  }
}

async function show(opened) {
  stream = opened;
  const track = stream.getVideoTracks()[0];
  track.addEventListener("ended", () => { if (stream === opened) { stop(); complain("ended"); } });
  const isBack = track.getSettings().facingMode === "environment";
  mirrorKey = isBack ? "live-mirror-back" : "live-mirror";
  mirror.checked = (remembered(mirrorKey) ?? (isBack ? "no" : "yes")) === "yes";
  setMirror();
  video.srcObject = stream;
  await Promise.all([video.play(), listCameras()]);
  if (stream !== opened) return;
  byId("stage-off").hidden = true;
  pace = new Pace();
  resume();
}

function stop() {
  halt();
  release();
  write("stage-words", "The camera is off.");
  setSwitch(false);
  say("");
  for (const id of ["rate", "frame", "answered"]) write(id, "–");
}

function release() {
  stopTracks(stream);
  stream = null;
  video.srcObject = null;
  byId("stage-off").hidden = false;
  tell(tracks, performance.now());
}

function stopTracks(of) { of?.getTracks().forEach((track) => track.stop()); }

// ends what is underway and wipes what is drawn
function halt() {
  epoch += 1;
  withoutFace = "No face yet";
  clearTimeout(timer);
  underway.forEach((controller) => controller.abort());
  underway = new Set();
  clear();
  return epoch;
}

function clear() {
  tracks = new Tracks();
  marks.replaceChildren();
  tell(tracks, performance.now());
}

// nobody sees what would be read
function pause() {
  halt();
  enable(false);
  say("Paused while this page is not in front.");
}

function resume() {
  enable(true);
  video.play().catch(() => {});  // a phone may have halted it; a later picture starts it again
  earliest = 0;
  lastAnswerAt = performance.now();
  say("The camera is on.");
  pump();
}

// a camera that nobody looks at may go dark
function enable(on) { stream.getTracks().forEach((track) => { track.enabled = on; }); }

function setSwitch(on) {
  isOn = on;
  const button = byId("switch");
  button.textContent = on ? "Stop the camera" : "Start the camera";
  button.classList.toggle("primary", !on);
}

function setMirror() {
  stage.classList.toggle("mirrored", mirror.checked);
  draw(tracks);
}

function fitStage() {
  if (!video.videoWidth) return;
  root.style.setProperty("--ratio", (video.videoWidth / video.videoHeight).toFixed(4));
  draw(tracks);
}

function pump() {
  clearTimeout(timer);
  if (!isRunning() || underway.size >= pace.mostUnderway) return;
  const waitMs = video.videoWidth ? earliest - performance.now() : 50;
  if (waitMs > 0) {
    timer = setTimeout(pump, waitMs);
    return;
  }
  send();
  pump();
}

async function send() {
  const [own, number, controller] = [epoch, ++sent, new AbortController()];
  const startedAt = performance.now();
  earliest = startedAt + pace.intervalMs;
  underway.add(controller);
  try {
    const [reply, results] = await ask(controller);
    if (own === epoch) await take(reply, results, number, startedAt);
  } finally {
    underway.delete(controller);
    if (own === epoch) pump();
  }
}

// the reply and what it holds; no reply where the server cannot be reached
async function ask(controller) {
  const timeout = setTimeout(() => controller.abort(), TIMEOUT_MS);
  try {
    const reply = await post(await picture(), controller.signal);
    return [reply, reply.ok ? await reply.json() : null];
  } catch {
    return [null, null];
  } finally {
    clearTimeout(timeout);
  }
}

function picture() {
  const { side, quality } = pace.frame;
  const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", quality); });
}

function post(body, signal) {
  const headers = { "Content-Type": "image/jpeg", Accept: "application/json", "X-CSRFToken": token };
  return fetch(root.dataset.frames, { method: "POST", body, headers, signal, cache: "no-store" });
}

async function take(reply, results, number, startedAt) {
  if (results) return answered(reply, results, number, startedAt);
  if (!reply) return wait(pace.unreachable(), UNREACHABLE);
  if (reply.status === 503 || reply.status === 429) {
    const retryAfterS = Number(reply.headers.get("Retry-After")) || 2;
    return wait(pace.refused(Math.min(retryAfterS, 120)), "The server is busy. Trying again…");
  }
  if (reply.status === 400 || reply.status === 403) return renew();
  if (reply.status === 413) pace.tooLarge();
  return wait(pace.unreachable(), `The server answered with an error (${reply.status}). Trying again…`);
}

function answered(reply, results, number, startedAt) {
  const now = performance.now();
  const serverMs = /dur=([\d.]+)/.exec(reply.headers.get("Server-Timing") ?? "")?.[1];
  pace.answered(now - startedAt, serverMs ? Number(serverMs) : null, now);
  lastAnswerAt = now;
  renewals = 0;
  withoutFace = "No face in view";
  const size = `${results.image.width} × ${results.image.height}`;
  const isSmall = pace.isReduced && results.image.width < video.videoWidth;
  say(isSmall ? `To keep up, pictures are sent smaller (${size}): small faces may be missed.`
    : "The camera is on.");
  if (number < shown) return;  // a later picture was answered before
  shown = number;
  tracks.update(results, now);
  draw(tracks);
  tell(tracks, now);
  write("frame", size);
}

function wait(ms, message) {
  earliest = performance.now() + ms;
  say(message, true);
  withoutFace = NO_ANSWER;
  tell(tracks, performance.now());
}

// what proves that a request comes from this page may run out
async function renew() {
  renewals += 1;
  if (renewals > 2) {
    stop();
    return complain("outdated");
  }
  try {
    const page = await (await fetch(location.href, { cache: "no-store" })).text();
    const fresh = new DOMParser().parseFromString(page, "text/html").getElementById("live");
    token = fresh?.dataset.token ?? token;
  } catch {
    wait(pace.unreachable(), UNREACHABLE);
  }
}

// shows how it goes, also when no answers come, and wipes boxes that are too old to be true
function tick() {
  if (!isRunning() || !video.videoWidth) return;
  const now = performance.now();
  write("rate", `${pace.framesPerSecond(now).toFixed(1)} per second`);
  if (pace.roundTripMs !== null) write("answered", `${Math.round(pace.roundTripMs)} ms`);
  if (now - lastAnswerAt > Math.max(STALE_MS, 2 * (pace.roundTripMs ?? 0))) {
    withoutFace = NO_ANSWER;
    clear();
  }
}

/* ---- the page ---- */

function listen() {
  byId("switch").addEventListener("click", () => (isOn ? stop() : start()));
  byId("camera").addEventListener("change", (event) => {
    remember("live-camera", event.target.value);
    start();
  });
  mirror.addEventListener("change", () => {
    remember(mirrorKey, mirror.checked ? "yes" : "no");
    setMirror();
  });
  navigator.mediaDevices.addEventListener("devicechange", () => { if (stream) listCameras(); });
  document.addEventListener("visibilitychange", () => {
    if (stream) (document.hidden ? pause : resume)();
  });
  window.addEventListener("online", () => { earliest = 0; pump(); });
  window.addEventListener("pagehide", stop);
  video.addEventListener("resize", fitStage);
  new ResizeObserver(() => draw(tracks)).observe(stage);
  setInterval(tick, 500);
}

root.hidden = false;
if (navigator.mediaDevices?.getUserMedia) {
  mirror.checked = remembered(mirrorKey) !== "no";
  setMirror();
  listen();
} else {
  document.querySelectorAll(".live-bar, .live-controls, .live-facts, .live-face")
    .forEach((part) => { part.hidden = true; });
  complain(window.isSecureContext ? "missing" : "insecure");
}
