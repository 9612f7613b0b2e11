// On every page: files that are dropped or pasted are analysed, and times are told as the visitor's clock has them.
"use strict";

{
  const form = document.querySelector("form.upload[data-max-photos]");
  let upload = form && setUpUpload(form);

  async function take(files) {
    upload ??= await openDialog();
    const dialog = document.querySelector("dialog.sending");
    if (dialog && !dialog.open) dialog.showModal();
    form?.scrollIntoView({ block: "nearest" });
    upload?.add([...files]);
  }

  // on pages without the form it is fetched from the start page, with limits, settings and cookie
  async function openDialog() {
    const dialog = element("dialog", { className: "sending", ariaLabel: "Sending files" });
    const close = element("button", { type: "button", textContent: "Close" });
    close.addEventListener("click", () => dialog.close());
    let found = null;
    try {
      const start = await (await fetch(document.querySelector("a.home").href)).text();
      found = new DOMParser().parseFromString(start, "text/html").querySelector("form.upload[data-max-photos]");
    } catch { /* told below */ }
    found?.querySelector(".samples").remove();
  dialog.append(found ?? element("p", { textContent: "The server cannot be reached, or takes no photos at the moment." }), close);
    document.querySelector("dialog.sending")?.remove();
    document.body.append(dialog);
    dialog.showModal();
    const opened = found && setUpUpload(found);
    if (opened) dialog.addEventListener("close", opened.stop);
    return opened;
  }

  const overlay = element("p", { className: "drop-overlay", hidden: true, textContent: "Drop photos or videos to analyse them" });
  document.body.append(overlay);
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    overlay.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) overlay.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    overlay.hidden = true;
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files);
  });
}

for (const time of document.querySelectorAll("time[datetime]")) {
  const options = { dateStyle: "medium", timeStyle: "short" };
  time.textContent = new Date(time.dateTime).toLocaleString("en", options);
}
