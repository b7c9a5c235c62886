"use strict";
// What all pages of one file need: texts that stay texts, what the browser keeps, and a file to save.
const oneFile = {
  make(tag, text = "", attributes = {}) {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  },
  // What this browser kept under a name, or null.
  recall(name) {
    try {
      const found = JSON.parse(localStorage.getItem(name) ?? "null");
      return found && typeof found === "object" ? found : null;
    } catch {
      return null;
    }
  },
  // Whether the browser kept it; one that does not is said to, in the element #unkept.
  keep(name, value) {
    try {
      localStorage.setItem(name, JSON.stringify(value));
      return true;
    } catch {
      document.getElementById("unkept").hidden = false;
      return false;
    }
  },
  // A download of what was answered.
  save(name, content) {
    const file = new Blob([JSON.stringify(content, null, 2) + "\n"], { type: "application/json" });
    const link = oneFile.make("a", "", { href: URL.createObjectURL(file), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  },
};
