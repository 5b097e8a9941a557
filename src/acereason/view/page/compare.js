// The comparison lab: any number of runs, grouped by recipe over seeds. What is said of them is written by
// evaluate/lab.py; here it is laid out, with the recipes' differences, flipped questions and curves.
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

/** The address of a comparison of these runs. */
const compareAddress = (names) => `#/compare?${new URLSearchParams(names.map((name) => ["run", name]))}`;

/** A run's values at whole steps counted from its first one, straight lines between the points it has. */
function along(columns, name, x) {
  const steps = list(columns.step),
    known = steps.map((step, at) => [step - steps[0] + 1, columns[name]?.[at]]).filter(([, value]) => isNumber(value));
  let at = 0;
  return x.map((step) => {
    while (at + 1 < known.length && known[at + 1][0] <= step) at++;
    if (!known.length || step < known[0][0] || step > known.at(-1)[0]) return null;
    const [[x0, y0], [x1, y1]] = [known[at], known[at + 1] ?? known[at]];
    return x1 > x0 ? y0 + ((y1 - y0) * (step - x0)) / (x1 - x0) : y0;
  });
}

/** Each run as a line in its recipe's colour; of several seeds also their mean, where all of them are. */
function overlaid(found, kind, name) {
  const all = found.curves.flatMap((run) => list(run[kind]?.step).map((step) => step - run[kind].step[0] + 1));
  const x = unique(all).sort((a, b) => a - b);
  const series = found.groups.flatMap((group, place) => {
    const colour = PALETTE[place % PALETTE.length],
      runs = found.curves.filter((run) => run.group === group.label),
      lines = runs.map((run) => along(run[kind] ?? {}, name, x));
    const line = (label, values, more) => ({ name: label, values, colour, spanGaps: true, points: false, ...more });
    if (lines.length < 2) return lines.map((values) => line(group.label, values, {}));
    const mean = x.map((_, at) => (lines.every((values) => isNumber(values[at])) ? lines.reduce((sum, values) => sum + values[at], 0) / lines.length : null));
    return [...lines.map((values, at) => line(`${group.label}, seed ${runs[at].seed}`, values, { alpha: 0.35, width: 1 })), line(`${group.label}, mean`, mean, { width: 2.2 })];
  });
  return { x, series };
}

function groupRows(found, names) {
  return found.groups.map((group, place) => {
    const own = group.runs.map((run) => run.name);
    const runs = group.runs.flatMap((run, at) => [at ? ", " : "", el("a", { href: address("run", run.name) }, visible(run.name))]);
    const first = place
      ? el("a", { href: compareAddress([...own, ...names.filter((name) => !own.includes(name))]) }, "compare with this one")
      : el("span", { class: "soft" }, "what the others are compared with");
    const label = el("b", { class: `side ${PALETTE[place % PALETTE.length]}` }, group.label);
    return el("tr", {}, cells("td", [label, visible(group.recipe ?? "–"), el("span", { class: "runs" }, runs), visible(group.runs.map((run) => run.seed).join(", ")), first]));
  });
}

function recipes(found, root) {
  root.append(el("h2", {}, "How the recipes differ"));
  if (!found.differs.length) {
    root.append(el("p", { class: "soft" }, found.groups.length > 1 ? "No recipe was kept, or none differs." : "All runs have one recipe; they differ in their seeds."));
    return;
  }
  const rows = found.differs.map((row) => el("tr", {}, cells("td", [el("code", {}, visible(row.key)), ...row.values.map(recipeValue)])));
  root.append(ruled(["key", ...found.groups.map((group) => group.label)], rows));
}

function differenceCells(found) {
  if (found.refused) return ["–", "–", el("span", { class: "soft" }, "refused: no question was asked of both")];
  const side = found.sign > 0 ? "up" : found.sign < 0 ? "down" : "";
  const range = isNumber(found.low) ? `${points(found.low)} to ${points(found.high)}` : "–";
  const [first, second] = found.seeds,
    seeds = first === second ? `${first} seed${first > 1 ? "s" : ""}` : `${first} and ${second} seeds`;
  const paired = `${found.matched ? "paired by seed and question" : "paired by question"}, ${seeds} × ${short(found.questions)}`;
  const how = found.paired ? `${paired}${found.left_out ? `, ${short(found.left_out)} not asked of both` : ""}` : `not paired: verdicts were not kept, ${seeds}`;
  return [el("span", { class: side }, points(found.mean)), range, el("span", { class: "soft" }, how)];
}

function evaluations(found, root) {
  root.append(el("h2", {}, "Evaluations"));
  if (!found.comparisons.length) {
    root.append(el("p", { class: "soft" }, "There is no evaluation of the same stage and benchmark in two recipes yet."));
    return;
  }
  const ends = found.comparisons.filter((row) => row.end);
  root.append(el("ul", { class: "verdicts" }, ends.map((row) => el("li", { class: row.difference.sign ? "decided" : "" }, visible(row.verdict)))));
  root.append(
    el(
      "p",
      { class: "caption" },
      "Of each run's last stage. Intervals cover 95 % over seeds and questions, each by itself: of twenty comparisons one errs. Fewer than three seeds say nothing of a recipe.",
    ),
  );
  const rows = found.comparisons.map((row) =>
    el("tr", {}, cells("td", [`${row.groups[1]} − ${row.groups[0]}`, visible(row.stage), visible(row.benchmark), row.measure, ...row.scores.map(withError), ...differenceCells(row.difference)])),
  );
  root.append(ruled(["recipes", "stage", "benchmark", "measure", "first / %", "second / %", "difference / points", "95 % interval", "how"], rows));
  const grid = el("div", { class: "stacks" });
  root.append(grid);
  const averages = found.comparisons.filter((row) => row.measure.startsWith("avg"));
  for (const benchmark of unique(averages.map((row) => row.benchmark)))
    for (const label of unique(averages.map((row) => row.groups[1]))) {
      const own = averages.filter((row) => row.benchmark === benchmark && row.groups[1] === label && !row.difference.refused);
      if (own.length) chart(grid, differenceChart(benchmark, own, found.groups.length > 2));
    }
}

function differenceChart(benchmark, own, several) {
  const [first, second] = own[0].groups,
    ends = ["low", "high"].map((end) => own.map((row) => row.difference[end]));
  const difference = { name: "difference", values: own.map((row) => row.difference.mean), colour: "purple", width: 0, points: true, errors: ends };
  return {
    id: `difference-${benchmark}${several ? `-${second}` : ""}`,
    title: `${visible(benchmark)}: ${second} minus ${first}`,
    note: "95 % intervals",
    yLabel: "percentage points",
    xLabel: "stage",
    xName: "stage",
    x: own.map((_, index) => index),
    categories: own.map((row) => visible(row.stage)),
    points: true,
    zero: true,
    series: [difference, { name: "no difference", values: own.map(() => 0), colour: "grey", dash: [4, 4], width: 1, points: false }],
  };
}

function flipRow(row) {
  const links = row.answers.map((one, side) =>
    one ? el("a", { href: address("run", one.run, "group", one.file, row.question, "0") }, side ? "second's answers" : "first's answers") : el("span", { class: "soft" }, "not kept"),
  );
  const way = row.after > row.before ? el("span", { class: "up" }, "gained") : el("span", { class: "down" }, "lost");
  return el("tr", {}, cells("td", [el("code", {}, visible(row.question)), visible(row.seed || "all"), way, percent(row.before, 0), percent(row.after, 0), ...links]));
}

function flipped(found, root) {
  const turned = found.comparisons.filter((row) => row.end && row.flips.rows.length);
  if (!turned.length) return;
  root.append(el("h2", {}, "Questions that flipped"));
  root.append(el("p", { class: "caption" }, "From below half of the samples right to at least half, or back, the largest change first. Some flip by chance: fewer samples, more of them."));
  for (const row of turned) {
    const { gained, lost, rows } = row.flips,
      said = `${visible(row.benchmark)}, ${row.groups[0]} → ${row.groups[1]}: ${short(gained)} gained, ${short(lost)} lost${gained + lost > rows.length ? `; the first ${rows.length}` : ""}`;
    root.append(el("details", { class: "flips" }, el("summary", {}, said), ruled(["question", "seed", "", "first", "second", "", ""], rows.map(flipRow))));
  }
}

function comparison(found, names, root) {
  root.append(el("h1", {}, `${found.curves.length} runs, ${found.groups.length} recipe${found.groups.length > 1 ? "s" : ""}`));
  root.append(ruled(["", "recipe", "runs", "seeds", ""], groupRows(found, names)));
  if (found.notes.length) root.append(el("div", { class: "notes" }, el("ul", {}, found.notes.map((note) => el("li", {}, visible(note))))));
  evaluations(found, root);
  recipes(found, root);
  flipped(found, root);
  root.append(el("h2", {}, "Reinforcement learning"));
  const grid = el("div", { class: "stacks" });
  root.append(grid);
  for (const [name, title, spec] of COMPARED)
    chart(grid, { id: `both-${name}`, title, xLabel: "step of reinforcement learning", sync: "both", ...spec, ...overlaid(found, "rl", name) });
  chart(grid, { id: "both-sft", title: "SFT loss", note: "response tokens only", yLabel: "nats per token", ...overlaid(found, "sft", "loss") });
  root.append(el("p", { class: "caption" }, "Steps are counted from each run's first one."));
}

const compareView = {
  async refresh(root, route) {
    const asked = new URLSearchParams(route.search),
      names = unique([...asked.getAll("run"), ...asked.getAll("first"), ...asked.getAll("second")]);
    const found = await source.lab(names);
    if (current.route !== route) return;
    const told = JSON.stringify(found);
    if (told === this.told && root.firstChild) return;
    this.told = told;
    redraw(root, () => comparison(found, names, root));
  },
};
