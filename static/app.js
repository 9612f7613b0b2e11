// Everything works without this file; it only says sooner what the pages say anyway.
"use strict";

const form = document.querySelector("form.upload");
if (form) {
  const input = form.querySelector("input[type=file]");
  const preview = form.querySelector(".preview");
  const button = form.querySelector("button");
  const status = form.querySelector(".status");
  const idleText = button.textContent;

  input.addEventListener("change", () => {
    const file = input.files[0];
    const tooLarge = file && file.size > Number(form.dataset.maxBytes);
    const message = `This file is too large: expected at most ${form.dataset.maxWords}.`;
    input.setCustomValidity(tooLarge ? message : "");
    status.textContent = tooLarge ? message : "";
    URL.revokeObjectURL(preview.src);
    preview.hidden = !file || tooLarge;
    if (!preview.hidden) preview.src = URL.createObjectURL(file);
  });
  // some types are read here but not by the browser
  preview.addEventListener("error", () => { preview.hidden = true; });

  form.addEventListener("submit", () => {
    button.disabled = true;
    button.textContent = button.dataset.busy;
    status.textContent = button.dataset.busy;
  });
  // the page comes back as it was left when a visitor goes back to it
  window.addEventListener("pageshow", () => {
    button.disabled = false;
    button.textContent = idleText;
    status.textContent = "";
  });
}

for (const card of document.querySelectorAll("[data-region]")) {
  const region = document.getElementById(card.dataset.region);
  const mark = (on) => () => region.classList.toggle("marked", on);
  card.addEventListener("mouseenter", mark(true));
  card.addEventListener("mouseleave", mark(false));
}

for (const time of document.querySelectorAll("time[datetime]")) {
  const options = { dateStyle: "medium", timeStyle: "short" };
  time.textContent = new Date(time.dateTime).toLocaleString("en", options);
}
