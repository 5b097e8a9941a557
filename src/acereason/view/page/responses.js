// Responses: a list that can be filtered, and a group side by side. They come from a model and may hold anything: all of it becomes
// text nodes, and what an eye could not see or would misread is replaced by a visible sign.
"use strict";

/** Control characters as their pictures, marks that turn, hide, break or are hidden in text as ⟨U+…⟩. */
function visible(text) {
  return String(text)
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (sign) => String.fromCodePoint(0x2400 + sign.charCodeAt(0)))
    .replace(/\u007f/g, "␡")
    .replace(
      /[\u0080-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu,
      (sign) => `⟨U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
    );
}

const hasText = (value) => value !== null && value !== undefined && value !== "";

/** The advantage; said so where the response had one and was yet kept out of the loss. */
function strength(row) {
  if (!isNumber(row.advantage)) return null;
  const size = `A = ${row.advantage < 0 ? "−" : row.advantage > 0 ? "+" : ""}${Math.abs(row.advantage).toFixed(2)}`;
  return row.weight === 0 && row.advantage !== 0 ? `${size}, masked` : size;
}

const outcomeName = (outcome) => visible(outcome ?? "not judged").replaceAll("_", " ");
const knownOutcome = (outcome) => (Object.keys(OUTCOMES).includes(outcome) ? outcome : "");

/** Two numbers per token as they stand in a response's trace (1/32 nat), and how many bytes each token has. */
function tokensOf(trace, text) {
  const bytes = (name) => Uint8Array.from(atob(trace[name] ?? ""), (sign) => sign.charCodeAt(0));
  const [pieces, logprob, entropy] = ["pieces", "logprob", "entropy"].map(bytes);
  const whole = new TextEncoder().encode(text),
    reader = new TextDecoder("utf-8", { ignoreBOM: true });
  const tokens = [];
  let at = 0,
    size = 0,
    index = 0;
  for (const piece of pieces) {
    size += piece;
    if (piece === 255) continue; // a token of 255 bytes and more goes on
    const said = reader.decode(whole.subarray(at, at + size), { stream: true });
    tokens.push({ text: said, surprise: logprob[index] / 32, entropy: entropy[index] / 32 });
    [at, size, index] = [at + size, 0, index + 1];
  }
  return tokens;
}

/** The whole response with every token shaded: no colour at 0 nats, full colour at 2 nats and more. */
function shaded(row, by) {
  const parts = tokensOf(row.trace, row.text).map((token) => {
    const level = Math.min(8, Math.round(4 * token[by]));
    const title = `−log p ${token.surprise.toFixed(2)}, entropy ${token.entropy.toFixed(2)} nats`;
    return el("span", { class: level ? `heat${level}` : null, title }, visible(token.text));
  });
  return el("pre", { class: "shaded" }, parts);
}

const colouring = { by: "" };

/** Reasoning folded, the rest of the answer open; or all of it with its tokens shaded. */
function said(row) {
  if (colouring.by && row.trace && hasText(row.text)) {
    try {
      return [shaded(row, colouring.by)];
    } catch {
      return [el("p", { class: "soft" }, "The tokens' numbers cannot be read."), el("pre", {}, visible(row.text))];
    }
  }
  return [hasText(row.thinking) ? thought(row) : null, hasText(row.answer) ? el("pre", {}, prose(row.answer.trim())) : null];
}

/** The reasoning, folded: its formulas are drawn when it is opened, since there may be hundreds. */
function thought(row) {
  const size = `${short(row.thinking.length)} characters`,
    text = el("pre", {}, visible(row.thinking));
  const fold = el("details", { class: "thinking" }, el("summary", {}, hasText(row.answer) ? `reasoning, ${size}` : `reasoning, never closed, ${size}`), text);
  fold.unfold = () => {
    fold.open = true;
    if (fold.drawn) return;
    fold.drawn = true;
    text.replaceChildren(...prose(row.thinking));
    fold.dispatchEvent(new Event("drawn", { bubbles: true }));
  };
  fold.addEventListener("toggle", () => fold.open && fold.unfold());
  if (reading.thinking) fold.unfold();
  return fold;
}

/** The response as it was written, from the server where the page has only a part of it. */
async function written(row, one, run) {
  const all = row.cut && source.text ? await source.text(run, one.file, one.problem_id, row.sample) : row;
  return all.text ?? [all.thinking, all.answer].filter(hasText).join("</think>");
}

/** Put a text on the clipboard; whether that went well. Where a page may not (not this machine, no https), as of old. */
async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = el("textarea", { "aria-hidden": "true", class: "aside" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function copyButton(name, title, text) {
  const button = el("button", { type: "button", class: "plain", title }, name);
  button.addEventListener("click", async () => {
    const done = await text().then(copied, () => false);
    button.textContent = done ? "copied" : "cannot copy here";
    setTimeout(() => (button.textContent = name), 3000);
  });
  return button;
}

/** The program of an answer: its last fenced block that is closed. */
function program(row) {
  const parts = (row.answer ?? "").split("```"),
    closed = parts.length - 1 - (parts.length % 2);
  return parts.length > 2 ? parts[closed % 2 ? closed : closed - 1].replace(/^[^\n]*\n/, "") : null;
}

function factsOf(row) {
  return [
    hasText(row.tokens) ? `${short(row.tokens)} tokens` : null,
    row.finish === "length" ? "cut at the budget" : null,
    isNumber(row.temperature) ? `T ${short(row.temperature)}` : null,
  ].filter(Boolean);
}

/** What was extracted and what the judge said; not again what stands above. */
function judged(row, one) {
  const told = el("dl");
  for (const [name, value] of [
    ["answer", row.extracted],
    ["reference", one.reference],
    ["judge", row.failed?.some((test) => hasText(test.expected)) ? null : row.detail],
  ]) {
    const shown = name === "answer" && String(value).includes("\n") && row.answer?.includes(String(value).trim());
    if (hasText(value) && !shown) told.append(el("dt", {}, name), el("dd", {}, el("code", {}, visible(value))));
  }
  return told.children.length ? told : null;
}

function response(row, one, run, chosen) {
  const link = address("run", run, "group", one.file, one.problem_id, row.sample);
  const body = el("div", { class: "said" }, said(row));
  const loadWhole = async () => {
    const { thinking, answer, text, cut } = await source.text(run, one.file, one.problem_id, row.sample);
    Object.assign(row, { thinking, answer, text, cut });
    body.replaceChildren(...said(row).filter(Boolean));
    whole.remove();
    body.dispatchEvent(new Event("changed", { bubbles: true }));
  };
  const whole = el("button", { type: "button", class: "plain whole-text" }, "show the whole text");
  whole.addEventListener("click", () => {
    reading.thinking = true;
    loadWhole();
  });
  const article = el(
    "article",
    { class: `response ${knownOutcome(row.outcome)} ${chosen ? "chosen" : ""}`, "data-sample": row.sample, tabindex: "-1" },
    el(
      "header",
      {},
      el("span", { class: "advantage" }, strength(row)),
      el("a", { href: link, title: "link to this response" }, `#${visible(row.sample ?? "?")}`),
      " ",
      el("b", {}, outcomeName(row.outcome)),
      el("br"),
      factsOf(row).join(" · "),
    ),
    body,
    row.cut && source.text ? whole : null,
    el(
      "p",
      { class: "copies" },
      copyButton("copy", "copy the response as it was written", () => written(row, one, run)),
      hasText(program(row)) && !row.cut ? copyButton("copy the program", "copy the last block of code", async () => program(row)) : null,
    ),
    list(row.failed).map((test) => failedTest(test, row, one)),
    judged(row, one),
  );
  return Object.assign(article, { loadWhole: row.cut && source.text ? loadWhole : null });
}

/** Which tests a program passed: judging mostly ends at the first failure, so the others are not known. */
function testMarks(row, count) {
  const failing = new Set(list(row.failed).map((test) => test.number)),
    all = row.outcome === "correct" && !failing.size;
  return Array.from({ length: count }, (_, at) => (all ? "✓" : failing.has(at + 1) ? "✗" : "·"));
}

const FOLDED = 1200; // characters, or
const FOLDED_LINES = 16; // lines, from which a value is folded

/** A value of a test under its name, folded where it is long. */
function testValue(name, text, note) {
  const told = [visible(text), note].filter(hasText).join("\n"),
    lines = told.split("\n").length;
  const block = el("pre", {}, text === "" ? el("span", { class: "soft" }, "(nothing)") : told);
  if (told.length < FOLDED && lines < FOLDED_LINES) return el("div", { class: "value" }, el("h4", {}, name), block);
  const size = `${short(told.length)} characters, ${short(lines)} ${lines === 1 ? "line" : "lines"}`;
  return el("div", { class: "value" }, el("details", {}, el("summary", {}, `${name}, ${size}`), block));
}

/** What a test asked for, what was expected, what the program answered, and how the two differ. */
function failedTest(test, row, one) {
  const told = row.detail ?? "",
    named = told.match(/\btest (\d+) of (\d+): ([\s\S]*)$/),
    why = named && Number(named[1]) === test.number ? named[3] : "failed too";
  const known = hasText(test.input) || hasText(test.expected);
  if (!known && !test.got) return null;
  const { got } = test,
    expected = test.expected ?? "";
  const part = isNumber(test.expected_size);
  const from = part ? `… around the first difference: from character ${short(got.at + 1)} of ${short(got.size)} bytes` : "";
  const differ = got && known ? difference(expected, got.text, part) : null;
  const parts = [
    known ? testValue("input", test.input ?? "") : null,
    known ? testValue("expected", expected, part ? `… from character ${short(got.expected_at + 1)} of ${short(test.expected_size)}` : "") : null,
    got ? testValue("got", got.text, from) : null,
    differ ? el("div", { class: "value whole" }, el("h4", {}, "difference: − expected, + got"), differ) : null,
    got && known && !differ ? el("p", { class: "soft whole" }, "What was printed does not differ from what was expected.") : null,
    got === null ? el("p", { class: "soft whole" }, "It was stopped, and what it had printed by then was not kept.") : null,
    got === undefined ? el("p", { class: "soft whole" }, "What it answered was not recorded: the run is from before that was kept.") : null,
  ];
  const title = `test ${short(test.number)}${isNumber(one.of_tests) ? ` of ${short(one.of_tests)}` : ""}: ${visible(why)}`;
  return el("div", { class: "failed", role: "group", "aria-label": title }, el("h3", {}, title), el("div", { class: "values" }, parts.filter(Boolean)));
}

function tests(one) {
  const marks = one.responses.map((row) => testMarks(row, one.tests.length));
  const rows = one.tests.map((test, at) =>
    el(
      "tr",
      {},
      el("td", {}, String(at + 1)),
      [test.input, test.output].map((text) => el("td", { class: "left" }, el("code", {}, visible(text ?? "")))),
      marks.map((own) => el("td", { class: own[at] === "✓" ? "up" : own[at] === "✗" ? "down" : "soft" }, own[at])),
    ),
  );
  const head = ["test", "input", "expected", ...one.responses.map((row) => `#${visible(row.sample ?? "?")}`)];
  const table = ruled(head, rows);
  for (const cell of table.querySelectorAll("th:nth-child(2), th:nth-child(3)")) cell.className = "left";
  const note = "✓ passed, ✗ failed, · not known: judging ends at the first failure, unless every test was asked for.";
  return el(
    "details",
    { class: "tests" },
    el("summary", {}, `${short(one.of_tests)} tests`),
    table,
    el("p", { class: "caption" }, note),
  );
}

function colourChoice(again) {
  const select = el("select", { "aria-label": "colour tokens by" });
  for (const [value, name] of [
    ["", "no colour"],
    ["entropy", "entropy"],
    ["surprise", "−log probability"],
  ])
    select.append(el("option", value === colouring.by ? { value, selected: "" } : { value }, name));
  select.addEventListener("change", () => {
    colouring.by = select.value;
    again();
  });
  return el("label", { class: "field" }, "tokens by ", select);
}
