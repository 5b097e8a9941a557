// Find in the text: every place is marked, across colours, tokens and formulas, without the text being touched.
"use strict";

const MOST_FOUND = 5000;
const lookingFor = { text: "" }; // what is looked for, kept from one response to the next

/** A text's parts in order: text nodes, and formulas as they were written. */
function textParts(node, parts = []) {
  if (node.nodeType === Node.TEXT_NODE) parts.push({ node, text: node.data });
  else if (node.dataset?.written) parts.push({ formula: node, text: node.dataset.written });
  else for (const child of node.childNodes) textParts(child, parts);
  return parts;
}

/** Places of a pattern in an element, as ranges; of a formula all of it is marked. */
function placesIn(element, pattern, most) {
  const parts = textParts(element),
    whole = parts.map((part) => part.text).join(""),
    ranges = [];
  let at = 0,
    start = 0; // of parts[at]
  const partAt = (place) => {
    while (place >= start + parts[at].text.length && at < parts.length - 1) start += parts[at++].text.length;
    return parts[at];
  };
  for (const match of whole.matchAll(pattern)) {
    if (ranges.length >= most) break;
    const range = new Range(),
      first = partAt(match.index);
    if (first.formula) range.setStartBefore(first.formula);
    else range.setStart(first.node, match.index - start);
    const end = match.index + match[0].length,
      last = partAt(end - 1);
    if (last.formula) range.setEndAfter(last.formula);
    else range.setEnd(last.node, end - start);
    ranges.push(range);
  }
  return ranges;
}

/** Letters of either case, and any blanks for blanks. */
function patternOf(wanted) {
  const words = wanted.trim().split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(words.join("\\s+"), "gi");
}

function unfold(range) {
  for (let up = range.startContainer.parentElement; up; up = up.parentElement) if (up.tagName === "DETAILS") up.unfold ? up.unfold() : (up.open = true);
}

/** Bring a range into view: within what scrolls, and on the page. */
function reveal(range) {
  for (let up = range.startContainer.parentElement; up && up !== document.body; up = up.parentElement) {
    if (up.scrollHeight <= up.clientHeight && up.scrollWidth <= up.clientWidth) continue;
    const box = up.getBoundingClientRect(),
      at = range.getBoundingClientRect();
    if (at.top < box.top || at.bottom > box.bottom) up.scrollTop += at.top - box.top - box.height / 2;
    if (at.left < box.left || at.right > box.right) up.scrollLeft += at.left - box.left - box.width / 3;
  }
  const at = range.getBoundingClientRect();
  if (at.top < 100 || at.bottom > innerHeight - 40) scrollBy(0, at.top - innerHeight / 2);
}

/** The finder over the texts of `root`. `again` looks anew: other texts are shown; `look`: the same texts are drawn otherwise. */
function finder(root) {
  const input = el("input", { type: "search", value: lookingFor.text, placeholder: "find in the text", size: "18", "aria-label": "find in the text" }),
    count = el("span", { class: "soft count", role: "status" });
  const button = (name, label, by) => {
    const made = el("button", { type: "button", "aria-label": label, title: label }, name);
    made.addEventListener("click", () => go(by));
    return made;
  };
  let found = [],
    at = -1;
  const mark = (name, ranges) => globalThis.CSS?.highlights?.set(name, new Highlight(...ranges));
  const look = () => {
    found = [];
    if (lookingFor.text.trim()) {
      const pattern = patternOf(lookingFor.text);
      for (const text of root.querySelectorAll(".question, .said pre")) found.push(...placesIn(text, pattern, MOST_FOUND - found.length));
    }
    mark("found", found);
  };
  const again = () => {
    at = -1;
    look();
    mark("here", []);
    const cut = root.querySelector(".response .whole-text") ? ", of what is shown" : "";
    count.textContent = lookingFor.text.trim() ? ` ${found.length === MOST_FOUND ? "at least " : ""}${short(found.length)} found${cut}` : "";
  };
  const go = (by) => {
    if (!found.length) return;
    at = at < 0 ? (by > 0 ? 0 : found.length - 1) : (at + by + found.length) % found.length;
    unfold(found[at]); // which draws it, and then it is found there
    mark("here", [found[at]]);
    reveal(found[at]);
    count.textContent = ` ${short(at + 1)} of ${short(found.length)}`;
  };
  input.addEventListener("input", () => {
    lookingFor.text = input.value;
    again();
  });
  input.addEventListener("keydown", (event) => event.key === "Enter" && go(event.shiftKey ? -1 : 1));
  const element = el("span", { class: "field finder", role: "search" }, input, button("↑", "previous place", -1), button("↓", "next place", 1), count);
  return { element, again, look, go, input };
}
