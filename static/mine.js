// My results: how many are chosen, all of a day or of the page at once, and numbers after deleting.
"use strict";

const chosen = document.getElementById("chosen");

if (chosen) {
  document.addEventListener("change", ({ target }) => {
    if ("all" in target.dataset) for (const box of boxesOf(target)) box.checked = target.checked;
    count();
  });
  document.addEventListener("deleting", count);
  document.addEventListener("deleted", renew);
  // a browser may have kept the ticks
  window.addEventListener("pageshow", count);
}

function boxesOf(all) {
  return [...(all.closest(".day") ?? document).querySelectorAll("li:not([inert]) [name=chosen]")];
}

function count() {
  const ticked = document.querySelectorAll("[name=chosen]:checked").length;
  chosen.querySelector("output").textContent = ticked ? `${ticked} selected` : "None selected";
  chosen.querySelector("details").dataset.undo = ticked === 1 ? "1 result" : `${ticked} results`;
  for (const step of chosen.querySelectorAll("button, details")) step.inert = !ticked;
  for (const all of document.querySelectorAll("[data-all]")) {
    const boxes = boxesOf(all);
    all.checked = boxes.length > 0 && boxes.every((box) => box.checked);
    all.indeterminate = !all.checked && boxes.some((box) => box.checked);
  }
}

async function renew() {
  count();
  const reply = await fetch(window.location.href);
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  if (!page.getElementById("overview") || !document.querySelector("[name=chosen]")) return window.location.assign("/mine");
  for (const old of document.querySelectorAll("#overview, .set")) {
    old.replaceWith(page.getElementById(old.id) ?? "");
  }
}
