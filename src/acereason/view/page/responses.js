// Responses: a list that can be filtered, and a group side by side. They come from a model and may hold anything: all of it becomes
// text nodes, and what an eye could not see or would misread is replaced by a visible sign.
"use strict";

/** Control characters as their pictures, marks that turn or hide text as ⟨U+…⟩. */
function visible(text) {
  return String(text)
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (sign) => String.fromCodePoint(0x2400 + sign.charCodeAt(0)))
    .replace(/\u007f/g, "␡")
    .replace(
      /[\u0080-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
      (sign) => `⟨U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
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
function said(row, open) {
  if (colouring.by && row.trace && hasText(row.text)) {
    try {
      return [shaded(row, colouring.by)];
    } catch {
      return [el("p", { class: "soft" }, "The tokens' numbers cannot be read."), el("pre", {}, visible(row.text))];
    }
  }
  const folded = hasText(row.thinking)
    ? el(
        "details",
        open ? { open: "" } : {},
        el("summary", {}, hasText(row.answer) ? "reasoning" : "reasoning, never closed"),
        el("pre", {}, prose(row.thinking)),
      )
    : null;
  return [folded, hasText(row.answer) ? el("pre", {}, prose(row.answer.trim())) : null];
}

function response(row, one, run, chosen) {
  const facts = [
    hasText(row.tokens) ? `${short(row.tokens)} tokens` : null,
    row.finish === "length" ? "cut at the budget" : null,
    isNumber(row.temperature) ? `T ${short(row.temperature)}` : null,
  ].filter(Boolean);
  const compared = el("dl");
  for (const [name, value] of [
    ["answer", row.extracted],
    ["reference", one.reference],
    ["judge", row.detail],
  ]) {
    const shown = name === "answer" && String(value).includes("\n") && row.answer?.includes(String(value).trim());
    if (hasText(value) && !shown) compared.append(el("dt", {}, name), el("dd", {}, el("code", {}, visible(value))));
  }
  const link = address("run", run, "group", one.file, one.problem_id, row.sample);
  const body = el("div", {}, said(row, chosen));
  const whole = el("button", { type: "button", class: "plain" }, "show the whole text");
  whole.addEventListener("click", async () => {
    body.replaceChildren(...said(await source.text(run, one.file, one.problem_id, row.sample), true).filter(Boolean));
    whole.remove();
  });
  const copy = el("button", { type: "button", class: "plain", title: "copy the response as text" }, "copy");
  copy.addEventListener("click", async () => {
    const text = row.text ?? [row.thinking, row.answer].filter(hasText).join("</think>");
    const done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
    copy.textContent = done ? "copied" : "cannot copy here";
  });
  return el(
    "article",
    { class: `response ${knownOutcome(row.outcome)} ${chosen ? "chosen" : ""}`, "data-sample": row.sample },
    el(
      "header",
      {},
      el("span", { class: "advantage" }, strength(row)),
      el("a", { href: link, title: "link to this response" }, `#${visible(row.sample ?? "?")}`),
      " ",
      el("b", {}, outcomeName(row.outcome)),
      el("br"),
      facts.join(" · "),
    ),
    body,
    failedTest(row, one),
    row.cut && source.text ? whole : null,
    copy,
    compared.children.length ? compared : null,
  );
}

/** Which tests a program passed: judging ends at the first failure, so the others are not known. */
function testMarks(row, count) {
  const failed = /^test (\d+) of \d+:/.exec(row.detail ?? ""),
    all = row.outcome === "correct";
  return Array.from({ length: count }, (_, at) => (all ? "✓" : failed && Number(failed[1]) === at + 1 ? "✗" : "·"));
}

/** What the test that ended judging asked for, next to what the judge said of it; nothing where it is not known. */
function failedTest(row, one) {
  const failed = /^test (\d+) of \d+: ([\s\S]*)$/.exec(row.detail ?? ""),
    test = failed && one.tests?.[Number(failed[1]) - 1];
  if (!test) return null;
  const list = el("dl", { class: "failed" });
  for (const [name, value] of [
    [`test ${failed[1]}, input`, test.input],
    ["expected", test.output],
    ["judge", failed[2]],
  ])
    list.append(el("dt", {}, name), el("dd", {}, el("pre", {}, visible(value ?? ""))));
  return list;
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
  const note = "✓ passed, ✗ the failure that ended judging, · not known: judging ends at the first failure.";
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

/** Text as it was written, or with its formulas drawn. */
function rawChoice(again) {
  const box = el("input", { type: "checkbox", ...(reading.raw ? { checked: "" } : {}) });
  box.addEventListener("change", () => {
    reading.raw = box.checked;
    again();
  });
  return el("label", { class: "field" }, box, " raw text");
}

/** Every place of a text in the responses, marked without touching them; Enter goes from one to the next. */
function finder(strip) {
  const input = el("input", { type: "search", placeholder: "find in the answers", size: "18", "aria-label": "find in the answers" }),
    count = el("span", { class: "soft", role: "status" });
  let found = [],
    at = -1;
  const look = () => {
    [found, at] = [[], -1];
    const wanted = input.value.toLowerCase(),
      walker = document.createTreeWalker(strip, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); wanted && node && found.length < 5000; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      for (let from = text.indexOf(wanted); from >= 0; from = text.indexOf(wanted, from + wanted.length)) {
        if (from + wanted.length > node.length) break;
        const range = new Range();
        (range.setStart(node, from), range.setEnd(node, from + wanted.length), found.push(range));
      }
    }
    globalThis.CSS?.highlights?.set("found", new Highlight(...found));
    count.textContent = wanted ? ` ${found.length} found` : "";
  };
  const go = () => {
    if (!found.length) return;
    at = (at + 1) % found.length;
    const place = found[at].startContainer.parentElement;
    for (let up = place; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    place.scrollIntoView({ block: "center", inline: "nearest" });
    globalThis.CSS?.highlights?.set("here", new Highlight(found[at]));
    count.textContent = ` ${at + 1} of ${found.length}`;
  };
  input.addEventListener("input", look);
  input.addEventListener("keydown", (event) => event.key === "Enter" && go());
  return el("label", { class: "field" }, input, count);
}

/** One group: the problem, its tests, and all answers side by side. */
function group(one, run, sample, root) {
  const right = one.responses.filter((row) => row.reward === 1).length;
  const about = [
    one.stage,
    `step ${one.step}`,
    one.family,
    hasText(one.level) ? `level ${one.level}` : null,
    `${right} of ${one.responses.length} right`,
  ];
  const strip = el("div", { class: "strip", tabindex: "0", role: "group", "aria-label": "responses of one group" });
  const fill = () =>
    strip.replaceChildren(...one.responses.map((row) => response(row, one, run, String(row.sample) === sample)));
  fill();
  root.append(
    el("h2", { class: "first" }, el("code", {}, visible(one.problem_id))),
    el("p", { class: "soft" }, about.filter(hasText).map(visible).join(" · ")),
    el("pre", { class: "question" }, hasText(one.question) ? prose(one.question) : "The question is not among the run's data."),
    hasText(one.reference) ? el("p", {}, "Reference: ", el("code", {}, visible(one.reference))) : "",
    one.tests?.length ? tests(one) : "",
    el(
      "p",
      { class: "tools" },
      one.responses.some((row) => row.trace) ? colourChoice(fill) : "",
      rawChoice(() => redraw(root, () => (root.append(steps(run, current.route.rest)), group(one, run, sample, root)))),
      finder(strip),
    ),
    strip,
  );
  const chosen = strip.querySelector(".chosen");
  if (chosen) strip.scrollLeft = chosen.offsetLeft - strip.offsetLeft - 24;
}

const lastList = { run: null, rows: [], query: "" };

/** Links to the list, and to the matches before and after this one. */
function steps(run, [file, problem, sample]) {
  const at = lastList.rows.findIndex(
    (row) => row.file === file && row.problem_id === problem && String(row.sample) === sample,
  );
  const to = (row, name) =>
    row
      ? el("a", { href: address("run", run, "group", row.file, row.problem_id, row.sample), "data-key": name.includes("next") ? "j" : "k" }, name)
      : null;
  const known = lastList.run === run && at >= 0;
  return el(
    "p",
    { class: "steps" },
    el("a", { href: `${address("run", run, "responses")}${known ? lastList.query : ""}` }, "all responses"),
    known ? to(lastList.rows[at - 1], "← previous match") : null,
    known ? to(lastList.rows[at + 1], "next match →") : null,
  );
}

addEventListener("keydown", (event) => {
  const busy = event.target.closest?.("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey;
  if (!busy && (event.key === "j" || event.key === "k")) document.querySelector(`.steps [data-key="${event.key}"]`)?.click();
});

const groupView = {
  once: true,
  async refresh(root, route) {
    const [file, problem, sample] = route.rest;
    const one = await source.group(route.run, file, problem);
    redraw(root, () => {
      root.append(steps(route.run, route.rest));
      group(one, route.run, sample, root);
    });
  },
};
