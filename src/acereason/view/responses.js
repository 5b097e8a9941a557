// Responses, a group side by side. They come from a model and may hold anything: all of it becomes
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

/** The advantage, or the weight in the loss where only that was kept. */
function strength(row) {
  const [name, value] = isNumber(row.advantage) ? ["A", row.advantage] : ["weight", row.weight];
  if (!isNumber(value)) return null;
  const size = name === "A" ? Math.abs(value).toFixed(2) : short(Math.abs(value));
  return `${name} = ${value < 0 ? "−" : "+"}${size}`;
}

function response(row, reference) {
  const known = ["correct", "wrong", "no_answer", "timeout", "unjudged"].includes(row.outcome);
  const facts = [
    hasText(row.tokens) ? `${short(row.tokens)} tokens` : null,
    row.finish === "length" ? "cut at the budget" : null,
    isNumber(row.temperature) ? `T ${short(row.temperature)}` : null,
  ].filter(Boolean);
  const compared = el("dl");
  for (const [name, value] of [
    ["answer", row.extracted],
    ["reference", reference],
    ["judge", row.detail],
  ]) {
    if (hasText(value)) compared.append(el("dt", {}, name), el("dd", {}, el("code", {}, visible(value))));
  }
  return el(
    "article",
    { class: `response ${known ? row.outcome : ""}` },
    el(
      "header",
      {},
      el("span", { class: "advantage" }, strength(row)),
      el("b", {}, visible(row.outcome ?? "not judged").replace("_", " ")),
      el("br"),
      facts.join(" · "),
    ),
    hasText(row.thinking)
      ? el(
          "details",
          {},
          el("summary", {}, hasText(row.answer) ? "reasoning" : "reasoning, never closed"),
          el("pre", {}, visible(row.thinking)),
        )
      : null,
    hasText(row.answer) ? el("pre", {}, visible(row.answer.trim())) : null,
    compared.children.length ? compared : null,
  );
}

function group(one) {
  const right = one.responses.filter((row) => row.reward === 1).length;
  const about = [
    one.family,
    hasText(one.level) ? `level ${one.level}` : null,
    `${right} of ${one.responses.length} right`,
  ]
    .filter(hasText)
    .map(visible)
    .join(" · ");
  return el(
    "section",
    { class: "group" },
    el("header", {}, el("code", {}, visible(one.problem_id)), el("span", { class: "soft" }, `  ${about}`)),
    hasText(one.question) ? el("pre", { class: "question" }, visible(one.question)) : null,
    el(
      "div",
      { class: "strip", tabindex: "0", role: "group", "aria-label": "responses of one group" },
      one.responses.map((row) => response(row, one.reference)),
    ),
  );
}

function responses(run, root) {
  if (!run.responses.length) return root.append(el("p", { class: "soft" }, "No responses were kept."));
  root.append(
    el(
      "p",
      { class: "caption" },
      "From the last step of each stage and the last evaluation; groups with right and wrong answers first. A is the " +
        "advantage, weight that of a response's tokens in the loss. Invisible characters are shown as signs.",
    ),
  );
  for (const stage of run.responses) {
    root.append(
      el(
        "h3",
        {},
        `${visible(stage.stage)}, step ${stage.step}`,
        el(
          "span",
          { class: "soft" },
          `  ${stage.groups.length} of ${stage.of_groups} groups, ${stage.total} responses`,
        ),
      ),
    );
    root.append(...stage.groups.map(group));
  }
  return null;
}
