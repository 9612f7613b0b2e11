// The timeline of a video seeks, follows the player, and says what each face shows. Without this
// file it is a picture.
"use strict";

const STEP_S = 1;
const LARGE_STEP_S = 10;
const STEADY_S = 0.4; // an answer of less time is no moment
const LONGEST_CHANGE_S = 2;
const MOST_MOMENTS = 8;
const UNSURE = "unsure";

const chart = document.querySelector(".lanes");
const player = document.querySelector("video.player");
if (chart && player) setUpTimeline(Number(chart.dataset.duration));

function setUpTimeline(durationS) {
  const lanes = [...chart.querySelectorAll(".lane")].map(laneOf);
  let pointedS = null; // where a mouse is, in seconds of the video
  let isDragging = false;
  const at = document.querySelector(".legend .at");

  const last = () => (Number.isFinite(player.duration) ? Math.min(player.duration, durationS) : durationS);

  function seek(seconds) {
    player.currentTime = Math.max(0, Math.min(seconds, last()));
    show();
  }

  function show() {
    for (const lane of lanes) {
      place(lane.playhead, player.currentTime);
      place(lane.pointed, pointedS);
      lane.now.textContent = answerAt(lane, pointedS ?? player.currentTime);
    }
    at.textContent = clockOf(pointedS ?? player.currentTime);
    chart.setAttribute("aria-valuenow", player.currentTime.toFixed(1));
    if (player.paused) { // while it plays a screen reader would never end
      const words = lanes.map((lane) => `${lane.name} ${answerAt(lane, player.currentTime)}`);
      chart.setAttribute("aria-valuetext", `${clockOf(player.currentTime)}: ${words.join(", ")}`);
    }
  }

  function follow() {
    show();
    if (!player.paused && !player.ended) requestAnimationFrame(follow);
  }

  function timeAt(event) {
    const { left, width } = lanes[0].svg.getBoundingClientRect();
    return Math.max(0, Math.min((event.clientX - left) / width, 1)) * durationS;
  }

  for (const { svg } of lanes) {
    svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      isDragging = true;
      svg.setPointerCapture(event.pointerId);
      seek(timeAt(event));
    });
    svg.addEventListener("pointermove", (event) => {
      pointedS = event.pointerType === "mouse" ? timeAt(event) : null;
      if (isDragging) seek(timeAt(event));
      else show();
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      svg.addEventListener(end, () => {
        if (end === "pointerleave") pointedS = null;
        isDragging = false;
        show();
      });
    }
  }

  chart.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const to = {
      ArrowLeft: player.currentTime - STEP_S,
      ArrowDown: player.currentTime - STEP_S,
      ArrowRight: player.currentTime + STEP_S,
      ArrowUp: player.currentTime + STEP_S,
      PageDown: player.currentTime - LARGE_STEP_S,
      PageUp: player.currentTime + LARGE_STEP_S,
      Home: 0,
      End: last(),
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    pointedS = null;
    seek(to);
  });

  chart.classList.add("seeks");
  const about = { role: "slider", tabindex: 0, "aria-label": "Position in the video" };
  Object.assign(about, { "aria-valuemin": 0, "aria-valuemax": durationS });
  for (const [name, value] of Object.entries(about)) chart.setAttribute(name, value);
  document.querySelector(".hint-seek").hidden = false;
  player.addEventListener("play", follow);
  for (const what of ["pause", "seeked", "timeupdate", "loadedmetadata"]) player.addEventListener(what, show);
  show();
  listMoments(lanes, seek);
}

function laneOf(element) {
  const svg = element.querySelector("svg");
  const stretches = [...svg.querySelectorAll("g rect")].map((rect) => {
    const [start, length, share] = ["x", "width", "height"].map((name) => Number(rect.getAttribute(name)));
    return { start, end: start + length, share, emotion: rect.parentNode.dataset.label };
  });
  stretches.sort((one, other) => one.start - other.start);
  const [pointed, playhead] = ["pointed", "playhead"].map((name) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", name);
    line.setAttribute("y1", -0.06);
    line.setAttribute("y2", 1.06);
    svg.append(line);
    return line;
  });
  return { svg, stretches, pointed, playhead, name: element.dataset.name, now: element.querySelector(".now") };
}

function place(line, seconds) {
  line.setAttribute("visibility", seconds === null ? "hidden" : "visible");
  for (const name of ["x1", "x2"]) line.setAttribute(name, seconds ?? 0);
}

function answerAt(lane, seconds) {
  const found = lane.stretches.find(({ start, end }) => start <= seconds && seconds < end);
  if (!found) return "not seen";
  return found.emotion === UNSURE ? UNSURE : `${found.emotion} ${percent(found.share)}`;
}

function percent(share) {
  return share > 0.99 ? ">99%" : `${Math.round(share * 100)}%`;
}

function clockOf(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// where one sure answer follows another, the surest and steadiest of them in order of time
function momentsOf(lane) {
  const answers = [];
  for (const { ...stretch } of lane.stretches) {
    const last = answers.at(-1);
    if (last?.emotion === stretch.emotion && stretch.start - last.end < STEADY_S) {
      last.end = stretch.end;
      last.share = Math.max(last.share, stretch.share);
    } else {
      answers.push(stretch);
    }
  }
  const steady = answers.filter(({ emotion, start, end }) => emotion !== UNSURE && end - start >= STEADY_S);
  return steady.slice(1).flatMap((after, index) => {
    const before = steady[index];
    if (before.emotion === after.emotion || after.start - before.end > LONGEST_CHANGE_S) return [];
    const weight = ({ start, end, share }) => share * Math.min(1, end - start);
    return [{ lane, before, after, strength: weight(before) + weight(after) }];
  });
}

function listMoments(lanes, seek) {
  const moments = lanes.flatMap(momentsOf).sort((one, other) => other.strength - one.strength)
    .slice(0, MOST_MOMENTS).sort((one, other) => one.after.start - other.after.start);
  const place = document.querySelector(".moments");
  place.hidden = moments.length === 0;
  for (const { lane, before, after } of moments) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${clockOf(after.start)} ${lane.name}: ${before.emotion} → ${after.emotion}`;
    button.addEventListener("click", () => {
      seek(after.start);
      player.scrollIntoView({ block: "nearest" });
    });
    const item = document.createElement("li");
    item.append(button);
    place.querySelector("ul").append(item);
  }
}
