(() => {
  const { make } = oneFile;
  const study = JSON.parse(document.getElementById("study").textContent);
  const byId = new Map(study.questions.map((question) => [question.id, question]));
  const $ = (id) => document.getElementById(id);
  const STORE = `lvlm-va study ${study.study}`;

  // The state of one participant: {code, role, at, answers: {id: {answer, seconds, comment, sides}}}.
  let state = null;
  let order = [];
  let since = null; // when the question on the screen came into view, in milliseconds

  // ---- What the browser keeps -------------------------------------------------------------------------

  let kept = true;
  function read() {
    const all = oneFile.recall(STORE);
    return all && all.people ? all : { last: null, people: {} };
  }
  function keep(last = state.code) {
    const all = read();
    if (state) all.people[`code ${state.code}`] = state;
    all.last = last;
    kept = oneFile.keep(STORE, all);
  }
  window.addEventListener("beforeunload", (event) => {
    if (state) spend();
    if (!kept && state) event.preventDefault();
  });

  // ---- Chance: the same for a participant whenever the page is opened ---------------------------------

  function chance(seed) {
    let hash = 2166136261; // FNV-1a, then mulberry32
    for (const byte of new TextEncoder().encode(seed)) hash = Math.imul(hash ^ byte, 16777619);
    return () => {
      hash = (hash + 0x6d2b79f5) | 0;
      let t = Math.imul(hash ^ (hash >>> 15), hash | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }
  function shuffled(items, random) {
    const mixed = [...items];
    for (let i = mixed.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
    }
    return mixed;
  }
  // Kinds stay together and in order, so that nobody reads a critic before judging alone.
  function arrange(code) {
    const random = chance(`${study.study} ${code}`);
    const kinds = [...new Set(study.questions.map((question) => question.kind))];
    return kinds.flatMap((kind) =>
      shuffled(study.questions.filter((question) => question.kind === kind), random).map(({ id }) => id),
    );
  }
  function sides(question) {
    return shuffled(question.pair, chance(`${study.study} ${state.code} ${question.id}`));
  }

  // ---- Drawing ----------------------------------------------------------------------------------------

  function drawFigure(figure, caption, alt = figure.alt) {
    const holder = make("figure");
    const { uri: src, width, height } = figure;
    holder.append(make("img", "", { src, alt, width, height }), make("figcaption", caption));
    return holder;
  }
  function fill(text, question) {
    return text.replaceAll("{segment}", question.segment).replaceAll("{class_name}", question.class_name);
  }
  function show(id) {
    for (const view of ["start", "asking", "end"]) $(view).hidden = view !== id;
    window.scrollTo(0, 0);
    $(id).querySelector("h1").focus();
  }
  const current = () => byId.get(order[state.at]);
  const given = (id) => state.answers[id]?.answer ?? null;
  const answered = () => order.filter((id) => given(id) !== null).length;

  function ask() {
    const question = current();
    const kind = study.kinds[question.kind];
    $("place").textContent = `Question ${state.at + 1} of ${order.length} · ${kind.title}`;
    $("whose").textContent = `Participant ${state.code}`;
    $("ask").textContent = fill(kind.ask, question);
    $("help").textContent = fill(kind.help, question);
    $("specification-title").textContent = `What the expert wrote about “${question.class_name}”`;
    $("specification").textContent = question.specification;

    const captions = ["The image", "Its segments", `Segment ${question.segment} on the image`];
    const figures = question.figures.map((figure, n) => drawFigure(figure, captions[n]));
    if (question.pair) {
      const [left, right] = sides(question);
      figures.push(drawFigure(left, "Left (1)", `Left: ${left.alt}`), drawFigure(right, "Right (2)", `Right: ${right.alt}`));
    }
    $("figures").replaceChildren(...figures);

    const critic = question.verdict !== undefined;
    $("critic").hidden = !critic;
    if (critic) {
      $("critic-title").textContent = `What the critic said about segment ${question.segment}`;
      $("verdict").textContent = question.verdict === "spurious" ? "Spurious:" : "Valid, that is relevant:";
      $("reason").textContent = question.reason;
      $("said").replaceChildren(...question.said.map((line) => make("li", line)));
      $("critique").replaceChildren(...question.critique.map((step) => make("li", step)));
      $("critic").querySelector("details").open = false;
    }

    $("options").replaceChildren(
      ...kind.options.map(([value, label], n) => {
        const line = make("label", "", { class: "choice" });
        const input = make("input", "", { type: "radio", name: "answer", value });
        input.checked = value === chosen(question);
        line.append(input, make("span", label), make("kbd", String(n + 1), { "aria-hidden": "true" }));
        return line;
      }),
    );
    $("comment").value = state.answers[question.id]?.comment ?? "";
    $("back").disabled = state.at === 0;
    $("hint").textContent = "";
    refresh();
    show("asking");
    since = document.visibilityState === "visible" ? performance.now() : null;
  }
  function refresh() {
    $("progress").value = answered();
    $("next").textContent = given(current().id) === null ? "Skip →" : "Next →";
  }
  // The side that was chosen, or the value itself.
  function chosen(question) {
    const answer = given(question.id);
    if (!question.pair || answer === null) return answer;
    const side = sides(question).findIndex(({ token }) => token === answer);
    return side < 0 ? answer : ["left", "right"][side];
  }

  // ---- Answering --------------------------------------------------------------------------------------

  function entry(question) {
    return (state.answers[question.id] ??= { answer: null, seconds: 0, comment: "" });
  }
  function record(value) {
    const question = current();
    const one = entry(question);
    if (question.pair) {
      const [left, right] = sides(question);
      one.sides = [left.token, right.token];
      one.answer = value === "left" ? left.token : value === "right" ? right.token : value;
    } else {
      one.answer = value;
    }
    $("hint").textContent = "";
    refresh();
    keep();
  }
  function spend() {
    if (since === null || $("asking").hidden) return;
    const one = entry(current());
    one.seconds = Math.round(10 * one.seconds + (performance.now() - since) / 100) / 10;
    since = performance.now();
    keep();
  }
  document.addEventListener("visibilitychange", () => {
    if (!state || $("asking").hidden) return;
    if (document.visibilityState === "hidden") {
      spend();
      since = null;
    } else {
      since = performance.now();
    }
  });
  function move(step) {
    spend();
    since = null;
    state.at = Math.min(order.length, Math.max(0, state.at + step));
    keep();
    proceed();
  }
  function proceed() {
    if (state.at < order.length) ask();
    else conclude();
  }
  function conclude() {
    const open = order.map((id, n) => [id, n]).filter(([id]) => given(id) === null);
    $("summary").textContent = open.length
      ? `${answered()} of ${order.length} questions are answered. These are open; you may leave them so:`
      : `All ${order.length} questions are answered.`;
    $("open").replaceChildren(
      ...open.map(([, n]) => {
        const line = make("li");
        const button = make("button", `Question ${n + 1}`, { type: "button" });
        button.addEventListener("click", () => move(n - order.length));
        line.append(button);
        return line;
      }),
    );
    $("saved").textContent = "";
    show("end");
  }
  function save() {
    const answers = order
      .filter((id) => state.answers[id])
      .map((id) => {
        const { answer, seconds, comment, sides: pair } = state.answers[id];
        return { question: id, answer, seconds, comment, ...(pair ? { sides: pair } : {}) };
      });
    const content = { format: 1, study: study.study, code: state.code, role: state.role, answers };
    const name = `answers-${state.code}.json`;
    oneFile.save(name, content);
    $("saved").textContent = `Saved as ${name} where your browser keeps downloads.`;
  }

  // ---- Who --------------------------------------------------------------------------------------------

  function enter(person) {
    state = person;
    order = arrange(state.code);
    keep();
    proceed();
  }
  function leave() {
    spend();
    since = null;
    keep(null);
    state = null;
    $("who").reset();
    show("start");
    $("code").focus();
  }
  $("who").addEventListener("submit", (event) => {
    event.preventDefault();
    const form = new FormData($("who"));
    const code = form.get("code").trim();
    const known = read().people[`code ${code}`];
    enter(known ? { ...known, role: form.get("role") } : { code, role: form.get("role"), at: 0, answers: {} });
  });

  // ---- Mouse and keyboard -----------------------------------------------------------------------------

  $("options").addEventListener("change", (event) => record(event.target.value));
  $("comment").addEventListener("input", () => {
    entry(current()).comment = $("comment").value;
    keep();
  });
  $("answering").addEventListener("submit", (event) => {
    event.preventDefault();
    move(1);
  });
  $("back").addEventListener("click", () => move(-1));
  $("revisit").addEventListener("click", () => move(-1));
  $("save").addEventListener("click", save);
  $("leave").addEventListener("click", leave);
  $("finish").addEventListener("click", leave);

  document.addEventListener("keydown", (event) => {
    if (!state || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const writing = event.target === $("comment");
    if (writing && event.key === "Escape") $("ask").focus();
    if (writing) return;
    if (!$("end").hidden) {
      if (event.key === "ArrowLeft") move(-1);
      return;
    }
    const pressed = event.target.closest("button, summary, a");
    const option = $("options").querySelectorAll("input")[Number(event.key) - 1];
    if (option) {
      option.focus();
      option.click();
    } else if (event.key === "ArrowLeft") {
      move(-1);
    } else if (event.key === "ArrowRight") {
      move(1);
    } else if (event.key === "Enter" && !pressed && !event.repeat) {
      if (given(current().id) === null) {
        $("hint").textContent = "Choose an answer with 1, 2 or 3, or press → to skip the question.";
      } else {
        move(1);
      }
    } else {
      return;
    }
    event.preventDefault();
  });

  const before = read();
  const last = before.people[`code ${before.last}`];
  if (before.last !== null && last) enter(last);
})();
