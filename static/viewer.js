// A photo and its faces: zoom, one face's bars at a time, keys, full screen, and the link to share.
// Without this file the photo stands as it is, and all faces below it.
"use strict";

const shownResult = document.querySelector(".result");
if (shownResult) setUpViewer(shownResult);

function setUpViewer(result) {
  const MOST_ZOOM = 16;
  const STEP = 1.5;
  const CLICK_PX = 4;  // a pointer that moves less has clicked
  const svg = result.querySelector(".photo svg");
  const picture = svg.querySelector("image");
  const { width, height } = svg.viewBox.baseVal;  // the units of boxes and labels
  const numbers = [...result.querySelectorAll(".face")].map((card) => card.dataset.face);
  const view = { zoom: 1, x: width / 2, y: height / 2 };  // its middle, in those units
  let chosen = null;

  // Zoom and pan: the part of the photo that is seen is the viewBox

  function unitsPerPixel() {
    return Math.max(width / svg.clientWidth, height / svg.clientHeight) / view.zoom;
  }

  function draw() {
    if (!svg.clientWidth) return;
    view.zoom = Math.min(Math.max(view.zoom, 1), MOST_ZOOM);
    const unit = unitsPerPixel();
    const across = svg.clientWidth * unit;
    const down = svg.clientHeight * unit;
    view.x = inside(view.x, across, width);
    view.y = inside(view.y, down, height);
    svg.setAttribute("viewBox", `${view.x - across / 2} ${view.y - down / 2} ${across} ${down}`);
    // labels grow more slowly than the faces
    svg.style.setProperty("--shrink", view.zoom ** -0.75);
    svg.classList.toggle("zoomed", view.zoom > 1);
    tool("out").disabled = tool("fit").disabled = view.zoom === 1;
    tool("in").disabled = view.zoom === MOST_ZOOM;
    if (picture.dataset.full && view.zoom > 1 && unit < window.devicePixelRatio) {
      // over the smaller copy, which is seen until it is there
      const full = picture.cloneNode();
      full.setAttribute("href", picture.dataset.full);
      full.setAttribute("aria-hidden", "true");
      for (const image of [picture, full]) delete image.dataset.full;
      picture.after(full);
    }
  }

  function inside(middle, seen, whole) {
    return seen >= whole ? whole / 2 : Math.min(Math.max(middle, seen / 2), whole - seen / 2);
  }

  // the place that is under the pointer stays there
  function zoomBy(factor, clientX, clientY) {
    const box = svg.getBoundingClientRect();
    const across = (clientX ?? box.x + box.width / 2) - box.x - box.width / 2;
    const down = (clientY ?? box.y + box.height / 2) - box.y - box.height / 2;
    const before = unitsPerPixel();
    view.zoom = Math.min(Math.max(view.zoom * factor, 1), MOST_ZOOM);
    view.x += across * (before - unitsPerPixel());
    view.y += down * (before - unitsPerPixel());
    draw();
  }

  svg.addEventListener("wheel", (event) => {
    const isMeant = event.ctrlKey || event.metaKey || isFull() || view.zoom > 1
      || result.querySelector(".photo").contains(document.activeElement);
    if (!isMeant || (view.zoom === 1 && event.deltaY > 0 && !event.ctrlKey)) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX, event.clientY);
  }, { passive: false });

  svg.addEventListener("dblclick", (event) => {
    if (!event.target.closest("a")) zoomBy(view.zoom > 1 ? 0 : 2 * STEP, event.clientX, event.clientY);
  });

  const pointers = new Map();
  let hasMoved = false;

  svg.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    hasMoved = pointers.size > 1;
  });
  svg.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const across = event.clientX - before.clientX;
    const down = event.clientY - before.clientY;
    if (!hasMoved && Math.hypot(across, down) < CLICK_PX) return;
    hasMoved = true;
    // from here on also outside of the photo; not before, or links would not be clicked
    svg.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
    view.x -= across * unitsPerPixel() / pointers.size;
    view.y -= down * unitsPerPixel() / pointers.size;
    if (!other) return draw();
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const middle = [(event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2];
    zoomBy(apart(event) / Math.max(1, apart(before)), ...middle);
  });
  for (const type of ["pointerup", "pointercancel"]) {
    svg.addEventListener(type, (event) => pointers.delete(event.pointerId));
  }
  svg.addEventListener("dragstart", (event) => event.preventDefault());
  svg.addEventListener("click", (event) => {
    if (!hasMoved || !event.detail) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  // a click beside the faces leaves the wheel to the photo
  svg.parentElement.tabIndex = -1;

  // One face at a time

  function of(number, kind) {
    return result.querySelector(`${kind}[data-face="${number}"]`);
  }

  function choose(number) {
    chosen = number;
    for (const part of result.querySelectorAll("[data-face]")) {
      const isChosen = part.dataset.face === number;
      part.classList.toggle("current", isChosen);
      // all boxes together are one stop of the tabulator
      if (part.matches("svg a")) part.setAttribute("tabindex", isChosen ? 0 : -1);
      const link = part.matches("li") ? part.querySelector("a") : part.matches("svg a") && part;
      if (link) link[isChosen ? "setAttribute" : "removeAttribute"]("aria-current", "true");
    }
    if (view.zoom === 1) return;
    const box = of(number, "svg a").querySelector("rect");
    view.x = Number(box.getAttribute("x")) + Number(box.getAttribute("width")) / 2;
    view.y = Number(box.getAttribute("y")) + Number(box.getAttribute("height")) / 2;
    draw();
  }

  function follow(hash) {
    const number = hash.replace("#face-", "");
    if (numbers.includes(number)) choose(number);
    return numbers.includes(number);
  }

  function step(by) {
    // in the order of the tiles, of which some may be hidden
    const tiles = [...result.querySelectorAll(".tiles li:not([hidden])")].map((tile) => tile.dataset.face);
    const order = tiles.length ? tiles : numbers;
    const next = order[order.indexOf(chosen) + by];
    if (!next) return turn(by);
    choose(next);
    history.replaceState(null, "", `#face-${next}`);
    of(next, "svg a").focus({ preventScroll: true });
  }

  function turn(by) {
    const link = document.querySelector(`a[rel=${by > 0 ? "next" : "prev"}]`);
    if (!link) return;
    if (isFull()) sessionStorage.setItem("full", "true");
    window.location.assign(link.href);
  }

  result.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#face-']");
    if (!link || event.ctrlKey || event.metaKey || !follow(link.getAttribute("href"))) return;
    event.preventDefault();
    history.replaceState(null, "", link.getAttribute("href"));
    const card = of(chosen, ".face");
    if (link.matches("li a")) card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  });
  window.addEventListener("hashchange", () => follow(window.location.hash));

  for (const type of ["pointerover", "focusin", "pointerleave", "focusout"]) {
    result.addEventListener(type, (event) => {
      const isOn = type === "pointerover" || type === "focusin";
      const number = isOn ? event.target.closest("[data-face]")?.dataset.face : null;
      for (const part of result.querySelectorAll("[data-face]")) {
        part.classList.toggle("marked", part.dataset.face === number);
      }
    });
  }

  // Buttons and keys

  function tool(does) {
    return result.querySelector(`[data-do=${does}]`) ?? {};
  }

  function toggle(name) {
    const isOn = svg.classList.toggle(`no-${name}`);
    tool(name).setAttribute("aria-pressed", String(!isOn));
  }

  function isFull() {
    return result.classList.contains("full");
  }

  // where the browser gives no full screen, as on iPhones, it is the whole window
  function setFull(isOn) {
    result.classList.toggle("full", isOn);
    tool("full").setAttribute("aria-pressed", String(isOn));
    if (isOn) result.requestFullscreen?.().catch(() => {});
    else if (document.fullscreenElement) document.exitFullscreen();
    draw();
  }

  function leave() {
    if (isFull()) setFull(false);
    else if (view.zoom > 1) zoomBy(0);
    else of(chosen, "li")?.querySelector("a").focus();
  }

  const actions = {
    in: () => zoomBy(STEP),
    out: () => zoomBy(1 / STEP),
    fit: () => zoomBy(0),
    previous: () => step(-1),
    next: () => step(1),
    boxes: () => toggle("boxes"),
    labels: () => toggle("labels"),
    full: () => setFull(!isFull()),
  };
  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, "−": actions.out, 0: actions.fit,
    ArrowLeft: actions.previous, ArrowRight: actions.next, n: () => turn(1), p: () => turn(-1),
    f: actions.full, Escape: leave,
  };
  result.addEventListener("click", (event) => {
    actions[event.target.closest("[data-do]")?.dataset.do]?.();
  });
  document.addEventListener("keydown", (event) => {
    const isOurs = event.target === document.body || result.contains(event.target);
    if (!isOurs || event.target.matches("input, select, textarea")) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || (event.key.startsWith("Arrow") && !numbers.length)) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement && isFull()) setFull(false);
  });
  new ResizeObserver(draw).observe(svg);

  // The link to share

  const share = result.querySelector("details.share");
  if (share) {
    const field = share.querySelector("input");
    field.value = window.location.href.split("#")[0];
    share.querySelector("[data-share=send]").hidden = !navigator.share;
    share.addEventListener("click", async (event) => {
      const how = event.target.dataset.share;
      if (!how) return;
      try {
        if (how === "send") return await navigator.share({ title: document.title, url: field.value });
        field.select();
        // pages of plain HTTP have no clipboard of their own
        if (navigator.clipboard) await navigator.clipboard.writeText(field.value);
        else document.execCommand("copy");
        share.querySelector("[role=status]").textContent = "✓ Link copied.";
      } catch { /* the visitor thought better of it */ }
    });
  }

  // of a photo that is not kept, each picture is in the page but once
  for (const tile of result.querySelectorAll(".tiles li")) {
    const image = tile.querySelector("img:not([src])");
    if (image) image.src = of(tile.dataset.face, ".face").querySelector("img").src;
  }

  result.classList.add("ready");
  if (!follow(window.location.hash) && numbers.length) choose(numbers[0]);
  else of(chosen, ".face")?.scrollIntoView({ block: "nearest" });
  draw();
  if (sessionStorage.getItem("full")) {
    sessionStorage.removeItem("full");
    setFull(true);
  }
}
