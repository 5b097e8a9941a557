// The sections of the page that are curves: reinforcement learning, SFT, calibration.
"use strict";

const TOLERANCE = 0.03; // of the temperature-adjusted entropy, around its target
const PALETTE = ["blue", "orange", "green", "purple", "sky", "yellow", "grey"];
const OUTCOMES = { correct: "green", wrong: "orange", no_answer: "grey", timeout: "purple", unjudged: "yellow" };

/** Accuracy on the dev split, each at the drawn step that is nearest to its own. */
function heldOut(run, x) {
  const rows = list(run.dev).filter((row) => isNumber(row.step) && isNumber(row.accuracy));
  if (!rows.length) return [];
  const at = x.map(() => null);
  let place = 0;
  for (const row of rows.toSorted((a, b) => a.step - b.step)) {
    while (place + 1 < x.length && Math.abs(x[place + 1] - row.step) <= Math.abs(x[place] - row.step)) place++;
    at[place] = row;
  }
  const values = at.map((row) => row?.accuracy ?? null);
  return [{ name: "held-out", values, colour: "orange", points: true, spanGaps: true, dash: [6, 3], errors: interval(at) }];
}

/** Curves over the optimiser step, three stacks whose rows share the time axis. */
function training(run, root) {
  if (!run.rl.step?.length)
    return root.append(el("p", { class: "soft" }, "No step of reinforcement learning yet: it begins after fine-tuning."));
  const rl = run.rl,
    x = rl.step,
    reach = x.length >= 40 ? Math.max(2, Math.round(x.length / 50)) : 0;
  const under = (prefix) =>
    Object.keys(rl)
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length));
  const line = (name, colourName, label, more = {}) => ({
    name: label,
    values: rl[name],
    colour: colourName,
    ...more,
  });
  const noisy = (name, colourName, label) =>
    reach && rl[name]
      ? [
          line(name, colourName, "each step", { alpha: 0.35, width: 1 }),
          line(null, colourName, `mean of ${2 * reach + 1}`, {
            values: smooth(x, rl[name], run.stages, reach),
            width: 2,
          }),
        ]
      : [line(name, colourName, label)];
  const smoothed = reach ? `means of ${2 * reach + 1}` : null;
  const calm = (name) => (reach ? { values: smooth(x, list(rl[name]), run.stages, reach) } : {});
  const absolute = (name) => list(rl[name]).map((value) => (isNumber(value) ? Math.abs(value) : null));
  const onStep = (step) => {
    const stage = run.stages.find((one) => step >= one.first && step <= one.last)?.name;
    location.hash = `${address("run", run.name, "responses")}?${new URLSearchParams({ ...(stage ? { stage } : {}), step })}`;
  };
  const perStep = (spec) => ({ x, stages: run.stages, sync: "step", onStep, ...spec });
  const many = Math.ceil((run.rows?.rl ?? x.length) / x.length);
  const thinned = many > 1 ? ` Each point is the mean of up to ${many} steps (the largest, where a maximum is drawn).` : "";
  root.append(
    el(
      "p",
      { class: "caption" },
      `Dotted lines are stage boundaries. Drag over a chart to zoom, double-click to see all, click a step to read its responses.${thinned}`,
    ),
  );
  const grid = el("div", { class: "stacks" });
  root.append(grid);
  const stackOf = (...specs) => {
    const host = el("div");
    grid.append(host);
    for (const spec of specs) chart(host, perStep(spec));
  };
  const ruled = under("by_domain.")
    .filter((name) => name.endsWith(".T"))
    .map((name) => name.slice(0, -2)); // domains with a temperature rule of their own
  /** A number of each of these domains, or of all prompts, with what it is to be as a dashed line. */
  const aimed = (name, aim, label) =>
    (ruled.length ? ruled.map((domain) => [`by_domain.${domain}.`, domain]) : [["", label]]).flatMap(
      ([prefix, of], index) => {
        const colour = PALETTE[index % PALETTE.length];
        const series = [line(prefix + name, colour, of, { spanGaps: true })];
        if (list(rl[prefix + aim]).some(isNumber))
          series.push(line(prefix + aim, colour, `${of}, target`, { dash: [6, 3], stepped: true, spanGaps: true }));
        return series.filter((one) => list(one.values).some(isNumber));
      },
    );
  const diverse = aimed("diversity", "diversity_target", "diversity");
  const target = list(rl.H_target),
    band = target.some(isNumber)
      ? {
          low: target.map((h) => (isNumber(h) ? h - TOLERANCE : null)),
          high: target.map((h) => (isNumber(h) ? h + TOLERANCE : null)),
        }
      : null;
  const sum = (names, at) => names.reduce((total, name) => total + (rl[name][at] ?? 0), 0);
  const shares = (prefix, names) =>
    names.map((name) =>
      x.map(
        (_, at) =>
          rl[prefix + name][at] /
          (sum(
            names.map((n) => prefix + n),
            at,
          ) || 1),
      ),
    );
  const outcomes = unique([
      ...Object.keys(OUTCOMES).filter((name) => under("outcomes.").includes(name)),
      ...under("outcomes."),
    ]),
    outcomeShares = shares("outcomes.", outcomes);
  const levels = under("by_level.").sort((a, b) => Number(a) - Number(b));
  const times = under("seconds.").filter((name) => name !== "total");
  const perSecond = x.map((_, at) =>
    rl["seconds.total"]?.[at] > 0 ? rl.tokens?.[at] / rl["seconds.total"][at] : null,
  );
  stackOf(
    {
      id: "reward",
      title: list(run.dev).length ? "Reward and held-out accuracy" : "Reward",
      note: list(run.dev).length ? "the dev split is never trained on; 95 % intervals" : "mean over all responses",
      yLabel: "share correct",
      share: true,
      series: [...noisy("reward", "blue", "reward"), ...heldOut(run, x)],
    },
    {
      id: "groups",
      title: "Groups without a gradient",
      yLabel: "share of groups",
      share: true,
      floor: 0,
      note: smoothed,
      series: [
        line("all_right", "green", "all right", calm("all_right")),
        line("all_wrong", "orange", "all wrong", { dash: [5, 3], ...calm("all_wrong") }),
        line("same_answer", "purple", "one answer", { dash: [2, 3], ...calm("same_answer") }),
      ],
    },
    {
      id: "levels",
      title: "Pass rate by difficulty level",
      note: smoothed,
      yLabel: "share correct",
      share: true,
      series: levels.map((level, index) =>
        line(`by_level.${level}`, PALETTE[index % PALETTE.length], level, {
          dash: index >= PALETTE.length ? [4, 3] : undefined,
          width: 1.4,
          spanGaps: true,
          ...calm(`by_level.${level}`),
        }),
      ),
    },
    ...(list(rl["pool.prompts"]).some(isNumber)
      ? [
          {
            id: "pool",
            title: "Prompts of the stage",
            note: "dropped: left out of this epoch; retired: for good",
            yLabel: "prompts",
            floor: 0,
            series: [
              line("pool.prompts", "grey", "all", { stepped: true, dash: [6, 3] }),
              line("pool.dropped", "orange", "dropped", { stepped: true }),
              line("pool.retired", "purple", "retired", { stepped: true }),
            ],
          },
        ]
      : []),
  );
  stackOf(
    {
      id: "entropy",
      title: "Temperature-adjusted entropy H_T",
      note: band ? `band: target ± ${TOLERANCE}` : ruled.length ? "by domain; dashed: the target" : "no target set",
      yLabel: "nats",
      band,
      series: ruled.length ? aimed("H_T", "H_target", "H_T") : noisy("H_T", "blue", "H_T"),
    },
    {
      id: "temperature",
      title: "Temperature T",
      yLabel: "T",
      series: ruled.length ? aimed("T", "", "T") : [line("T", "orange", "T", { stepped: true })],
    },
    ...(diverse.length
      ? [
          {
            id: "diversity",
            title: "Diversity of the responses to a prompt",
            note: "distinct 4-grams; dashed: the first stage's, which later stages match",
            yLabel: "share of 4-grams",
            series: diverse,
          },
        ]
      : []),
    ...(list(rl.coefficient).some((value) => value > 0)
      ? [
          {
            id: "coefficient",
            title: "Coefficient of the entropy bonus",
            note: "rises below the target of H_T, falls above it",
            yLabel: "coefficient",
            floor: 0,
            series: [line("coefficient", "green", "coefficient", { stepped: true })],
          },
        ]
      : []),
    ...(list(rl.kl).some(isNumber)
      ? [
          {
            id: "kl",
            title: "KL to the second model",
            note: "the teacher, or the reference; mean over learned tokens",
            yLabel: "nats a token",
            series: noisy("kl", "blue", "KL"),
          },
        ]
      : []),
    {
      id: "entropy-1",
      title: "Entropy at temperature one, H_1",
      yLabel: "nats",
      series: noisy("H_1", "purple", "H_1"),
    },
  );
  stackOf(
    {
      id: "length",
      title: "Response length",
      note: "against the budget",
      yLabel: "tokens",
      floor: 0,
      series: [
        line("budget", "grey", "budget", { stepped: true, dash: [6, 3] }),
        line("length.p95", "orange", "p95"),
        line("length.p50", "sky", "p50", { width: 1 }),
        line("length.mean", "blue", "mean", { width: 2 }),
      ],
    },
    {
      id: "truncated",
      title: "Truncated at the budget",
      yLabel: "share of responses",
      share: true,
      floor: 0,
      series: [line("truncated", "orange", "truncated")],
    },
    {
      id: "outcomes",
      title: "Outcomes of judging",
      yLabel: "share of responses",
      share: true,
      floor: 0,
      ceiling: 1,
      stacked: true,
      series: outcomes.map((name, index) => ({
        name: name.replace("_", " "),
        values: outcomeShares[index],
        colour: OUTCOMES[name] ?? "sky",
      })),
    },
  );
  stackOf(
    {
      id: "gradient",
      title: "Gradient norm",
      yLabel: "‖∇J‖, before clipping",
      floor: 0,
      series: noisy("gradient_norm", "blue", "gradient norm"),
    },
    {
      id: "learning-rate",
      title: "Learning rate",
      yLabel: "learning rate",
      floor: 0,
      series: [line("lr", "orange", "learning rate")],
    },
  );
  stackOf(
    {
      id: "logprob-difference",
      title: "Sampler against trainer",
      note: "|Δ log-probability|, and k3",
      yLabel: "nats, logarithmic",
      log: true,
      series: [
        line("logprob_difference.max", "orange", "max"),
        line("logprob_difference.mean", "blue", "mean", { values: absolute("logprob_difference.mean") }),
        line("logprob_difference.k3", "purple", "k3", { dash: [5, 3] }),
      ],
    },
    { id: "loss", title: "Loss", yLabel: "loss", series: noisy("loss", "blue", "loss") },
  );
  stackOf(
    {
      id: "time",
      title: "Time of a step",
      yLabel: "seconds",
      floor: 0,
      stacked: true,
      series: times.map((name, index) => ({
        name,
        values: rl[`seconds.${name}`],
        colour: PALETTE[index % PALETTE.length],
      })),
    },
    {
      id: "speed",
      title: "Sampled tokens",
      yLabel: "tokens per second",
      floor: 0,
      series: [{ name: "tokens per second", values: perSecond, colour: "blue" }],
    },
    {
      id: "overlap",
      title: "Learning while sampling",
      note: "hidden behind the longest responses",
      yLabel: "share of learning",
      share: true,
      floor: 0,
      optional: true,
      series: list(rl["overlap.share"]).some((share) => share > 0) ? [line("overlap.share", "green", "overlap")] : [],
    },
    {
      id: "utilisation",
      title: "Use of the hardware",
      note: "MFU learning, MBU sampling",
      yLabel: "share of the peak",
      share: true,
      floor: 0,
      optional: true,
      series: [line("mfu", "blue", "MFU"), line("mbu", "orange", "MBU")],
    },
  );
  return null;
}

/** Evaluations by epoch; the full one after SFT is that of its last epoch. */
function epochs(run) {
  const rows = run.evaluation.filter((row) => isNumber(row.epoch)),
    last = list(run.sft.epoch).at(-1);
  if (!rows.length || !isNumber(last)) return rows;
  const has = (row) => rows.some((one) => one.epoch === last && one.benchmark === row.benchmark);
  const final = run.evaluation.filter((row) => row.stage === rows[0].stage && !isNumber(row.epoch) && !has(row));
  return [...rows, ...final.map((row) => ({ ...row, epoch: last }))];
}

function sft(run, root) {
  if (!run.sft.step?.length)
    return root.append(el("p", { class: "soft" }, "No step of fine-tuning was recorded: this run began with reinforcement learning, or has not begun."));
  const rows = epochs(run),
    grid = el("div", { class: "stacks" });
  root.append(grid);
  chart(grid, {
    id: "sft-loss",
    title: "SFT loss",
    note: "response tokens only",
    yLabel: "nats per token",
    x: run.sft.step ?? [],
    series: [{ name: "loss", values: run.sft.loss, colour: "blue" }],
    sync: "sft",
  });
  chart(grid, {
    id: "sft-lr",
    title: "SFT learning rate",
    yLabel: "learning rate",
    floor: 0,
    x: run.sft.step ?? [],
    series: [{ name: "learning rate", values: run.sft.lr, colour: "orange" }],
    sync: "sft",
  });
  for (const benchmark of unique(rows.map((row) => row.benchmark))) {
    const own = rows.filter((row) => row.benchmark === benchmark).sort((a, b) => a.epoch - b.epoch);
    chart(grid, {
      id: `sft-${benchmark}`,
      title: `Accuracy on ${benchmark} per SFT epoch`,
      note: "95 % intervals",
      yLabel: "accuracy",
      share: true,
      air: 0.06,
      x: own.map((row) => row.epoch),
      xLabel: "epoch",
      xName: "epoch",
      series: [
        {
          name: "accuracy",
          values: own.map((row) => row.accuracy),
          colour: "blue",
          errors: interval(own),
          points: true,
        },
      ],
    });
  }
  return null;
}

function calibration(run, root) {
  if (!run.calibration.length)
    return root.append(el("p", { class: "soft" }, "No stage calibrated its temperature."));
  const grid = el("div", { class: "stacks" });
  root.append(grid);
  run.calibration.forEach((row, number) => {
    const diverse = row.quantity === "diversity",
      measured = list(row.points),
      x = unique([...measured.map((point) => point.T), row.T])
        .filter(isNumber)
        .sort((a, b) => a - b);
    const at = x.map((T) => measured.find((point) => point.T === T)),
      check = x.map((T) => (T === row.T ? row.check : null));
    const side = (points, sign) =>
      points.map((point) => (isNumber(point?.H) ? point.H + sign * Z95 * (point.se ?? 0) : null));
    const both = (points) => [side(points, -1), side(points, 1)],
      level = (h) => x.map(() => (isNumber(h) ? h : null));
    chart(grid, {
      id: `calibration-${number}`,
      title: `Calibration of ${row.stage}${row.domain ? `, ${row.domain}` : ""}`,
      note: `target ${short(row.target)}${diverse ? "" : ` ± ${TOLERANCE}`}, chosen T = ${short(row.T)}`,
      yLabel: diverse ? "diversity, share of distinct 4-grams" : "H_T, nats",
      xLabel: "temperature T",
      xName: "T",
      x,
      air: 0.05,
      integers: false,
      band: isNumber(row.target) && !diverse
        ? { low: level(row.target - TOLERANCE), high: level(row.target + TOLERANCE) }
        : null,
      marks: isNumber(row.T) ? [{ x: row.T, name: `T = ${short(row.T)}` }] : [],
      series: [
        {
          name: "measured",
          values: at.map((point) => point?.H ?? null),
          colour: "blue",
          errors: both(at),
          points: true,
          spanGaps: true,
        },
        {
          name: "check at chosen T",
          values: check.map((point) => point?.H ?? null),
          colour: "orange",
          errors: both(check),
          points: true,
        },
      ],
    });
  });
  return null;
}
