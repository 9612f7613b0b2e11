// Everything works without this file; it adds dropping, pasting, previews and progress.
"use strict";

const AT_A_TIME = 2;

const form = document.querySelector("form.upload[data-max-photos]");
if (form) setUpForm(form);

function setUpForm(form) {
  const input = form.querySelector("input[type=file]");
  const list = form.querySelector(".chosen");
  const button = form.querySelector("button.primary");
  const status = form.querySelector(".status");
  const idleText = button.textContent;
  const maxBytes = Number(form.dataset.maxBytes);
  const maxPhotos = Number(form.dataset.maxPhotos);
  const setId = newId();
  const taken = new Set();  // numbers in the set, also of photos that the server has yet to forget
  let photos = [];
  let isSending = false;
  const leaving = [];

  form.querySelector(".drop-hint").hidden = false;

  input.addEventListener("change", () => {
    // a dialog opened again adds to what was chosen; the same file twice counts once
    add([...input.files]);
  });

  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    form.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) form.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    form.classList.remove("over");
    // videos have a form of their own
    add([...event.dataTransfer.files].filter((file) => !isVideo(file)));
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) add(files);
  });

  function add(files) {
    for (const file of files) {
      const known = photos.some((one) => one.file.name === file.name && one.file.size === file.size
        && one.file.lastModified === file.lastModified);
      const isLarge = file.size > maxBytes;
      if (!known) photos.push({ file, isLarge, row: null, state: isLarge ? "failed" : "waiting" });
    }
    const tooMany = photos.length - maxPhotos;
    if (tooMany > 0) photos = photos.slice(0, maxPhotos);
    status.textContent = tooMany > 0 ? `Only the first ${maxPhotos} photos are taken.` : "";
    show();
  }

  function remove(photo) {
    photos = photos.filter((one) => one !== photo);
    photo.row.remove();
    photo.isRemoved = true;
    // one that is being sent is forgotten when its request has ended
    if (photo.position && photo.state !== "sending") leaving.push(forget(photo));
    show();
    input.focus({ preventScroll: true });
    if (taken.size && !isSending) finish();
  }

  // deletes what the server keeps of a photo
  async function forget(photo) {
    try {
      const { photos: kept } = await (await fetch(form.dataset.mine, { cache: "no-store" })).json();
      for (const row of kept.filter((one) => one.set === setId && one.position === photo.position)) {
        const reply = await fetch(`${form.dataset.api}/${row.id}`, { method: "DELETE" });
        if (!reply.ok && reply.status !== 404) throw new Error(reply.status);
      }
      taken.delete(photo.position);
    } catch {
      photo.isRemoved = false;
      if (!photo.reply) photo.state = "failed";
      photo.words.textContent = "⚠ Not removed: the server cannot delete it at the moment.";
      photos.push(photo);
      list.append(photo.row);
    }
  }

  // the form itself carries the choice, so that it can also be sent as it is
  function show() {
    const choice = new DataTransfer();
    for (const photo of photos) choice.items.add(photo.file);
    input.files = choice.files;
    // large ones stay behind where photos are sent one by one; a form would send them as well
    const small = photos.filter((photo) => !photo.isLarge);
    const isStopped = small.length < photos.length && (!small.length || !form.dataset.api);
    input.setCustomValidity(
      isStopped ? `A file is too large: expected at most ${form.dataset.maxWords}. Remove it.` : "");
    if (isStopped) status.textContent = input.validationMessage;
    list.hidden = photos.length === 0;
    for (const photo of photos) if (!photo.row) list.append(rowOf(photo));
    if (isSending) return;
    button.textContent = small.length > 1 ? `Find faces in ${small.length} photos` : idleText;
  }

  function rowOf(photo) {
    const row = document.createElement("li");
    const image = document.createElement("img");
    image.alt = "";
    image.src = URL.createObjectURL(photo.file);
    // some types are read on the server but not by the browser
    image.addEventListener("error", () => { image.hidden = true; });
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = photo.file.name;
    const progress = document.createElement("progress");
    progress.max = 1;
    progress.value = 0;
    progress.hidden = true;
    progress.setAttribute("aria-label", `Sending ${photo.file.name}`);
    const words = document.createElement("span");
    words.className = "words";
    row.classList.toggle("failed", photo.isLarge);
    if (photo.isLarge) {
      const size = (photo.file.size / 2 ** 20).toFixed(1);
      words.textContent = `⚠ Not sent: expected at most ${form.dataset.maxWords}; received ${size} MB.`;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Remove";
    button.setAttribute("aria-label", `Remove ${photo.file.name}`);
    button.addEventListener("click", () => remove(photo));
    row.append(image, name, progress, words, button);
    Object.assign(photo, { row, progress, words, button });
    return row;
  }

  form.addEventListener("submit", (event) => {
    button.disabled = true;
    button.textContent = button.dataset.busy;
    status.textContent = button.dataset.busy;
    if (photos.length > 1 && form.dataset.api) {
      event.preventDefault();
      sendAll();
    } else {
      for (const photo of photos) photo.button.hidden = true;
    }
  });

  // the page comes back as it was left when a visitor goes back to it
  window.addEventListener("pageshow", () => {
    button.disabled = false;
    status.textContent = "";
    // what was read is deleted on its own page
    for (const photo of photos) photo.button.hidden = photo.state === "read";
    show();
  });

  async function sendAll() {
    isSending = true;
    for (const photo of photos) if (photo.state === "failed" && !photo.isLarge) photo.state = "waiting";
    const work = async () => {
      let photo;
      while ((photo = photos.find((one) => one.state === "waiting"))) {
        for (const one of photos) if (!one.isLarge) one.position ??= freeNumber();
        await send(photo);
        const sent = photos.filter((one) => !one.isLarge);
        const done = sent.filter((one) => ["read", "failed"].includes(one.state));
        status.textContent = `${done.length} of ${sent.length} photos`;
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, work));
    isSending = false;
    finish();
  }

  function freeNumber() {
    let number = 1;
    while (taken.has(number)) number += 1;
    taken.add(number);
    return number;
  }

  async function finish() {
    await Promise.all(leaving);
    const read = photos.filter((photo) => photo.reply);
    const failed = photos.filter((photo) => !photo.reply);
    const target = read.length === 1 ? read[0].reply.links.page : read[0]?.reply.links.set;
    if (target && !failed.length) {
      window.location.assign(target);
      return;
    }
    button.disabled = false;
    status.textContent = "";
    show();
    if (!failed.length) return;
    if (!failed.every((photo) => photo.isLarge)) button.textContent = "Try those again";
    status.textContent =
      `${failed.length} of ${photos.length} photos could not be read: the reasons are beside them. `;
    list.append(...failed.map((photo) => photo.row));
    list.scrollTop = list.scrollHeight;
    if (target) {
      const link = document.createElement("a");
      link.href = target;
      link.className = "button primary";
      link.textContent = read.length === 1 ? "See the other one" : `See the other ${read.length}`;
      status.append(link);
      link.focus();
    }
  }

  // a busy server says when to come back; a photo waits a few times, then gives up
  async function send(photo) {
    photo.state = "sending";
    photo.progress.hidden = false;
    for (let attempt = 0; ; attempt += 1) {
      photo.words.textContent = "";
      const reply = await post(photo);
      const wait = [429, 503].includes(reply.status) ? reply.retryAfter : 0;
      if (!photo.isRemoved && wait && attempt < 8) {
        photo.words.textContent = "The server is busy, waiting…";
        await new Promise((resolve) => { setTimeout(resolve, wait * 1000 * (1 + Math.random())); });
        if (!photo.isRemoved) continue;
      }
      if (photo.isRemoved) return forget(photo);
      photo.progress.hidden = true;
      photo.reply = reply.status === 201 ? reply.content : null;
      photo.state = photo.reply ? "read" : "failed";
      photo.row.classList.toggle("failed", !photo.reply);
      photo.words.textContent = photo.reply ? facesIn(reply.content.results) : `⚠ ${reply.detail}`;
      return;
    }
  }

  function post(photo) {
    const body = new FormData();
    for (const [name, value] of new FormData(form)) if (name !== input.name) body.append(name, value);
    body.append("set", setId);
    body.append("position", photo.position);
    body.append(input.name, photo.file);
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.open("POST", form.dataset.api);
      request.responseType = "json";
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) photo.progress.value = event.loaded / event.total;
        // a photo that the server has whole may be kept by now: its answer is waited for
        if (photo.isRemoved && event.loaded < event.total) request.abort();
      });
      request.upload.addEventListener("load", () => { photo.progress.removeAttribute("value"); });
      request.addEventListener("abort", () => resolve({ status: 0 }));
      request.addEventListener("load", () => resolve({
        status: request.status,
        content: request.response,
        detail: request.response?.detail ?? `The server answered with status ${request.status}.`,
        retryAfter: Number(request.getResponseHeader("Retry-After")) || 0,
      }));
      request.addEventListener("error", () => resolve({ status: 0, detail: "The server cannot be reached." }));
      request.send(body);
    });
  }
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

for (const time of document.querySelectorAll("time[datetime]")) {
  const options = { dateStyle: "medium", timeStyle: "short" };
  time.textContent = new Date(time.dateTime).toLocaleString("en", options);
}
