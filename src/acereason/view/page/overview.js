// The overview: a row per run, the one written last first.
"use strict";

const STATES = {
  running: "a process holds the folder and writes",
  finished: "the final summary is there",
  stalled: "a process holds the folder but has written nothing for much longer than a step takes",
  torn: "killed while it wrote a line; go on with --resume",
  stopped: "no process holds the folder and it is not finished; go on with --resume",
};

function ago(seconds) {
  if (!isNumber(seconds)) return "–";
  const size = Math.max(0, seconds);
  if (size < 90) return `${Math.round(size)} s`;
  if (size < 5400) return `${Math.round(size / 60)} min`;
  if (size < 172800) return `${Math.round(size / 3600)} h`;
  return `${Math.round(size / 86400)} days`;
}

function tokenCount(count) {
  if (!isNumber(count) || !count) return "–";
  for (const [size, name] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ])
    if (count >= size) return `${Number((count / size).toPrecision(3))} ${name}`;
  return String(count);
}

const stateMark = (state) => el("span", { class: `state ${state}`, title: STATES[state] }, state);

function stageOf(run) {
  const at = run.stages.indexOf(run.stage);
  if (!run.stage) return "–";
  return el(
    "span",
    {},
    visible(run.stage),
    at >= 0 && run.stages.length > 1 ? el("span", { class: "soft" }, ` ${at + 1} of ${run.stages.length}`) : null,
  );
}

function overviewRow(run, benchmarks, now) {
  const name = el("a", { href: address("run", run.name), class: "name" }, visible(run.name));
  const about = [run.recipe, isNumber(run.seed) ? `seed ${run.seed}` : null].filter(hasText).map(visible).join(", ");
  const reading = run.behind > 0.001 ? ` reading, ${Math.round(100 * run.behind)} % left` : "";
  const cell = cells("td", [
    el("span", {}, name, el("span", { class: "soft about" }, `${about}${reading}`)),
    stateMark(run.state),
    worst(run),
    stageOf(run),
    short(run.step),
    ...benchmarks.map((name) => withError(run.accuracy[name])),
    spark(run.reward, `reward of ${run.name}`),
    isNumber(run.H_T) ? run.H_T.toFixed(2) : "–",
    isNumber(run.T) ? run.T.toFixed(2) : "–",
    tokenCount(run.tokens),
    ago(now - run.begun),
    ago(now - run.written),
  ]);
  const row = el("tr", {}, cell);
  const pick = el("input", { type: "checkbox", value: run.name, "aria-label": `compare ${run.name}` });
  row.prepend(el("td", {}, pick));
  return row;
}

const order = { column: null, down: true, wanted: "" }; // kept while the table is drawn anew

const numberOf = (text) => Number.parseFloat(text.replace("−", "-").replace(/[,+ ]/g, ""));

/** Rows in the order of a column: numbers as numbers, what has none at the end. */
function sorted(table) {
  if (order.column === null) return;
  const body = table.querySelector("tbody"),
    sign = order.down ? -1 : 1;
  const text = (row) => row.cells[order.column]?.innerText.trim() ?? "";
  const rows = [...body.rows].map((row) => [row, text(row), numberOf(text(row))]);
  const both = (a, b) => (Number.isNaN(a[2]) ? 1 : 0) - (Number.isNaN(b[2]) ? 1 : 0);
  rows.sort((a, b) => {
    if (!Number.isNaN(a[2]) && !Number.isNaN(b[2])) return sign * (a[2] - b[2]);
    return both(a, b) || sign * a[1].localeCompare(b[1]);
  });
  body.append(...rows.map(([row]) => row));
}

/** Column heads become buttons. */
function sortable(table) {
  [...table.querySelectorAll("th")].forEach((head, column) => {
    const name = head.textContent;
    if (!name || name === "reward" || name === "begun" || name === "written") return;
    const button = el("button", { type: "button", class: "plain sort" }, name);
    button.addEventListener("click", () => {
      Object.assign(order, { column, down: order.column === column ? !order.down : true });
      for (const one of table.querySelectorAll("th")) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      sorted(table);
    });
    if (order.column === column) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    head.replaceChildren(button);
  });
}

/** Only runs whose row holds all the words that are asked for. */
function searchOf(table) {
  const input = el("input", { type: "search", value: order.wanted, placeholder: "words of a run's row", "aria-label": "search runs" });
  const look = () => {
    order.wanted = input.value;
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.querySelectorAll("tbody tr")) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  };
  input.addEventListener("input", look);
  look();
  return el("p", {}, el("label", { class: "field" }, "search ", input));
}

function overview(found, root, chosen) {
  if (!found.runs.length) {
    root.append(
      el("h1", {}, "No run yet"),
      el("p", { class: "soft" }, "There is no run in ", el("code", {}, visible(found.folder)), ". This page looks again every second."),
      el("pre", {}, "acereason run demo --out " + visible(found.folder) + "/demo"),
    );
    return;
  }
  const benchmarks = unique(found.runs.flatMap((run) => Object.keys(run.accuracy))).sort().reverse().slice(0, 6);
  const head = [
    "",
    "run",
    "state",
    "health",
    "stage",
    "step",
    ...benchmarks.map((name) => `${visible(name)} / %`),
    "reward",
    "H_T / nats",
    "T",
    "tokens",
    "begun",
    "written",
  ];
  const table = ruled(head, found.runs.map((run) => overviewRow(run, benchmarks, found.now)));
  table.classList.add("overview");
  sortable(table);
  const go = el("a", { class: "button", "aria-disabled": "true" }, "compare two runs");
  const renewed = () => {
    const boxes = [...table.querySelectorAll("input")];
    for (const box of boxes) box.checked = chosen.has(box.value);
    const two = [...chosen].slice(0, 2);
    if (two.length === 2) go.setAttribute("href", `#/compare?${new URLSearchParams({ first: two[0], second: two[1] })}`);
    else go.removeAttribute("href");
    go.setAttribute("aria-disabled", String(two.length < 2));
    go.textContent = two.length < 2 ? "mark two runs to compare them" : `compare ${two[0]} with ${two[1]}`;
  };
  table.addEventListener("change", ({ target }) => {
    if (target.checked) chosen.add(target.value);
    else chosen.delete(target.value);
    if (chosen.size > 2) chosen.delete([...chosen][0]);
    renewed();
  });
  renewed();
  root.append(
    el("h1", {}, "Runs"),
    el("p", { class: "soft" }, visible(found.folder)),
    found.runs.length > 1 ? searchOf(table) : null,
    table,
    el("p", {}, go),
    el(
      "p",
      { class: "caption" },
      "Accuracy is the last evaluation of each benchmark, ± 1.96 standard errors; reward, H_T and T are those of reinforcement " +
        "learning; tokens were learned from in fine-tuning or sampled. Begun and written: so long ago.",
    ),
  );
}

const overviewView = {
  chosen: new Set(),
  async refresh(root) {
    const found = await source.overview();
    const told = JSON.stringify(found.runs) + Math.floor(found.now / 10);
    if (told === this.told && root.firstChild) return;
    if (root.querySelector("input[type=search]:focus")) return; // someone is typing
    this.told = told;
    redraw(root, () => overview(found, root, this.chosen));
    const table = root.querySelector(".overview");
    if (table) sorted(table);
  },
};
