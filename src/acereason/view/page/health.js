// What is wrong with a run, in sentences, each with a link to its chart. The rules are health/ in Python.
"use strict";

const CHART_OF = {
  learning_groups: "groups",
  truncated: "truncated",
  H_T: "entropy",
  "logprob_difference.k3": "logprob-difference",
  outcomes: "outcomes",
  gradient_norm: "gradient",
  reward: "reward",
  "length.mean": "length",
  same_answer: "groups",
  "seconds.total": "speed",
  "sft.loss": "sft-loss",
};
const REWARDED = ["held_out", "shorter", "same_answers"]; // rules whose answers one should read
const SIGNS = { alarm: "✖", warning: "▲", notice: "●" };

/** A severity as a sign and a word, for colour alone is not seen by all. */
const severityMark = (severity, title = null) =>
  el("span", { class: `severity ${severity}`, title }, `${SIGNS[severity] ?? "●"} ${severity}`);

/** Bring a chart into view and let it be seen which one is meant. */
function pointAt(id) {
  const figure = document.querySelector(`[data-chart="${CSS.escape(id)}"]`) ?? document.getElementById("results");
  if (!figure) return;
  for (const one of document.querySelectorAll(".pointed")) one.classList.remove("pointed");
  figure.classList.add("pointed");
  figure.scrollIntoView({ block: "center" });
}

function finding(one, run) {
  const go = el("button", { type: "button", class: "plain" }, "show its chart");
  go.addEventListener("click", () => pointAt(CHART_OF[one.chart] ?? "results"));
  const read = source.live && REWARDED.includes(one.rule) ? [" · ", el("a", { href: address("run", run, "desk") }, "read what was rewarded")] : [];
  return el(
    "li",
    { class: `finding ${one.severity}`, "data-rule": one.rule },
    el("p", {}, severityMark(one.severity), " ", el("b", {}, visible(one.sentence))),
    el("p", {}, visible(one.why), " ", el("span", { class: "remedy" }, visible(one.remedy))),
    el("p", { class: "soft" }, `${visible(one.stage)}, since step ${short(one.since)} · `, go, read),
  );
}

function health(run, root) {
  root.append(el("ul", { class: "findings" }, list(run.health).map((one) => finding(one, run.name))));
}

/** The worst of a run's findings, for a row of the overview; nothing when there is none. */
function worst(run) {
  const found = list(run.health);
  if (!found.length) return el("span", { class: "soft" }, run.step === null ? "–" : "well");
  const told = found.map((one) => `${one.stage}, since step ${one.since}: ${one.sentence}`).join("\n");
  return el("span", {}, severityMark(found[0].severity, told), found.length > 1 ? el("span", { class: "soft" }, ` and ${found.length - 1} more`) : null);
}
