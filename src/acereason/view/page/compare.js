// Two runs: the differences of their evaluations with intervals, and their curves over each other.
"use strict";

const COMPARED = [
  ["reward", "Reward", { yLabel: "share correct", share: true }],
  ["H_T", "Temperature-adjusted entropy H_T", { yLabel: "nats" }],
  ["T", "Temperature T", { yLabel: "T" }],
  ["length.mean", "Response length, mean", { yLabel: "tokens", floor: 0 }],
  ["truncated", "Truncated at the budget", { yLabel: "share of responses", share: true, floor: 0 }],
  ["all_wrong", "All-wrong groups", { yLabel: "share of groups", share: true, floor: 0 }],
  ["gradient_norm", "Gradient norm", { yLabel: "‖∇J‖, before clipping", floor: 0 }],
  ["seconds.total", "Time of a step", { yLabel: "seconds", floor: 0 }],
];
const SIDES = ["blue", "orange"];

/** Both runs' values over one axis: steps are counted from each run's first. */
function overlaid(runs, kind, name) {
  const columns = runs.map((run) => run[kind]);
  const steps = columns.map((one) => list(one.step).map((step) => step - one.step[0] + 1));
  const x = unique(steps.flat()).sort((a, b) => a - b);
  const series = columns.map((one, side) => {
    const at = new Map(steps[side].map((step, index) => [step, one[name]?.[index] ?? null]));
    return { name: runs[side].label, values: x.map((step) => at.get(step) ?? null), colour: SIDES[side], spanGaps: true };
  });
  return { x, series };
}

function differenceCells(row) {
  const found = row.difference,
    known = isNumber(found?.mean);
  const side = known && found.low > 0 ? "up" : known && found.high < 0 ? "down" : "";
  const range = known && isNumber(found.low) ? `${points(found.low)} to ${points(found.high)}` : "–";
  const how = found?.refused
    ? "refused: no question was asked in both runs"
    : !known
    ? "–"
    : found.paired
      ? `paired, ${short(found.questions)} questions${found.left_out ? `, ${short(found.left_out)} asked in one run only` : ""}`
      : found.questions
        ? `not paired: only ${short(found.questions)} questions in common`
        : "not paired: no common questions kept";
  return [el("span", { class: side }, known ? points(found.mean) : "–"), range, el("span", { class: "soft" }, how)];
}

/** One comparison as a sentence. Two runs are one seed each, so it speaks of these runs and not of their recipes. */
function verdict(row, runs) {
  const { difference: found, benchmark } = row,
    [first, second] = runs.map((run) => run.label);
  const where = `${visible(benchmark)} (${visible(unique(row.stages).join(" → "))})`;
  if (found?.refused) return `${where}: not compared, for no question was asked in both runs.`;
  if (!isNumber(found?.mean) || !isNumber(found.low)) return null;
  const size = (value) => Math.abs(100 * value).toFixed(1),
    n = found.questions ? `${short(found.questions)} questions` : "questions that are not paired";
  if (found.low > 0) return `${where}: ${second} beats ${first} by ${size(found.mean)}, ${size(found.low)} to ${size(found.high)} points, on ${n}.`;
  if (found.high < 0) return `${where}: ${first} beats ${second} by ${size(found.mean)}, ${size(found.high)} to ${size(found.low)} points, on ${n}.`;
  const times = ((found.high - found.low) / 2 / Math.abs(found.mean)) ** 2;
  const more = times < 100 ? `; a difference of this size needs about ${Math.ceil(times)} times as many questions` : "";
  return `${where}: undecided, ${points(found.low)} to ${points(found.high)} points on ${n}${more}.`;
}

function differences(both, root) {
  const rows = both.differences.map((row) =>
    el(
      "tr",
      {},
      cells("td", [
        visible(unique(row.stages).join(" → ")),
        visible(row.benchmark),
        ...row.scores.map(withError),
        ...differenceCells(row),
      ]),
    ),
  );
  if (!rows.length) {
    root.append(el("p", { class: "soft" }, "The two runs have no evaluation of the same stage and benchmark yet."));
    return;
  }
  const head = ["stage", "benchmark", ...both.runs.map((run) => `${run.label} / %`), "difference / points", "95 % interval", "how"];
  const last = unique(both.differences.map((row) => row.benchmark)).map((name) => both.differences.findLast((row) => row.benchmark === name));
  const said = last.map((row) => verdict(row, both.runs)).filter(hasText);
  root.append(el("ul", { class: "verdicts" }, said.map((text) => el("li", {}, text))));
  root.append(el("p", { class: "caption" }, "These runs are one seed each: another seed may say otherwise, so compare several before preferring a recipe."));
  const grid = el("div", { class: "stacks" });
  root.append(ruled(head, rows), grid);
  for (const benchmark of unique(both.differences.map((row) => row.benchmark))) {
    const own = both.differences.filter((row) => row.benchmark === benchmark);
    chart(grid, {
      id: `difference-${benchmark}`,
      title: `${visible(benchmark)}: ${both.runs[1].label} minus ${both.runs[0].label}`,
      note: "95 % intervals",
      yLabel: "percentage points",
      xLabel: "stage",
      xName: "stage",
      x: own.map((_, index) => index),
      categories: own.map((row) => visible(unique(row.stages).join(" → "))),
      points: true,
      zero: true,
      series: [
        {
          name: "difference",
          values: own.map((row) => row.difference?.mean ?? null),
          colour: "purple",
          width: 0,
          points: true,
          errors: ["low", "high"].map((end) => own.map((row) => row.difference?.[end] ?? null)),
        },
        { name: "no difference", values: own.map(() => 0), colour: "grey", dash: [4, 4], width: 1, points: false },
      ],
    });
  }
}

function comparison(both, root) {
  const names = both.runs.map((run) => visible(run.name));
  both.runs.forEach((run, side) => (run.label = names[0] === names[1] ? `${names[side]} (${side + 1})` : names[side]));
  const title = both.runs.map((run, side) =>
    el("a", { href: address("run", run.name), class: `side ${SIDES[side]}` }, run.label),
  );
  root.append(el("h1", {}, title[0], " and ", title[1]));
  root.append(el("h2", {}, "Evaluations"));
  differences(both, root);
  root.append(el("h2", {}, "Reinforcement learning"));
  const grid = el("div", { class: "stacks" });
  root.append(grid);
  for (const [name, title, spec] of COMPARED)
    chart(grid, { id: `both-${name}`, title, xLabel: "step of reinforcement learning", sync: "both", ...spec, ...overlaid(both.runs, "rl", name) });
  root.append(el("h2", {}, "Supervised fine-tuning"));
  const fine = el("div", { class: "stacks" });
  root.append(fine);
  chart(fine, {
    id: "both-sft",
    title: "SFT loss",
    note: "response tokens only",
    yLabel: "nats per token",
    ...overlaid(both.runs, "sft", "loss"),
  });
  root.append(
    el(
      "p",
      { class: "caption" },
      "Differences are those of avg@k on the questions that both runs were asked, second run minus first, in percentage points. " +
        "Steps are counted from each run's first one.",
    ),
  );
}

const compareView = {
  async refresh(root, route) {
    const both = await source.compare(route.query.first, route.query.second);
    both.runs.forEach((run, side) => (run.name = [route.query.first, route.query.second][side]));
    const told = both.runs.map((run) => run.version).join();
    if (told === this.told && root.firstChild) return;
    this.told = told;
    redraw(root, () => comparison(both, root));
  },
};
