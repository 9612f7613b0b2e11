// The page of a video in work shows how far it is.
"use strict";

const POLL_MS = 1000;

for (const page of document.querySelectorAll("[data-video-api]")) followWork(page);

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
