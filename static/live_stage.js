// Boxes and labels over the video, and the picture of both that a visitor may save.

import { area, percent, read } from "./live_faces.js";
import { byId, colorOf, emoji, ink, words } from "./live_page.js";

const stage = byId("stage");
const marks = byId("marks");
const mirror = byId("mirror");
const video = byId("video");
const GAP = 5;

// in the order in which they are seen, from the left
export const seen = (tracks) => (mirror.checked ? [...tracks.list].reverse() : tracks.list);

export function draw(tracks) {
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  if (!width || !height) return;
  marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const answers = seen(tracks).map((track, index, all) => ({
    ...read(track, words), box: placed(track.box, width, height), number: all.length > 1 ? `${index + 1} ` : "",
  }));
  answers.sort((one, other) => area(other.track) - area(one.track));
  const taken = answers.map(({ box }) => box);
  const boxes = answers.map(boxOf);
  const labels = answers.map((each) => labelOf(each, taken, width, height));
  marks.replaceChildren(...[...boxes, ...labels].flat());
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

function rectangle([x, y, width, height], attributes) {
  return shape("rect", { x, y, width, height, ...attributes });
}

function boxOf(answer) {
  const common = { fill: "none", rx: 4 };
  return [
    rectangle(answer.box, { ...common, stroke: "#000", "stroke-opacity": 0.6, "stroke-width": 6 }),
    rectangle(answer.box, {
      ...common, class: "face-box", stroke: `rgb(${colorOf(answer)})`, "stroke-width": 3,
      ...(answer.sure ? {} : { "stroke-dasharray": "10 7" }),
    }),
  ];
}

// where there is no room for words the signs alone stand, which the person's card explains
function labelOf(answer, taken, width, height) {
  const size = width < 480 ? 15 : 18;
  const signs = answer.number + (emoji(answer.names) || "?");
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

// the first place of those wished that is in the picture and free; inside the box always is
function place([x, y, width, height], [, , ownWidth, ownHeight], taken, stageWidth, stageHeight, wishes) {
  const left = clamp(x + (ownWidth > width ? (width - ownWidth) / 2 : 0), stageWidth - ownWidth);
  const places = { above: [left, y - ownHeight - GAP], below: [left, y + height + GAP] };
  for (const wish of wishes) {
    if (wish === "inside") return [left, clamp(y + height - ownHeight - GAP, stageHeight - ownHeight)];
    const [px, py] = places[wish];
    const inside = py >= 0 && py + ownHeight <= stageHeight;
    if (inside && !taken.some((other) => overlap([px, py, ownWidth, ownHeight], other))) return [px, py];
  }
  return null;
}

const clamp = (value, most) => Math.max(0, Math.min(value, most));

function overlap([x, y, width, height], [left, top, across, down]) {
  return x < left + across && left < x + width && y < top + down && top < y + height;
}

// what is shown, in the camera's own size; it goes to the visitor's machine and nowhere else
export async function savePicture() {
  const canvas = document.createElement("canvas");
  const [width, height] = [video.videoWidth, video.videoHeight];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  if (mirror.checked) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(video, 0, 0);
  context.resetTransform();
  const drawn = marks.cloneNode(true);
  for (const [key, value] of Object.entries({ width, height })) drawn.setAttribute(key, value);
  const overlay = new Image();
  overlay.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(drawn))}`;
  await overlay.decode();
  context.drawImage(overlay, 0, 0, width, height);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `live-${new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-")}.jpg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
