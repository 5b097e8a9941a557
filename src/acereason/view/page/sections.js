// The sections of the page that are numbers: headline, final table, modes, funnel. Each takes the run
// (see data.py) and the element to write into.
"use strict";

const Z95 = 1.959963984540054;

const points = (value) => !isNumber(value) ? "–" : `${value >= 0 ? "+" : "−"}${Math.abs(100 * value).toFixed(1)}`;
const unique = (values) => [...new Set(values)];
const domainsOf = (results) => unique(results.flatMap((stage) => Object.keys(stage.evaluation ?? {})));

/** A share's 95 % interval that stays within 0 and 1 and is no point at their ends (Wilson's, over as many
 *  answers as have the error that was measured): 0 of 24 is 0 to 14 %. */
function bounds(row) {
  const p = row?.accuracy;
  if (!isNumber(p) || p < 0 || p > 1 || !(isNumber(row.se) || row.n > 0)) return [null, null];
  const most = row.n > 0 ? row.n * (row.k > 0 ? row.k : 1) : Infinity;
  const n = row.se > 0 && p > 0 && p < 1 ? Math.min((p * (1 - p)) / row.se ** 2, most) : row.n;
  if (!(n > 0)) return [null, null];
  const z2 = Z95 ** 2 / n,
    centre = (p + z2 / 2) / (1 + z2),
    reach = (Z95 / (1 + z2)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n));
  return [p > 0 ? centre - reach : 0, p < 1 ? centre + reach : 1];
}

const interval = (rows) => [0, 1].map((side) => rows.map((row) => bounds(row)[side]));

function cells(tag, values) {
  return values.map((value) => el(tag, {}, value));
}

/** A table; a column without a name has an empty cell above it, for an empty heading would be read out. */
function ruled(head, rows) {
  const names = head.map((name) => (name === "" ? el("td") : el("th", { scope: "col" }, name)));
  const table = el("table", { class: "ruled" }, el("thead", {}, el("tr", {}, names)), el("tbody", {}, rows));
  return el(
    "div",
    { class: "scroll" },
    table,
    rows.length > 1 ? takingTable(table) : null,
  );
}

function withError(result) {
  if (!isNumber(result?.accuracy)) return "–";
  const near = Math.min(result.accuracy, 1 - result.accuracy) < Z95 * (result.se || Infinity);
  const [low, high] = bounds(result);
  if (near && isNumber(low)) {
    const range = ` (${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)})`;
    return el("span", {}, (100 * result.accuracy).toFixed(1), el("span", { class: "pm" }, range));
  }
  const error = isNumber(result.se)
    ? el("span", { class: "pm" }, ` ± ${(100 * Z95 * result.se).toFixed(1)}`)
    : null;
  return el("span", {}, (100 * result.accuracy).toFixed(1), error);
}

/** What became of pass@k where avg@k was gained: the widest k, paired where the summary has it. */
function beside(run, domain) {
  const paired = run.summary?.gain_pass_at_k?.[domain];
  const sides = [run.results[0], run.results.at(-1)].map((stage) => stage?.evaluation?.[domain]?.pass_at_k ?? {});
  const k = Object.keys(paired ?? sides[1]).map(Number).filter((one) => one > 1).sort((a, b) => b - a)[0];
  if (!k) return [];
  const gain = paired?.[k] ?? { mean: sides[1][k] - sides[0][k] };
  if (!isNumber(gain.mean)) return [];
  const range = isNumber(gain.low) ? `, ${points(gain.low)} to ${points(gain.high)}` : ", not paired";
  const side = gain.low > 0 ? "up" : isNumber(gain.high) && gain.high < 0 ? "down" : "";
  return [el("br"), `pass@${k} `, el("b", { class: `small ${side}` }, `${points(gain.mean)} points`), range];
}

function headline(run, root) {
  const results = run.results,
    gains = Object.entries(run.summary?.gain ?? {});
  const numbers = gains.map(([domain, gain]) => {
    const side = gain.low > 0 ? "up" : isNumber(gain.high) && gain.high < 0 ? "down" : "";
    const [first, last] = [results[0], results[results.length - 1]].map(
      (stage) => stage?.evaluation?.[domain]?.accuracy,
    );
    return el(
      "div",
      { class: "gain" },
      el("b", { class: side }, `${points(gain.mean)} points`),
      el(
        "span",
        { class: "what" },
        `${domain}, ${percent(first)} → ${percent(last)}`,
        el("br"),
        `95 % interval ${points(gain.low)} to ${points(gain.high)}`,
        beside(run, domain),
      ),
    );
  });
  if (numbers.length) root.append(el("div", { class: "headline" }, numbers));
  else root.append(el("p", { class: "soft" }, "No gain yet: it is known when the last stage has been evaluated."));
  const names = results.map((stage) => String(stage.name)),
    charts = el("div", { class: "stacks" });
  root.append(charts);
  for (const domain of domainsOf(results)) {
    const rows = results.map((stage) => stage.evaluation?.[domain]);
    chart(charts, {
      id: `accuracy-${domain}`,
      title: `Accuracy on held-out ${domain}`,
      note: "after each stage, 95 % intervals",
      yLabel: "accuracy",
      x: names.map((_, index) => index),
      categories: names,
      xLabel: "stage",
      xName: "stage",
      share: true,
      height: 190,
      series: [
        {
          name: "accuracy",
          values: rows.map((row) => row?.accuracy ?? null),
          colour: "blue",
          errors: interval(rows),
          points: true,
          spanGaps: true,
        },
      ],
    });
  }
}

/** A gain with its interval, coloured where that excludes 0. */
function gainCell(gain) {
  if (!isNumber(gain?.mean)) return "–";
  const side = gain.low > 0 ? "up" : isNumber(gain.high) && gain.high < 0 ? "down" : "";
  return el("span", {}, el("span", { class: side }, points(gain.mean)), el("span", { class: "pm" }, ` (${points(gain.low)} to ${points(gain.high)})`));
}

const widest = (byK) => Object.keys(byK ?? {}).map(Number).filter((k) => k > 1).sort((a, b) => b - a)[0];

/** What each stage added, in points: avg@k and pass@k side by side; null when the summary does not say. */
function stageGains(run) {
  const gains = Object.entries(run.summary?.gain_per_stage ?? {}),
    wide = run.summary?.gain_pass_at_k_per_stage ?? {};
  const domains = unique(gains.flatMap(([, by]) => Object.keys(by)));
  if (!domains.length) return null;
  const ks = Object.fromEntries(domains.map((domain) => [domain, Math.max(0, ...Object.values(wide).map((by) => widest(by[domain]) ?? 0))]));
  const columns = domains.flatMap((domain) => [[domain, null], ...(ks[domain] ? [[domain, ks[domain]]] : [])]);
  const rows = gains.map(([stage, by]) =>
    el("tr", {}, cells("td", [stage, ...columns.map(([domain, k]) => gainCell(k ? wide[stage]?.[domain]?.[k] : by[domain]))])),
  );
  return ruled(["gain of stage / points", ...columns.map(([domain, k]) => (k ? `pass@${k}` : domain))], rows);
}

function finalTable(run, root) {
  const domains = domainsOf(run.results);
  const passes = (domain) =>
    unique(run.results.flatMap((stage) => Object.keys(stage.evaluation?.[domain]?.pass_at_k ?? {}))).filter(
      (k) => k !== "1",
    );
  const head = [
    "stage",
    "domain",
    "steps",
    "T",
    "H_T / nats",
    ...domains.flatMap((domain) => [`${domain} / %`, ...passes(domain).map((k) => `pass@${k}`)]),
  ];
  const rows = run.results.map((stage) =>
    el(
      "tr",
      {},
      cells("td", [
        String(stage.name),
        String(stage.domain ?? "–"),
        short(stage.steps),
        isNumber(stage.T) ? stage.T.toFixed(2) : "–",
        isNumber(stage.H_T) ? stage.H_T.toFixed(2) : "–",
        ...domains.flatMap((domain) => {
          const result = stage.evaluation?.[domain];
          return [
            withError(result),
            ...passes(domain).map((k) => withError({ accuracy: result?.pass_at_k?.[k], se: result?.pass_at_k_se?.[k], n: result?.n, k: 1 })),
          ];
        }),
      ]),
    ),
  );
  root.append(el("div", { class: "tables" }, ruled(head, rows), stageGains(run)));
  const sizes = domains
    .map((domain) => run.results.map((stage) => stage.evaluation?.[domain]).find((result) => result?.n))
    .map((result, index) => (result ? `${domains[index]}: ${result.n} questions × ${result.k} samples` : null));
  root.append(
    el(
      "p",
      { class: "caption" },
      `Accuracy is avg@k, ± 1.96 question-level standard errors; pass@k likewise; gains are paired by question. ${sizes.filter(Boolean).join("; ")}.`,
    ),
  );
}

const arrow = (from, to) => `${percent(from, 0)} → ${percent(to, 0)}`;
const signed = (value) => el("span", { class: value > 0.005 ? "up" : value < -0.005 ? "down" : "" }, points(value));

/** Rows of one family: the family itself, then its modes. */
function modeRows(change) {
  const own = [signed(change.after - change.before), signed(change.within), signed(change.shift)];
  const family = cells("td", [change.family, "", arrow(change.before, change.after), ...own]);
  const rows = change.modes.map((mode) => {
    const share = arrow(mode.share_before, mode.share_after);
    const accuracy = arrow(mode.accuracy_before, mode.accuracy_after);
    return cells("td", [mode.mode || "other", share, accuracy, "", signed(mode.within), signed(mode.shift)]);
  });
  return [el("tr", { class: "family" }, family), ...rows.map((row) => el("tr", { class: "mode" }, row))];
}

function modes(run, root) {
  const tables = el("div", { class: "tables" });
  root.append(tables);
  for (const benchmark of unique(run.modes.map((change) => change.benchmark))) {
    const own = run.modes.filter((change) => change.benchmark === benchmark);
    const head = ["family, mode", "share", "accuracy", "gain", "within modes", "by shift"];
    const title = el("h3", {}, `${benchmark}: modes, ${own[0].from} → ${own[0].to}`);
    tables.append(el("div", {}, title, ruled(head, own.flatMap(modeRows))));
  }
  const explained =
    "Gains in percentage points of the family's accuracy. Within modes: Σ change of accuracy × mean share; by shift: " +
    "Σ change of share × mean accuracy; the two add up to the gain. A mode unused on one side counts as shift.";
  const none = "No modes of responding were recorded for two stages.";
  root.append(el("p", { class: "caption" }, run.modes.length ? explained : none));
  families(run, root);
}

/** Accuracy of each family after each stage, ± 1.96 standard errors. */
function families(run, root) {
  const tables = el("div", { class: "tables" });
  root.append(tables);
  for (const benchmark of unique(run.evaluation.map((row) => row.benchmark))) {
    const own = run.evaluation.filter((row) => row.benchmark === benchmark && row.by_family);
    const stages = unique(own.map((row) => row.stage));
    const last = stages.map((stage) => own.findLast((row) => row.stage === stage));
    const names = unique(last.flatMap((row) => Object.keys(row.by_family))).sort();
    if (!names.length) continue;
    const rows = names.map((name) =>
      el("tr", {}, cells("td", [name, ...last.map((row) => withError(row.by_family[name]))])),
    );
    const title = el("h3", {}, `${benchmark}: accuracy by family, % ± 95 %`);
    tables.append(el("div", {}, title, ruled(["family", ...stages.map(String)], rows)));
  }
}

function funnel(run, root) {
  if (!run.funnel.length) return root.append(el("p", { class: "soft" }, "No curation was recorded."));
  const most = Math.max(...run.funnel.map((row) => row.before ?? 0), 1);
  const rows = run.funnel.map((row) => {
    const bars = el("span", { class: "track" }, el("span", { class: "bar" }));
    bars.firstChild.style.width = `${(100 * (row.after ?? 0)) / most}%`;
    const reasons = Object.entries(row.reasons ?? {})
      .map(([reason, count]) => `${reason} ${typeof count === "number" ? short(count) : count}`)
      .join(", ");
    const cell = cells("td", [
      String(row.name),
      short(row.before),
      short(row.after),
      short(row.before - row.after),
      bars,
      reasons,
    ]);
    cell[5].className = "wrap soft";
    return el("tr", {}, cell);
  });
  const table = ruled(["step", "before", "after", "dropped", "kept", "reasons"], rows);
  for (const cell of table.querySelectorAll("th:nth-child(n + 5)")) cell.className = "left";
  root.append(table);
  return null;
}
