(() => {
  const { make } = oneFile;
  const review = JSON.parse(document.getElementById("review").textContent);
  const $ = (id) => document.getElementById(id);
  const STORE = `lvlm-va review ${review.review}`;
  const SIGN = { spurious: "✕", valid: "✓", unscored: "?" };

  // {author, at, looked: [images' numbers], done: [steps], undone: [steps]}, where a step is
  // {image, segment, before, after}, and these {verdict, reason}.
  let state = oneFile.recall(STORE) ?? { author: "", at: 0, looked: [], done: [], undone: [] };
  const keep = () => oneFile.keep(STORE, state);
  const current = () => review.images[state.at];

  // A segment's verdict as it stands: the last step's, or what was shown.
  function standing(image, segment) {
    const last = state.done.findLast((step) => step.image === image && step.segment === segment.segment);
    return last ? last.after : { verdict: segment.verdict, reason: "" };
  }
  function record(segment, verdict, reason) {
    const before = standing(state.at, segment);
    if (before.verdict === verdict && before.reason === reason) return;
    state.done.push({ image: state.at, segment: segment.segment, before, after: { verdict, reason } });
    state.undone = [];
    look();
    $("undo").disabled = false;
    $("redo").disabled = true;
  }
  function set(segment, verdict, reason) {
    record(segment, verdict, reason);
    draw(segment.segment);
    tell(`Segment ${segment.segment} is now ${verdict}.`);
  }
  function again(from, to, word) {
    const step = state[from].pop();
    if (!step) return;
    state[to].push(step);
    state.at = step.image;
    show("asking");
    draw();
    const now = from === "done" ? step.before : step.after;
    tell(`${word}: segment ${step.segment} is now ${now.verdict}.`);
  }
  function look() {
    if (!state.looked.includes(state.at)) state.looked.push(state.at);
  }
  function go(step) {
    state.at = Math.min(review.images.length - 1, Math.max(0, state.at + step));
    draw();
    $("title").parentElement.focus();
  }
  function right() {
    look();
    if (state.at + 1 < review.images.length) go(1);
    else conclude();
  }

  let fading = 0;
  function tell(text) {
    $("told").replaceChildren(make("p", text));
    $("told").classList.remove("past");
    clearTimeout(fading);
    fading = setTimeout(() => $("told").classList.add("past"), 4000);
  }
  function show(id) {
    for (const view of ["start", "asking", "end"]) $(view).hidden = view !== id;
    window.scrollTo(0, 0);
    $(id).querySelector("h1").focus();
  }

  function draw(focus = 0) {
    const image = current();
    $("place").textContent = `Image ${state.at + 1} of ${review.images.length}`;
    $("progress").value = state.looked.length;
    $("title").textContent = `“${image.class_name}”`;
    $("wrong").textContent = image.predicted === image.class_name ? "" : `taken for “${image.predicted}”`;
    $("wrong").hidden = image.predicted === image.class_name;
    $("name").textContent = image.id;
    $("why").textContent = `Why it is here: ${image.why}.`;
    $("original").src = image.original;
    $("original").alt = `The image ${image.id}, class ${image.class_name}, predicted ${image.predicted}`;
    $("original").classList.toggle("coarse", image.coarse);
    $("marked").src = image.marked;
    $("evidence").src = image.evidence;
    const words = review.words[image.class_name] ?? "";
    $("words-title").textContent = words && `What is known of “${image.class_name}”`;
    $("words").textContent = words;
    $("words").parentElement.hidden = !words;
    $("critique-title").parentElement.hidden = !image.steps.length;
    $("critique").replaceChildren(...image.steps.map(([title, text], n) => {
      const details = make("details", "", n === 2 || n === 5 ? { open: "" } : {});
      details.append(make("summary", title), make("p", text, { class: "pre" }));
      const line = make("li");
      line.append(details);
      return line;
    }));
    $("segments").replaceChildren(...image.segments.map(segmentLine));
    $("undo").disabled = !state.done.length;
    $("redo").disabled = !state.undone.length;
    $("previous").disabled = state.at === 0;
    $("next").disabled = state.at + 1 === review.images.length;
    $("right").firstChild.textContent = state.looked.includes(state.at) ? "Looked at ✓ " : "All right, next ";
    if (focus) $("segments").querySelector(`[data-key="${focus}"]`).focus();
    keep();
  }
  function segmentLine(segment) {
    const now = standing(state.at, segment), mine = now.verdict !== segment.verdict || now.reason !== "";
    const line = make("li", "", { class: `segment ${now.verdict}` });
    const head = make("p", "", { class: "segment-head" });
    const word = make("span", `${SIGN[now.verdict]} ${now.verdict}`, { class: `state ${now.verdict}` });
    head.append(
      make("span", segment.segment, { class: `swatch s${((segment.segment - 1) % 7) + 1}` }), word,
      make("span", `${Math.round(100 * segment.share)} % of the evidence`, { class: "share" }),
    );
    const reason = make("p", segment.reason || "No reason given.", { class: "reason" });
    reason.append(" ", make("span", `(${segment.author}: ${segment.verdict})`, { class: "small" }));
    const form = make("form", "", { class: "segment-form" });
    const why = make("input", "", { maxlength: 2000, autocomplete: "off", "aria-label": `Why, segment ${segment.segment} (optional)` });
    why.value = now.reason;
    const turn = now.verdict === "spurious" ? "valid" : "spurious";
    const button = (text, verdict, more = {}) => {
      const made = make("button", text, { type: "button", ...more });
      made.addEventListener("click", () => set(segment, verdict, why.value.trim()));
      return made;
    };
    const first = button(turn === "valid" ? "✓ It is valid " : "✕ It is spurious ", turn, { "data-key": segment.segment });
    first.append(make("kbd", segment.segment));
    form.append(first);
    if (now.verdict === "unscored") form.append(button("✓ It is valid", "valid"));
    else form.append(button("Nobody can tell", "unscored", { class: "quiet" }));
    if (mine) form.append(button("As it was", segment.verdict, { class: "quiet" }));
    const label = make("label", "", { class: "why" });
    label.append(make("span", "Why (optional)", { class: "small" }), why);
    form.append(label);
    // A reason counts when it is finished, without a verdict being turned; Enter in it leaves the field.
    // Nothing is drawn anew here: the pointer may be on its way down on a button.
    why.addEventListener("change", () => {
      record(segment, standing(state.at, segment).verdict, why.value.trim());
      keep();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      why.blur();
    });
    line.append(head, reason, form);
    return line;
  }

  function answers() {
    return [...state.looked].sort((a, b) => a - b).map((n) => {
      const image = review.images[n];
      const changed = image.segments
        .map((segment) => [segment, standing(n, segment)])
        .filter(([segment, now]) => now.verdict !== segment.verdict || now.reason);
      return {
        image: image.id,
        fingerprint: image.fingerprint,
        segments: changed.map(([{ segment, verdict: seen }, { verdict, reason }]) => ({ segment, seen, verdict, reason })),
      };
    });
  }
  function conclude() {
    keep();
    const found = answers(), changed = found.flatMap((image) => image.segments).filter((one) => one.verdict !== one.seen).length;
    const open = review.images.length - found.length;
    $("summary").textContent = `${state.author}, you looked at ${found.length} of ${review.images.length} images and changed ${changed} ${changed === 1 ? "verdict" : "verdicts"}.`
      + (open ? " What you did not look at is left as it is." : "");
    $("saved").textContent = "";
    show("end");
  }
  function save() {
    const name = `review-${state.author.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "") || "answers"}.json`;
    oneFile.save(name, { format: 1, review: review.review, author: state.author, images: answers() });
    $("saved").textContent = `Saved as ${name} where your browser keeps downloads.`;
  }
  function enter() {
    show("asking");
    draw();
  }

  $("who").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = new FormData($("who")).get("name").trim().replace(/\s+/g, " ");
    if (!name) return;
    state.author = name;
    enter();
  });
  $("undo").addEventListener("click", () => again("done", "undone", "Undone"));
  $("redo").addEventListener("click", () => again("undone", "done", "Done again"));
  $("right").addEventListener("click", right);
  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("finish").addEventListener("click", conclude);
  $("revisit").addEventListener("click", enter);
  $("save").addEventListener("click", save);
  for (const name of ["marked", "evidence"]) {
    $(`show-${name}`).addEventListener("change", (event) => $(name).classList.toggle("off", !event.target.checked));
  }
  $("stack").addEventListener("click", (event) => {
    const rows = current().labels.split("\n"), box = $("stack").getBoundingClientRect();
    const at = (place, length) => Math.min(length - 1, Math.floor(place * length));
    const row = rows[at((event.clientY - box.top) / box.height, rows.length)].split(" ");
    const number = row[at((event.clientX - box.left) / box.width, row.length)];
    const button = $("segments").querySelector(`[data-key="${number}"]`);
    if (button) button.click();
  });
  document.addEventListener("keydown", (event) => {
    if ($("asking").hidden || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("input:not([type=checkbox])")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const button = {
      z: $("undo"), y: $("redo"), ArrowLeft: $("previous"), ArrowRight: $("next"), s: $("show-marked"), e: $("show-evidence"),
    }[key] ?? (/^[1-9]$/.test(key) ? $("segments").querySelector(`[data-key="${key}"]`)
      : key === "Enter" && !event.target.closest("button, summary, a") ? $("right") : null);
    if (!button) return;
    event.preventDefault();
    if (!button.disabled) button.click();
  });

  if (state.author) enter();
})();
