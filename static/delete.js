// Deleting can be taken back for ten seconds: the request is sent after them, or on leaving the page.
// Without this file the same button asks once more.
"use strict";

const UNDO_S = 10;

for (const step of document.querySelectorAll("details.confirm")) {
  step.querySelector("summary").addEventListener("click", (event) => {
    event.preventDefault();
    deleteSoon(step);
  });
}

function deleteSoon(step) {
  const form = step.querySelector("form");
  const place = step.closest("[data-deletes]");
  const body = new URLSearchParams(new FormData(form));
  const message = document.createElement("div");
  message.className = "undo";
  const words = document.createElement("p");
  words.setAttribute("role", "status");
  const undo = document.createElement("button");
  undo.type = "button";
  undo.textContent = "Undo";
  message.append(words, undo);
  undoArea().append(message);
  words.textContent = `${step.dataset.undo} will be deleted in ${UNDO_S} seconds.`;
  place.inert = true;
  undo.focus();

  const timer = setTimeout(send, UNDO_S * 1000);
  const sendLeaving = () => navigator.sendBeacon(form.action, body);
  window.addEventListener("pagehide", sendLeaving);

  function stop() {
    clearTimeout(timer);
    window.removeEventListener("pagehide", sendLeaving);
  }

  function takeBack() {
    stop();
    message.remove();
    place.inert = false;
    step.querySelector("summary").focus();
  }
  undo.addEventListener("click", takeBack);
  message.addEventListener("keydown", (event) => { if (event.key === "Escape") takeBack(); });

  async function send() {
    stop();
    undo.remove();
    try {
      const reply = await fetch(form.action, { method: "POST", body, keepalive: true });
      // what was deleted by somebody else in the meantime is gone as well
      if (!reply.ok && reply.status !== 404) throw new Error(reply.status);
      if (place.dataset.deletes !== "stay") return window.location.assign(reply.ok ? reply.url : "/");
      place.remove();
      words.textContent = "Deleted.";
      setTimeout(() => message.remove(), UNDO_S * 1000);
    } catch {
      place.inert = false;
      words.textContent = "⚠ Not deleted: the server cannot do it at the moment. Please try again.";
    }
  }
}

function undoArea() {
  const area = document.querySelector(".undo-area") ?? document.createElement("div");
  area.className = "undo-area";
  document.body.append(area);
  return area;
}

// a page that was left while something was being deleted comes back without it
window.addEventListener("pageshow", (event) => {
  if (event.persisted && document.querySelector(".undo")) window.location.reload();
});
