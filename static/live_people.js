// A card for each person in view, beside or below the video, in the order from the left.

import { mostRisen, percent, read } from "./live_faces.js";
import { byId, capital, colorOf, emoji, ink, look, root, words, write } from "./live_page.js";

const HISTORY_MS = 10000;
const LONGEST_GAP_MS = 1500;
const SPEAK_EVERY_MS = 5000;
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
const cards = new Map();
let crowdUntil = 0;
let spokenAt = -SPEAK_EVERY_MS;
let spoken = "";

export function show(people, withoutFace, now) {
  // more than two go below the picture, until it is clear that they are fewer
  if (people.length > 2) crowdUntil = now + 3000;
  root.classList.toggle("crowd", now < crowdUntil);
  write(byId("nobody"), withoutFace);
  byId("nobody").hidden = people.length > 0;
  for (const [id, card] of cards) {
    if (people.some((track) => track.id === id)) continue;
    card.remove();
    cards.delete(id);
  }
  people.forEach((track, index) => {
    const card = cards.get(track.id) ?? newCard(track.id);
    const before = byId("people").children[index];
    if (before !== card) byId("people").insertBefore(card, before ?? null);
    fill(card, track, people.length > 1 ? index + 1 : null, now);
  });
}

function newCard(id) {
  const card = byId("person").content.firstElementChild.cloneNode(true);
  card.drawnAt = -Infinity;
  card.querySelector(".forget").addEventListener("click", () =>
    byId("people").dispatchEvent(new CustomEvent("forget", { detail: id })));
  cards.set(id, card);
  return card;
}

function fill(card, track, number, now) {
  const part = (name) => card.querySelector(`.${name}`);
  const answer = read(track, words);
  const color = colorOf(answer);
  write(part("person-number"), number ? `${number}` : "");
  write(part("person-name"), number ? `Person ${number}` : "Person in view");
  part("person-number").classList.toggle("unsure", !answer.sure);
  Object.assign(part("person-number").style, { background: `rgb(${color})`, color: ink(color) });
  write(part("emoji"), emoji(answer.names));
  write(part("verdict-words"), verdictOf(answer));
  if (words.agreementTemperature) {
    write(part("people"), answer.sure ? `${answer.agreement} of 10 people would say ${look(answer.names[0]).label}` : "");
  }
  [...part("bars").rows].forEach((row, index) => fillBar(row, words.classes[index].name, answer, track.rest));
  part("rest").hidden = !track.rest;
  const risen = track.rest && mostRisen(track.probabilities, track.rest);
  write(part("risen"), risen ? `${look(risen.name).label} +${risen.points} points over the resting face`
    : "Much like the resting face");
  advise(part("notes"), track);
  // for who asked for less motion, the strip moves once a second
  if (isCalm.matches && now - card.drawnAt < 1000) return;
  card.drawnAt = now;
  drawHistory(part("history"), track.history, now);
}

const verdictOf = (answer) =>
  answer.sure ? capital(`${answer.words} ${percent(answer.ranking[0][1])}`)
    : capital(answer.words.replace("unsure", words.unsure));

function fillBar(row, name, answer, rest) {
  const value = answer.track.probabilities[name] ?? 0;
  row.className = answer.names.includes(name) ? "first" : "";
  row.querySelector(".fill").setAttribute("width", (100 * value).toFixed(1));
  const line = row.querySelector(".at-rest");
  line.toggleAttribute("hidden", !rest);
  line.setAttribute("x", rest ? Math.min(98, 100 * (rest[name] ?? 0)).toFixed(1) : 0);
  write(row.querySelector(".share"), percent(value));
}

function advise(list, track) {
  const notes = [...track.notes].filter(([, weight]) => weight > 0.5).map(([note]) => `${note}.`);
  if ([...list.children].map((item) => item.textContent).join() === notes.join()) return;
  list.replaceChildren(...notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  }));
  list.hidden = !notes.length;
}

// the shares of the classes, one over the other; where the face was away there is nothing
function drawHistory(canvas, history, now) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  const at = (ms) => Math.round(width * (1 - (now - ms) / HISTORY_MS));
  history.forEach(([from, probabilities], index) => {
    const until = Math.min(history[index + 1]?.[0] ?? now, from + LONGEST_GAP_MS);
    let top = height;
    for (const { name } of words.classes) {
      const part = height * (probabilities[name] ?? 0);
      context.fillStyle = `rgb(${look(name).color})`;
      context.fillRect(at(from), top - part, at(until) - at(from), part);
      top -= part;
    }
  });
}

// a voice that speaks of every change would never be silent
export function speak(tracks, withoutFace, now) {
  const count = tracks.list.length;
  const text = !count ? `${withoutFace}.`
    : `${count > 1 ? `${count} faces; the largest: ` : ""}${read(tracks.largest, words).words}.`;
  if (text === spoken || now - spokenAt < SPEAK_EVERY_MS) return;
  announce(text, now);
}

export function announce(text, now) {
  [spoken, spokenAt] = [text, now];
  write(byId("spoken"), text);
}
