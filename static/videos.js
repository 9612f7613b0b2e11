// Videos work without this file; it adds dropping, the progress of sending, and of the work.
"use strict";

const POLL_MS = 1000;

for (const form of document.querySelectorAll("form.video-upload")) setUpVideoForm(form);
for (const page of document.querySelectorAll("[data-video-api]")) followWork(page);

function isVideo(file) {
  return file.type.startsWith("video/") || /\.(mkv|avi|mov|mp4|m4v|webm|wmv|flv|mpe?g)$/i.test(file.name);
}

function setUpVideoForm(form) {
  const input = form.querySelector("input[type=file]");
  const button = form.querySelector("button.primary");
  const status = form.querySelector(".status");
  const sending = form.querySelector(".sending");
  const idleText = button.textContent;

  form.querySelector(".drop-hint").hidden = false;
  input.addEventListener("change", check);

  document.addEventListener("drop", (event) => {
    const video = [...event.dataTransfer.files].find(isVideo);
    if (!video) return;
    const choice = new DataTransfer();
    choice.items.add(video);
    input.files = choice.files;
    check();
    form.scrollIntoView({ block: "center" });
    button.focus({ preventScroll: true });
  });

  function check() {
    const [file] = input.files;
    const isLarge = file && file.size > Number(form.dataset.maxBytes);
    input.setCustomValidity(
      isLarge ? `This file is too large: expected at most ${form.dataset.maxWords}.` : "");
    status.textContent = input.validationMessage && file ? input.validationMessage : "";
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });

  // a server without room closes the line while a video is sent, without a word that a page can read
  async function refusal() {
    try {
      const reply = await fetch(form.dataset.queue, { cache: "no-store" });
      return reply.ok ? "" : (await reply.json()).detail;
    } catch {
      return "The server cannot be reached.";
    }
  }

  async function send() {
    button.disabled = true;
    const words = await refusal();
    if (words) return end(words);
    const request = new XMLHttpRequest();
    const progress = sending.querySelector("progress");
    const stop = sending.querySelector(".stop");
    request.open("POST", form.dataset.api);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress.value = event.loaded / event.total;
    });
    request.upload.addEventListener("load", () => { progress.removeAttribute("value"); });
    request.addEventListener("load", () => {
      if (request.status === 202) window.location.assign(request.response.links.page);
      else end(request.response?.detail ?? `The server answered with status ${request.status}.`);
    });
    request.addEventListener("error", () => end("The server cannot be reached, or refused the file."));
    request.addEventListener("abort", () => end("Stopped: nothing was kept."));
    stop.onclick = () => request.abort();
    button.textContent = button.dataset.busy;
    status.textContent = button.dataset.busy;
    sending.hidden = false;
    request.send(new FormData(form));
  }

  function end(words) {
    button.disabled = false;
    button.textContent = idleText;
    sending.hidden = true;
    status.textContent = words;
  }

  // the page comes back as it was left when a visitor goes back to it
  window.addEventListener("pageshow", () => end(""));
}

function followWork(page) {
  const shown = Object.fromEntries(
    [...page.querySelectorAll("[data-show]")].map((element) => [element.dataset.show, element]));
  const bar = page.querySelector("progress");
  let spokenStep = -1;

  const ask = async () => {
    let video = null;
    try {
      const reply = await fetch(page.dataset.videoApi, { cache: "no-store" });
      if (reply.status === 404) return window.location.reload();
      if (reply.ok) video = await reply.json();
    } catch {
      shown.lead.textContent = "The server cannot be reached at the moment; this page goes on asking.";
    }
    if (video && !["waiting", "running"].includes(video.state)) return window.location.reload();
    if (video) show(video);
    setTimeout(ask, POLL_MS);
  };
  setTimeout(ask, POLL_MS);

  function show(video) {
    const progress = video.progress;
    const waits = video.state === "waiting";
    shown.title.textContent = waits ? "Your video is in the queue" : "Analysing your video…";
    document.title = `${waits ? "Your video waits" : "Analysing your video"} – Emotions in faces`;
    const share = progress?.share ?? null;
    shown.lead.textContent = waits ? queueWords(video.before) : workWords(progress, share);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    shown.numbers.hidden = !progress;
    const percent = share === null ? "–" : `${Math.floor(share * 100)}%`;
    shown.share.textContent = percent;
    shown.left.textContent = progress?.left_s == null ? "–" : timeLeft(progress.left_s);
    shown.position.textContent = progress
      ? clock(progress.position_s) + (progress.duration_s ? ` of ${clock(progress.duration_s)}` : "") : "–";
    shown.faces.textContent = progress?.faces ?? "–";
    // read aloud now and then, not every second
    const step = waits ? -2 - video.before : Math.floor((share ?? 0) * 5);
    if (step !== spokenStep) {
      spokenStep = step;
      shown.spoken.textContent = waits ? `${shown.title.textContent}. ${queueWords(video.before)}`
        : share === null ? shown.lead.textContent : `${percent} done, ${shown.left.textContent} left`;
    }
  }
}

function workWords(progress, share) {
  if (!progress) return "Preparing…";
  return share === 1 ? "All frames are read; the files are being finished."
    : "Every face gets a number that it keeps.";
}

function queueWords(before) {
  return before === 0 ? "It is next." : before === 1 ? "One video is before it."
    : `${before} videos are before it.`;
}

function timeLeft(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
