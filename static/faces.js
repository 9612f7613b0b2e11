// Tiles of faces: their order, and which of them are seen.
"use strict";

for (const form of document.querySelectorAll("form.sorting")) {
  const list = document.getElementById(form.dataset.list);
  const found = [...list.children];
  const orders = {
    found: () => 0,
    area: (one, other) => other.dataset.area - one.dataset.area,
    confidence: (one, other) => one.dataset.confidence - other.dataset.confidence,
  };
  const show = () => {
    const { order, answer } = Object.fromEntries(new FormData(form));
    list.append(...[...found].sort(orders[order]));
    for (const tile of found) {
      const fits = answer === "unsure" ? tile.dataset.sure === "false" : tile.dataset.answer === answer;
      tile.hidden = Boolean(answer) && !fits;
    }
    const seen = found.filter((tile) => !tile.hidden).length;
    form.querySelector("output").textContent =
      answer ? `${seen} of ${found.length} faces` : `${found.length} faces`;
  };
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  // a browser may have kept the choice
  show();
}
