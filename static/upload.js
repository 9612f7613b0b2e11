// The form for photos and videos: each file is sent as soon as it is chosen, with its progress beside it.
"use strict";

const AT_A_TIME = 2;
const TRIES = 8;
const NOT_READABLE = [413, 415, 422];
const LARGE_BYTES = 2 ** 20;

// Returns what takes more files, and what stops all.
function setUpUpload(form) {
  const { api, mine, minePage, videos: videoApi } = form.dataset;
  const input = form.querySelector("input[type=file]");
  const list = form.querySelector(".chosen");
  const status = form.querySelector(".status");
  const all = form.querySelector(".all");
  const allButton = all.querySelector("button");
  const maxPhotos = Number(form.dataset.maxPhotos);
  const setId = newId();
  const taken = new Set();  // numbers in the set, also of photos that the server has yet to forget
  const leaving = [];
  let items = [];
  let note = "";

  if (videoApi) input.accept += ",video/*,.mkv,.avi";
  rememberSettings(form);
  // a dialog opened again adds to what was chosen; the same file twice counts once
  input.addEventListener("change", () => add([...input.files]));
  allButton.addEventListener("click", () => (isAtWork() ? stop() : retry(items)));
  form.addEventListener("submit", (event) => {
    if (event.submitter?.hasAttribute("formaction")) status.textContent = "One moment…";
    else if (api) event.preventDefault();
  });
  // the page comes back as it was left when a visitor goes back to it
  window.addEventListener("pageshow", (event) => { if (event.persisted) window.location.reload(); });

  function add(files) {
    const isNew = (file) => !items.some(({ file: known }) => known.name === file.name
      && known.size === file.size && known.lastModified === file.lastModified);
    const room = () => maxPhotos - items.filter((item) => !item.isVideo).length;
    const tooMany = [];
    for (const file of files.filter(isNew)) {
      const item = { file, isVideo: isVideo(file), state: "waiting" };
      if (!item.isVideo && room() <= 0) {
        tooMany.push(file);
        continue;
      }
      items.push(item);
      show(item);
      const words = whyNot(item);
      if (words) fail(item, words);
      else if (!item.isVideo) item.position = freeNumber();
    }
    note = tooMany.length ? `Only the first ${maxPhotos} photos are taken. ` : "";
    status.textContent = note;
    if (api) {
      input.value = "";
      run();
    } else sendForm();
  }

  // what is known to be refused is not sent
  function whyNot({ file, isVideo }) {
    const most = Number(isVideo ? form.dataset.maxVideoBytes : form.dataset.maxBytes);
    if (isVideo && !videoApi) return "Not sent: this server takes no videos.";
    if (file.size <= most) return "";
    return `Not sent: expected at most ${megabytes(most)}; received ${megabytes(file.size)}.`;
  }

  // where nothing is kept there is no set to add to, and one page shows all
  function sendForm() {
    const choice = new DataTransfer();
    for (const { file, isRefused } of items) if (!isRefused) choice.items.add(file);
    input.files = choice.files;
    if (!choice.files.length || items.some((item) => item.isRefused)) return;
    status.textContent = "Looking for faces…";
    form.submit();
  }

  function show(item) {
    const row = element("li");
    if (!item.isVideo) {
      const image = element("img", { alt: "", src: URL.createObjectURL(item.file) });
      // some types are read on the server but not by the browser
      image.addEventListener("error", () => { image.hidden = true; });
      row.append(image);
    }
    const name = element("span", { className: "name", textContent: item.file.name });
    const progress = element("progress", { max: 1, value: 0, hidden: true, ariaLabel: `Sending ${item.file.name}` });
    const words = element("span", { className: "words" });
    const again = element("button", { type: "button", textContent: "Try again", hidden: true });
    const button = element("button", { type: "button", textContent: "Remove" });
    for (const each of [again, button]) each.ariaLabel = `${each.textContent} ${item.file.name}`.replace("again ", "again: ");
    again.addEventListener("click", () => retry([item]));
    button.addEventListener("click", () => remove(item));
    const [what, does] = [element("div", { className: "what" }), element("div")];
    what.append(name, progress, words);
    does.append(again, button);
    row.append(what, does);
    list.append(row);
    Object.assign(item, { row, progress, words, again });
    refresh();
  }

  function refresh() {
    list.hidden = items.length === 0;
    const again = items.filter((item) => !item.again.hidden);
    all.hidden = isAtWork() ? items.length < 2 : again.length < 2;
    allButton.textContent = isAtWork() ? "Stop all" : "Try all again";
  }

  const isAtWork = () => items.some(({ state }) => state === "waiting" || state === "sending");

  function fail(item, words, status = 0) {
    item.state = "failed";
    item.isRefused = Boolean(whyNot(item));
    item.again.hidden = item.isRefused || NOT_READABLE.includes(status);
    item.progress.hidden = true;
    item.row.classList.add("failed");
    item.words.textContent = `⚠ ${words}`;
  }

  function retry(chosen) {
    for (const item of chosen.filter(({ again }) => !again.hidden)) {
      item.state = "waiting";
      item.again.hidden = true;
      item.isStopped = false;
      item.row.classList.remove("failed");
      item.words.textContent = "";
    }
    run();
  }

  function remove(item) {
    item.isRemoved = true;
    const next = item.row.nextElementSibling ?? item.row.previousElementSibling;
    items = items.filter((one) => one !== item);
    item.row.remove();
    // one that is being sent is forgotten when its request has ended
    if (item.state === "sending") interrupt(item);
    else if (item.position || item.reply) leaving.push(forget(item));
    (next?.querySelector("button:last-of-type") ?? input).focus({ preventScroll: true });
    refresh();
    if (items.length && !isAtWork()) finish();
  }

  function stop() {
    for (const item of items.filter(({ state }) => ["waiting", "sending"].includes(state))) {
      item.isStopped = true;
      if (item.state === "sending") interrupt(item);
      else fail(item, "Stopped.");
    }
    finish();
  }

  // what the server has whole may be kept by now: its answer is waited for
  function interrupt(item) {
    item.wake?.();
    if (!item.isWhole) item.request?.abort();
  }

  // deletes what the server keeps of a file
  async function forget(item) {
    try {
      const addresses = item.isVideo ? [item.reply?.links.self].filter(Boolean) : [];
      if (!item.isVideo) {
        const { photos } = await (await fetch(mine, { cache: "no-store" })).json();
        const own = photos.filter((one) => one.set === setId && one.position === item.position);
        addresses.push(...own.map((one) => `${api}/${one.id}`));
      }
      for (const address of addresses) {
        const reply = await fetch(address, { method: "DELETE" });
        if (!reply.ok && reply.status !== 404) throw new Error(reply.status);
      }
      taken.delete(item.position);
    } catch {
      item.isRemoved = false;
      items.push(item);
      list.append(item.row);
      if (!item.reply) fail(item, "");
      item.words.textContent = "⚠ Not removed: the server cannot delete it at the moment.";
    }
  }

  function run() {
    refresh();
    while (items.filter(({ state }) => state === "sending").length < AT_A_TIME) {
      const waiting = items.filter(({ state }) => state === "waiting");
      const item = waiting.find(({ isVideo }) => !isVideo) ?? waiting[0];
      if (!item) break;
      item.state = "sending";
      send(item).then(() => (isAtWork() ? run() : finish()));
    }
    if (!isAtWork()) finish();
    else if (items.length > 1) status.textContent = `${note}${items.filter(isEnded).length} of ${items.length} done`;
  }

  const isEnded = ({ state }) => state === "done" || state === "failed";

  function freeNumber() {
    let number = 1;
    while (taken.has(number)) number += 1;
    taken.add(number);
    return number;
  }

  // goes to the results, or says what is missing and leads to the others
  async function finish() {
    await Promise.all(leaving);
    if (isAtWork()) return;
    refresh();
    const done = items.filter(({ state }) => state === "done");
    const photos = done.filter(({ isVideo }) => !isVideo);
    const sent = items.filter(({ isVideo, isRefused }) => !isVideo && !isRefused);
    const pages = done.filter(({ isVideo }) => isVideo).map(({ reply }) => reply.links.page);
    if (photos.length) pages.push(photos[0].reply.links[sent.length === 1 ? "page" : "set"]);
    const target = pages.length > 1 ? minePage : pages[0];
    status.textContent = "";
    if (target && done.length === items.length) {
      status.textContent = "Opening the results…";
      window.location.assign(target);
    } else if (items.length) {
      status.textContent = `${note}${items.length - done.length} of ${items.length} not analysed: the reasons are beside them. `;
      if (!target) return;
      const words = done.length === 1 ? "See the other one" : `See the other ${done.length}`;
      const link = element("a", { href: target, className: "button primary", textContent: words });
      status.append(link);
      link.focus();
    }
  }

  // a busy server says when to come back; a photo waits a few times, then gives up
  async function send(item) {
    item.progress.hidden = false;
    item.words.textContent = "";
    let reply = await refusalOf(item) ?? await post(item);
    for (let tries = 1; tries < TRIES && !item.isVideo && reply.retryAfter; tries += 1) {
      item.words.textContent = "The server is busy, waiting…";
      await new Promise((resolve) => {
        item.wake = resolve;
        setTimeout(resolve, reply.retryAfter * 1000 * (1 + Math.random()));
      });
      if (item.isRemoved || item.isStopped) break;
      item.words.textContent = "";
      reply = await post(item);
    }
    item.progress.hidden = true;
    item.reply = [201, 202].includes(reply.status) ? reply.content : null;
    if (item.isRemoved) return forget(item);
    if (!item.reply) return fail(item, item.isStopped ? "Stopped." : reply.detail, reply.status);
    item.state = "done";
    item.words.textContent = item.isVideo ? "✓ sent" : facesIn(reply.content.results);
  }

  // a server without room closes the line while a large video is sent, without a word that a page can read
  async function refusalOf(item) {
    if (!item.isVideo || item.file.size < LARGE_BYTES) return null;
    const reply = await fetch(`${videoApi}/queue`, { cache: "no-store" }).catch(() => null);
    if (!reply || ![409, 429, 503].includes(reply.status)) return null;
    return { status: reply.status, detail: (await reply.json()).detail };
  }

  function post(item) {
    const body = new FormData(form);
    body.delete(input.name);
    if (!item.isVideo) {
      body.append("set", setId);
      body.append("position", item.position);
    }
    body.append(item.isVideo ? "video" : "photo", item.file);
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      Object.assign(item, { request, isWhole: false });
      request.open("POST", item.isVideo ? videoApi : api);
      request.responseType = "json";
      request.upload.addEventListener("progress", (event) => {
        item.progress.value = event.loaded / event.total;
        item.isWhole = event.loaded === event.total;
      });
      request.upload.addEventListener("load", () => {
        item.isWhole = true;
        item.progress.removeAttribute("value");
        item.words.textContent = item.isVideo ? "" : "Looking for faces…";
      });
      request.addEventListener("load", () => resolve({
        status: request.status,
        content: request.response,
        detail: request.response?.detail ?? `The server answered with status ${request.status}.`,
        retryAfter: [429, 503].includes(request.status) ? Number(request.getResponseHeader("Retry-After")) : 0,
      }));
      request.addEventListener("abort", () => resolve({ status: 0 }));
      request.addEventListener("error", () => resolve({ status: 0, detail: "The server cannot be reached, or refused the file." }));
      request.send(body);
    });
  }

  return { add, stop };
}

// the choice of a model and the tick stay as they were left in this browser
function rememberSettings(form) {
  const said = form.querySelector(".setting summary span");
  for (const field of form.querySelectorAll("select[name=model], [type=checkbox]")) {
    const key = field.type === "checkbox" ? "checked" : "value";
    const before = field[key];
    const say = () => { if (key === "value") said.textContent = field.selectedOptions[0].textContent; };
    try {
      const kept = JSON.parse(localStorage.getItem(field.name));
      if (kept !== null) field[key] = kept;
      // a model that is not offered any more
      if (field[key] === "") field[key] = before;
    } catch { /* a browser that keeps nothing */ }
    say();
    field.addEventListener("change", () => {
      say();
      try {
        localStorage.setItem(field.name, JSON.stringify(field[key]));
      } catch { /* as above */ }
    });
  }
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function isVideo(file) {
  return file.type.startsWith("video/") || /\.(mkv|avi|mov|mp4|m4v|webm|wmv|flv|mpe?g)$/i.test(file.name);
}

function megabytes(bytes) {
  return `${Number((bytes / 2 ** 20).toFixed(1))} MB`;
}

function facesIn(results) {
  const count = results.faces.length;
  return `✓ ${count === 0 ? "no face" : count === 1 ? "1 face" : `${count} faces`}`;
}

// as the server makes them: 16 random bytes in 22 letters
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
