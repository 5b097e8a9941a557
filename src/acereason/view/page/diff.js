// What was expected and what was got, line by line, and word by word where a line was replaced by another.
"use strict";

const MOST_PAIRS = 250_000; // of lines, or of words, that are compared with one another
const CONTEXT = 3; // equal lines around a difference

/** The longest common subsequence of two lists as steps: [" ", one], ["-", only in `a`], ["+", only in `b`]. */
function editSteps(a, b) {
  let start = 0,
    end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  const same = (list) => list.map((one) => [" ", one]);
  return [...same(a.slice(0, start)), ...editBetween(left, right), ...same(a.slice(a.length - end))];
}

function editBetween(a, b) {
  const replaced = [...a.map((one) => ["-", one]), ...b.map((one) => ["+", one])];
  if (!a.length || !b.length || a.length * b.length > MOST_PAIRS) return replaced;
  const width = b.length + 1,
    best = new Uint16Array((a.length + 1) * width); // lengths from each place on
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * width + j] =
        a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const found = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) (found.push([" ", a[i]]), i++, j++);
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) found.push(["-", a[i++]]);
    else found.push(["+", b[j++]]);
  }
  return [...found, ...a.slice(i).map((one) => ["-", one]), ...b.slice(j).map((one) => ["+", one])];
}

/** Steps as blocks of equal lines, and of lines that stand for one another. */
function editBlocks(all) {
  const made = [];
  for (const [kind, line] of all) {
    const last = made.at(-1);
    if (kind === " ") {
      if (last?.same) last.same.push(line);
      else made.push({ same: [line] });
    } else {
      if (!last || last.same) made.push({ "-": [], "+": [] });
      made.at(-1)[kind].push(line);
    }
  }
  return made;
}

const wordsOf = (line) => line.match(/\s+|\w+|[^\w\s]/g) ?? [];

/** Two lines that stand for one another, each with its own words marked. */
function linePair(a, b) {
  const all = editSteps(wordsOf(a), wordsOf(b));
  const side = (own) => all.filter(([kind]) => kind === " " || kind === own).map(([kind, word]) => (kind === " " ? word : el("b", {}, word)));
  return { "-": side("-"), "+": side("+") };
}

const NAMES = { "-": ["del", "− "], "+": ["ins", "+ "] };
const editLine = (kind, content) => el(NAMES[kind][0], {}, el("span", { class: "sign" }, NAMES[kind][1]), content);

function equalLines(lines, first, last) {
  const shown = (list) => list.map((line) => `  ${line}\n`).join("");
  const [head, tail] = [first ? 0 : CONTEXT, last ? 0 : CONTEXT];
  if (lines.length <= head + tail + 1) return [shown(lines)];
  const left = el("span", { class: "soft" }, `⋯ ${short(lines.length - head - tail)} equal lines\n`);
  return [shown(lines.slice(0, head)), left, shown(lines.slice(lines.length - tail))];
}

/** Both texts in one; null where nothing differs but blanks at the ends of lines, which do not count. Of texts that were `cut`, the
    last lines differ for that alone. */
function difference(expected, got, cut) {
  const lines = (text) => (text.trim() ? visible(text).trimEnd().split("\n").map((line) => line.trimEnd()) : []);
  const made = editBlocks(editSteps(lines(expected), lines(got)));
  const ends = made.at(-1);
  if (cut && ends && !ends.same && made.some((block) => !block.same && block !== ends)) made.splice(-1, 1, { same: ["…"] });
  if (made.every((block) => block.same)) return null;
  const nodes = made.flatMap((block, at) => {
    if (block.same) return equalLines(block.same, at === 0, at === made.length - 1);
    const [minus, plus] = [block["-"], block["+"]],
      paired = minus.length === plus.length ? minus.map((line, i) => linePair(line, plus[i])) : null;
    return ["-", "+"].flatMap((kind) => block[kind].map((line, i) => editLine(kind, paired ? paired[i][kind] : line)));
  });
  return el("pre", { class: "diff" }, nodes);
}
