// Pictures of the camera go to the server one by one, and its answers are drawn over the video.

import { complain, listCameras, openCamera, otherCamera } from "./live_camera.js";
import { Tracks } from "./live_faces.js";
import { byId, remember, remembered, say, write } from "./live_page.js";
import { Pace } from "./live_pace.js";
import { show, speak } from "./live_people.js";
import { countDown, endResting, resting } from "./live_rest.js";
import { ask, renewToken, troubleOf } from "./live_server.js";
import { draw, seen } from "./live_stage.js";

const NO_ANSWER = "No answer from the server";
const STALE_MS = 1500;
const video = byId("video");
const mirror = byId("mirror");
export let stream = null;
let epoch = 0;  // what belongs to an earlier one is void
let pace = new Pace();
export let tracks = new Tracks();
let underway = new Set();
let timer = 0;
let earliest = 0;
let sent = 0;
let shown = 0;
let lastAnswerAt = 0;
let withoutFace = "No face yet";  // what is told while there is no face to tell of
let renewals = 0;
let isOn = false;
let isFrozen = false;
let mirrorKey = "live-mirror";

const isRunning = () => stream !== null && !document.hidden && !isFrozen;

/* ---- the camera ---- */

export async function start(which = null) {
  const own = halt();
  release();
  byId("live-problem").hidden = true;
  setButtons(true);
  write(byId("stage-words"), "Waiting for the camera…");
  say("Waiting for your permission to use the camera…");
  try {
    const last = remembered("live-camera");
    const opened = await openCamera(which ?? (last ? { deviceId: { exact: last } } : null));
    if (own !== epoch) return stopTracks(opened);
    await begin(opened);
  } catch (error) {
    if (own !== epoch) return;
    stop();
    complain(error.name);
  }
}

async function begin(opened) {
  stream = opened;
  const track = stream.getVideoTracks()[0];
  track.addEventListener("ended", () => { if (stream === opened) { stop(); complain("ended"); } });
  const isBack = track.getSettings().facingMode === "environment";
  mirrorKey = isBack ? "live-mirror-back" : "live-mirror";
  mirror.checked = (remembered(mirrorKey) ?? (isBack ? "no" : "yes")) === "yes";
  setMirror();
  video.srcObject = stream;
  await Promise.all([video.play(), listCameras(stream)]);
  if (stream !== opened) return;
  byId("stage-off").hidden = true;
  pace = new Pace();
  tracks = new Tracks();
  resume();
}

export function stop() {
  halt();
  release();
  tracks = new Tracks();
  tell();
  write(byId("stage-words"), "The camera is off.");
  setButtons(false);
  say("");
  for (const id of ["rate", "frame", "answered"]) write(byId(id), "–");
}

function release() {
  stopTracks(stream);
  stream = null;
  video.srcObject = null;
  byId("stage-off").hidden = false;
}

function stopTracks(of) { of?.getTracks().forEach((track) => track.stop()); }

export async function flip() {
  const which = await otherCamera(stream);
  await start(which);
  const { deviceId } = stream?.getVideoTracks()[0].getSettings() ?? {};
  if (deviceId) remember("live-camera", deviceId);
}

// ends what is underway
function abort() {
  epoch += 1;
  clearTimeout(timer);
  underway.forEach((controller) => controller.abort());
  underway = new Set();
  return epoch;
}

// ... and wipes what is drawn
function halt() {
  isFrozen = false;
  withoutFace = "No face yet";
  endResting();
  abort();
  clear();
  return epoch;
}

function clear() {
  tracks.lose();
  draw(tracks);
  tell();
}

export function tell(now = performance.now()) { show(seen(tracks), withoutFace, now); }

// nobody sees what would be read
function pause() {
  halt();
  enable(false);
  say("Paused while this page is not in front.");
}

function resume() {
  enable(true);
  setButtons(true);
  video.play().catch(() => {});  // a phone may have halted it; a later picture starts it again
  earliest = 0;
  lastAnswerAt = performance.now();
  say("The camera is on.");
  pump();
}

// what is drawn then belongs to the very picture that is shown
function freeze() {
  abort();
  endResting();
  isFrozen = true;
  video.pause();
  setButtons(true);
  say("The picture is frozen.");
  send();
}

function goOn() {
  isFrozen = false;
  resume();
}

// a camera that nobody looks at may go dark
function enable(on) { stream.getTracks().forEach((track) => { track.enabled = on; }); }

function setButtons(on) {
  isOn = on;
  if (!stream && byId("tools").contains(document.activeElement)) byId("switch").focus();
  write(byId("switch"), !on ? "Start the camera" : !stream ? "Cancel" : isFrozen ? "Go on" : "Freeze");
  byId("switch").classList.toggle("primary", !on || isFrozen);
  byId("tools").hidden = !stream;
  byId("rest").disabled = !stream || isFrozen;
}

// what Start, Cancel, Freeze and Go on do
export function toggle() {
  if (!isOn) start();
  else if (!stream) stop();
  else if (isFrozen) goOn();
  else freeze();
}

export function seeHidden() {
  if (stream && !isFrozen) (document.hidden ? pause : resume)();
}

export function retryNow() {
  earliest = 0;
  pump();
}

export function changeMirror() {
  remember(mirrorKey, mirror.checked ? "yes" : "no");
  setMirror();
}

export function setMirror() {
  byId("stage").classList.toggle("mirrored", mirror.checked);
  draw(tracks);
  tell();
}

/* ---- pictures to the server ---- */

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
    const [reply, results] = await ask(video, pace.frame, controller);
    if (own === epoch) await take(reply, results, number, startedAt);
  } finally {
    underway.delete(controller);
    if (own === epoch) pump();
  }
}

async function take(reply, results, number, startedAt) {
  if (results) return answered(reply, results, number, startedAt);
  if (isFrozen) return;
  if (!reply) return wait(pace.unreachable(), troubleOf(0));
  const { status } = reply;
  if (status === 400 || status === 403) return renew();
  if (status === 413) pace.tooLarge();
  const isBusy = status === 503 || status === 429;
  const retryAfterS = Number(reply.headers.get("Retry-After")) || 2;
  wait(isBusy ? pace.refused(Math.min(retryAfterS, 120)) : pace.unreachable(), troubleOf(status));
}

function answered(reply, results, number, startedAt) {
  const now = performance.now();
  const serverMs = /dur=([\d.]+)/.exec(reply.headers.get("Server-Timing") ?? "")?.[1];
  const { width, height } = results.image;
  const sides = results.faces.map(({ box }) => Math.max(box.width, box.height) / Math.max(width, height));
  pace.answered(now - startedAt, serverMs ? Number(serverMs) : null, sides.length ? Math.min(...sides) : 0, now);
  lastAnswerAt = now;
  renewals = 0;
  withoutFace = "No face in view";
  if (!isFrozen) sayHowItGoes(width, height);
  if (number < shown) return;  // a later picture was answered before
  shown = number;
  tracks.update(results, now);
  resting.take(tracks);
  draw(tracks);
  tell(now);
  if (isRunning()) speak(tracks, withoutFace, now);
  write(byId("frame"), `${width} × ${height}`);
}

function sayHowItGoes(width, height) {
  const isSmall = pace.isReduced && width < video.videoWidth;
  const slow = pace.isServerSlow ? "Slow server" : "Slow connection";
  say(isSmall ? `${slow}: small faces may be missed (pictures of ${width} × ${height}).` : "The camera is on.");
}

function wait(ms, message) {
  earliest = performance.now() + ms;
  say(message, true);
  withoutFace = NO_ANSWER;
  tell();
  tick();
}

// what proves that a request comes from this page may run out
async function renew() {
  renewals += 1;
  if (renewals > 2) {
    stop();
    return complain("outdated");
  }
  if (!await renewToken()) wait(pace.unreachable(), troubleOf(0));
}

// shows how it goes, also when no answers come, and wipes boxes that are too old to be true
export function tick() {
  if (!isRunning() || !video.videoWidth) return;
  const now = performance.now();
  write(byId("rate"), `${pace.framesPerSecond(now).toFixed(1)} per second`);
  if (pace.roundTripMs !== null) write(byId("answered"), `${Math.round(pace.roundTripMs)} ms`);
  const waitS = Math.ceil((earliest - now) / 1000);
  if (byId("state").matches(".trouble")) {
    write(byId("retry"), waitS > 0 ? `Trying again in ${waitS} s.` : "Trying again now…");
  }
  if (now - lastAnswerAt > Math.max(STALE_MS, 2 * (pace.roundTripMs ?? 0))) {
    withoutFace = NO_ANSWER;
    clear();
  }
  countDown(tracks, now);
}
