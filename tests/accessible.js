// What a page of the studio must keep for those who do not see it, or not well: a list of what is wrong.
() => {
  const wrong = [];
  const short = (e) => e.outerHTML.slice(0, 90);
  const name = (e) =>
    (e.getAttribute("aria-label") || e.textContent || e.title || "").trim() ||
    [...(e.labels || [])].map((label) => label.textContent.trim()).join("") ||
    (e.querySelector("img") || {}).alt;
  for (const e of document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [role=region]",
  ))
    if (!name(e)) wrong.push(`no name: ${short(e)}`);
  for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) wrong.push(`no alt: ${e.src}`);
  for (const e of document.querySelectorAll("progress"))
    if (!e.getAttribute("aria-label")) wrong.push(`no name: ${short(e)}`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids)) if (ids.filter((i) => i === id).length > 1) wrong.push(`twice: ${id}`);
  for (const e of document.querySelectorAll("[aria-labelledby]"))
    if (!document.getElementById(e.getAttribute("aria-labelledby"))) wrong.push(`labelled by nothing: ${short(e)}`);
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  if (document.documentElement.lang !== "en") wrong.push("no language");
  let level = 1;
  for (const h of document.querySelectorAll("main h1, main h2, main h3")) {
    const now = Number(h.tagName[1]);
    if (now > level + 1) wrong.push(`skips a level: ${h.textContent}`);
    level = now;
  }

  // Contrast, WCAG 2: 4.5 for text.
  const parse = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  for (const e of document.querySelectorAll("main *, header *, footer *")) {
    const text = [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !e.checkVisibility() || e.matches(":disabled, :disabled *")) continue;
    let ground = null;
    for (let at = e; at && !ground; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) ground = colour;
    }
    const pair = [light(parse(getComputedStyle(e).color)), light(ground || [255, 255, 255])];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) wrong.push(`contrast ${ratio.toFixed(2)}: ${short(e)}`);
  }
  const beyond = document.documentElement.scrollWidth - innerWidth;
  if (beyond > 0) wrong.push(`wider than the window by ${beyond}`);
  return wrong;
}
