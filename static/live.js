// The page of the live camera: its buttons and keys. What they do is in live_run.js.

import { complain, listCameras } from "./live_camera.js";
import { byId, remember, remembered, root } from "./live_page.js";
import { beginResting } from "./live_rest.js";
import {
  changeMirror, flip, retryNow, seeHidden, setMirror, start, stop, stream, tell, tick, toggle, tracks,
} from "./live_run.js";
import { draw, savePicture } from "./live_stage.js";

const video = byId("video");
const mirror = byId("mirror");
const KEYS = {
  " ": () => byId("switch").click(),
  f: () => byId("full").click(),
  m: () => mirror.click(),
  r: () => byId("rest").click(),
  s: () => byId("save").click(),
};

function fitStage() {
  if (!video.videoWidth) return;
  root.style.setProperty("--ratio", (video.videoWidth / video.videoHeight).toFixed(4));
  draw(tracks);
}

function onKey(event) {
  const act = KEYS[event.key.toLowerCase()];
  const { ctrlKey, metaKey, altKey, repeat, target } = event;
  if (!act || ctrlKey || metaKey || altKey || repeat || !byId("keys").checked) return;
  // what the keyboard is on has keys of its own
  if (target.closest(event.key === " " ? "a, button, input, select" : "select")) return;
  event.preventDefault();
  act();
}

function listen() {
  byId("switch").addEventListener("click", toggle);
  byId("stop").addEventListener("click", stop);
  byId("save").addEventListener("click", () => { if (stream && video.videoWidth) savePicture(); });
  byId("flip").addEventListener("click", () => { if (stream) flip(); });
  byId("full").addEventListener("click", () => (document.fullscreenElement
    ? document.exitFullscreen() : byId("live-frame").requestFullscreen()));
  byId("full").hidden = !document.fullscreenEnabled;
  byId("rest").addEventListener("click", () => beginResting(tracks, performance.now()));
  byId("people").addEventListener("forget", ({ detail }) => {
    tracks.setRest(detail, null);
    tell();
  });
  byId("camera").addEventListener("change", (event) => {
    remember("live-camera", event.target.value);
    start();
  });
  mirror.addEventListener("change", changeMirror);
  byId("keys").checked = remembered("live-keys") !== "no";
  byId("keys").addEventListener("change", (event) => remember("live-keys", event.target.checked ? "yes" : "no"));
  document.addEventListener("keydown", onKey);
  navigator.mediaDevices.addEventListener("devicechange", () => { if (stream) listCameras(stream); });
  document.addEventListener("visibilitychange", seeHidden);
  window.addEventListener("online", retryNow);
  window.addEventListener("pagehide", stop);
  video.addEventListener("resize", fitStage);
  new ResizeObserver(() => draw(tracks)).observe(byId("stage"));
  setInterval(tick, 500);
}

root.hidden = false;
if (navigator.mediaDevices?.getUserMedia) {
  mirror.checked = remembered("live-mirror") !== "no";
  setMirror();
  listen();
} else {
  document.querySelectorAll(".live-bar, .live-controls, .live-facts, .live-people, .live-rest")
    .forEach((part) => { part.hidden = true; });
  complain(window.isSecureContext ? "missing" : "insecure");
}
