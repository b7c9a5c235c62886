// What the pages cannot do without: keys, changes without a reload, layers of an image, a name asked once.
// Every form works without this file, too.
"use strict";
(() => {
  const body = document.body, told = document.getElementById("told"), who = document.getElementById("who");
  let fading = 0;

  // Only ever text: what comes from outside never becomes part of the page's structure here. What went wrong
  // stays until something else is told, or it is clicked away; what went well is put out of the way by itself.
  function tell(text, wrong = false) {
    const line = document.createElement("p");
    line.textContent = text;
    if (wrong) { line.className = "notice"; line.setAttribute("role", "alert"); }
    told.replaceChildren(line);
    told.classList.remove("past");
    clearTimeout(fading);
    if (!wrong) fading = setTimeout(past, 4000);
  }
  function past() { told.classList.add("past"); }
  told.addEventListener("click", past);

  // ---- Who reviews: asked once, before the first change ----
  let waiting = null;
  function ask(then) { waiting = then; who.showModal(); }
  who.querySelector("[data-close]").addEventListener("click", () => { waiting = null; who.close(); });
  who.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = new FormData(event.target).get("name").trim();
    if (!name) return;
    const answer = await send(event.target.action, new URLSearchParams({ name }));
    if (!answer || !answer.ok) return;
    body.dataset.author = name;
    who.close();
    const then = waiting;
    waiting = null;
    if (then) then(); else location.reload();
  });
  for (const button of document.querySelectorAll("[data-rename]")) button.addEventListener("click", () => ask(null));

  async function send(address, fields) {
    try {
      return await fetch(address, { method: "POST", body: fields, headers: { "X-Studio": "fragment" } });
    } catch {
      tell("The studio does not answer: it was stopped, or the connection broke. Nothing that you saw saved is lost; start it again and open its new address.", true);
      return null;
    }
  }

  // ---- Changes: one after the other, each answered before the next is sent ----
  let queue = Promise.resolve();
  function change(form, button) {
    if (!body.dataset.author) { ask(() => change(form, button)); return; }
    const fields = new URLSearchParams(new FormData(form));
    if (button && button.name) fields.set(button.name, button.value);
    queue = queue.then(() => perform(form, fields));
  }
  // What has the focus may be replaced: then what took its place gets it.
  function keepFocus() {
    const active = document.activeElement, scope = active && active.closest(".segment, .cell, #panel, #history");
    if (!scope) return () => {};
    const all = () => [...document.querySelectorAll(".segment, .cell, #panel, #history")];
    const within = (e) => [...e.querySelectorAll("a[href], button, input:not([type=hidden]), summary")];
    const place = all().indexOf(scope), at = within(scope).indexOf(active);
    return () => {
      if (document.contains(active)) return;
      const now = within(all()[place] || document.body);
      if (now.length) now[Math.min(at, now.length - 1)].focus();
    };
  }
  async function perform(form, fields) {
    const answer = await send(form.action, fields);
    if (!answer) return;
    if (answer.status === 401) { body.dataset.author = ""; ask(() => { queue = queue.then(() => perform(form, fields)); }); return; }
    const made = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) {
      const notice = made.querySelector(".notice");
      tell(notice ? notice.textContent : "That did not work.", true);
      return;
    }
    if (form.dataset.then === "next") {
      const next = document.getElementById("next") || document.querySelector(".crumbs a");
      location.href = next.href;
      return;
    }
    const focus = keepFocus();
    for (const piece of made.querySelectorAll("[data-into]")) {
      const target = document.getElementById(piece.dataset.into);
      if (target) target.replaceChildren(...[...piece.childNodes].map((node) => document.importNode(node, true)));
    }
    focus();
    const about = made.querySelector("[data-told]");
    if (about) tell(about.dataset.told);
    refreshMask();
    if (!document.getElementById("panel") && (fields.get("do") === "undo" || fields.get("do") === "redo")) location.reload();
  }
  document.addEventListener("submit", (event) => {
    const signed = event.target.matches("[data-signed]") || (event.submitter && event.submitter.matches("[data-signed]"));
    if (signed && !body.dataset.author) {
      event.preventDefault();
      ask(() => event.target.requestSubmit(event.submitter));
      return;
    }
    if (!event.target.matches("form[data-change]")) return;
    event.preventDefault();
    change(event.target, event.submitter);
  });

  // ---- Keys ----
  function typing(target) {
    return target.closest("input:not([type=checkbox]):not([type=range]), textarea, select, dialog");
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const panel = document.getElementById("panel"), cell = event.target.closest(".cell");
    let button = null;
    if (/^[1-9]$/.test(key)) {
      button = panel ? panel.querySelector(`[data-key="${key}"]`) : cell && cell.querySelector(`button[value="${key}"]`);
    } else if (key === "z" || key === "y") {
      button = document.querySelector(`form.history button[value="${key === "z" ? "undo" : "redo"}"]`);
    } else if (key === "Enter" && panel && !event.target.closest("a, button, summary, input")) {
      button = panel.querySelector('[data-key="Enter"]');
    } else if ((key === "ArrowLeft" || key === "ArrowRight") && !event.target.closest("input")) {
      const link = document.getElementById(key === "ArrowLeft" ? "previous" : "next");
      if (link) { event.preventDefault(); location.href = link.href; }
      return;
    } else {
      const layer = { s: "segments", e: "evidence", m: "mask", h: "heat" }[key];
      const box = layer && document.querySelector(`[data-toggle^="${layer}"]`);
      if (box) { box.checked = !box.checked; show(box); }
      return;
    }
    if (button) { event.preventDefault(); if (!button.disabled) change(button.form, button); }
  });

  // ---- Layers of an image ----
  const stack = document.getElementById("stack");
  function show(box) {
    for (const name of box.dataset.toggle.split(" ")) stack.querySelector(`[data-layer="${name}"]`).classList.toggle("off", !box.checked);
  }
  function refreshMask() {
    const mask = document.getElementById("mask"), revision = document.getElementById("revision");
    if (mask && revision) mask.src = `${stack.dataset.mask}?${revision.dataset.revision}`;
  }
  if (stack) {
    for (const box of document.querySelectorAll("[data-toggle]")) { box.addEventListener("change", () => show(box)); show(box); }
    const opacity = document.getElementById("opacity"), heat = stack.querySelector('[data-layer="heat"]');
    const set = () => { heat.style.opacity = opacity.value / 100; };
    opacity.addEventListener("input", () => {
      set();
      const box = document.querySelector('[data-toggle="heat"]');
      if (!box.checked) { box.checked = true; show(box); }
    });
    set();
    let labels = null;
    fetch(stack.dataset.labels).then((answer) => answer.text()).then((text) => {
      labels = text.split("\n").map((row) => row.split(" ").map(Number));
    }).catch(() => {});
    stack.addEventListener("click", (event) => {
      if (!labels) return;
      const box = stack.getBoundingClientRect();
      const row = labels[Math.min(labels.length - 1, Math.floor((event.clientY - box.top) / box.height * labels.length))];
      const segment = row[Math.min(row.length - 1, Math.floor((event.clientX - box.left) / box.width * row.length))];
      const button = document.querySelector(`#panel [data-key="${segment}"]`);
      if (button) change(button.form, button);
    });
  }

  // ---- Long work: the page asks how far it is ----
  const job = document.getElementById("job");
  if (job && job.dataset.running) {
    const look = async () => {
      try {
        const answer = await fetch(job.dataset.from, { headers: { "X-Studio": "fragment" } });
        const made = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("job");
        if (made && made.dataset.running) {
          job.replaceChildren(...[...made.childNodes].map((node) => document.importNode(node, true)));
          setTimeout(look, 1000);
        } else location.reload();
      } catch { setTimeout(look, 3000); }
    };
    setTimeout(look, 1000);
  }
})();
