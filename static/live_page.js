// What the other scripts of the live page share: its elements and the words for an answer.

export const byId = (id) => document.getElementById(id);
export const root = byId("live");
export const words = JSON.parse(root.dataset.words);

const classes = new Map(words.classes.map((each) => [each.name, each]));
const UNSURE_COLOR = [255, 255, 255];

// the server may have another model by now
export const look = (name) => classes.get(name) ?? { label: name, emoji: "", color: [200, 200, 200] };
export const emoji = (names) => names.map((name) => look(name).emoji).join("");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const colorOf = (answer) => (answer.sure ? look(answer.names[0]).color : UNSURE_COLOR);

// black or white, whichever has more contrast (luminance of WCAG 2)
export function ink(color) {
  const [red, green, blue] = color.map((part) =>
    (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function say(text, isTrouble = false) {
  write(byId("state"), text);
  byId("state").classList.toggle("trouble", isTrouble);
  if (!isTrouble) write(byId("retry"), "");
}

export function remembered(key) {
  try { return localStorage.getItem(key); } catch { return null; }  // a browser may forbid it
}

export function remember(key, value) {
  try { localStorage.setItem(key, value); } catch { /* then it is chosen again next time */ }
}
