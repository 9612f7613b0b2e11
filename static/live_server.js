// One picture to the server, and what its replies mean.

import { root } from "./live_page.js";

const TIMEOUT_MS = 15000;
const TROUBLE = {
  0: "The server cannot be reached.",
  413: "The pictures were too large for the server: they are sent smaller.",
  422: "The server could not read a picture of this camera.",
  429: "The server takes no more pictures from your address for now.",
  503: "The server is busy.",
};
const canvas = document.createElement("canvas");
let token = root.dataset.token;

export const troubleOf = (status) => TROUBLE[status] ?? `The server answered with an error (${status}).`;

// the reply and what it holds; no reply where the server cannot be reached
export async function ask(video, frame, controller) {
  const timeout = setTimeout(() => controller.abort(), TIMEOUT_MS);
  try {
    const reply = await post(await picture(video, frame), controller.signal);
    return [reply, reply.ok ? await reply.json() : null];
  } catch {
    return [null, null];
  } finally {
    clearTimeout(timeout);
  }
}

function picture(video, { side, quality }) {
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

// what proves that a request comes from this page; false where the server cannot be reached
export async function renewToken() {
  try {
    const page = await (await fetch(location.href, { cache: "no-store" })).text();
    const fresh = new DOMParser().parseFromString(page, "text/html").getElementById("live");
    token = fresh?.dataset.token ?? token;
    return true;
  } catch {
    return false;
  }
}
