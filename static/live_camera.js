// Cameras: opening one, listing them, going to the next, and what may go wrong.

import { byId } from "./live_page.js";

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

export function complain(kind) {
  const [title, advice] = PROBLEMS[kind] ?? NOT_OPENED;
  const notice = byId("live-problem");
  notice.querySelector("h2").textContent = title;
  notice.querySelector("p").textContent = advice;
  notice.hidden = false;
}

// which: what getUserMedia is told of the camera, such as { deviceId: { exact: … } }
export async function openCamera(which = null) {
  const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
  const video = { ...size, ...(which ?? { facingMode: "user" }) };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    // the camera that is wished for may be elsewhere by now
    if (which && ["OverconstrainedError", "NotFoundError"].includes(error.name)) return openCamera();
    throw error;
  }
}

const cameras = async () => (await navigator.mediaDevices.enumerateDevices())
  .filter((device) => device.kind === "videoinput" && device.deviceId);

export async function listCameras(stream) {
  const current = stream.getVideoTracks()[0].getSettings().deviceId;
  const list = await cameras();
  byId("camera").replaceChildren(...list.map((camera, index) => {
    const isCurrent = camera.deviceId === current;
    return new Option(camera.label || `Camera ${index + 1}`, camera.deviceId, isCurrent, isCurrent);
  }));
  byId("camera-row").hidden = byId("flip").hidden = list.length < 2;
}

// front or back where the camera tells which it is, else the next one
export async function otherCamera(stream) {
  const { facingMode, deviceId } = stream.getVideoTracks()[0].getSettings();
  if (facingMode) return { facingMode: { exact: facingMode === "environment" ? "user" : "environment" } };
  const ids = (await cameras()).map((camera) => camera.deviceId);
  return { deviceId: { exact: ids[(ids.indexOf(deviceId) + 1) % ids.length] } };
}
