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

/** What a column shows of a run; `keys` are the recipe's that have a column of their own. */
function overviewCells(run, benchmarks, keys, scale, now) {
  const name = el("a", { href: address("run", run.name), class: "name" }, visible(run.name));
  const about = [run.recipe, isNumber(run.seed) ? `seed ${run.seed}` : null].filter(hasText).map(visible).join(", ");
  const reading = run.behind > 0.001 ? ` reading, ${Math.round(100 * run.behind)} % left` : "";
  const pick = el("input", { type: "checkbox", value: run.name, "aria-label": `compare ${run.name}` });
  return [
    pick,
    el("span", {}, name, el("span", { class: "soft about" }, `${about}${reading}`)),
    stateMark(run.state),
    worst(run),
    stageOf(run),
    short(run.step),
    ...keys.map((key) => recipeValue(run.differs?.[key])),
    ...benchmarks.map((name) => withError(run.accuracy[name])),
    spark(run.reward, `reward of ${run.name}`, scale),
    isNumber(run.H_T) ? run.H_T.toFixed(2) : "–",
    isNumber(run.T) ? run.T.toFixed(2) : "–",
    tokenCount(run.tokens),
    ago(now - run.begun),
    ago(now - run.written),
  ];
}

/** A key's value as it is read: lists without their brackets. */
function recipeValue(value) {
  if (value === undefined || value === null) return "–";
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return visible(value.join(", ") || "none");
  return visible(typeof value === "string" ? value : JSON.stringify(value));
}

const DIFFERING = 3; // keys of the recipes that have columns without being asked for
const order = { column: null, down: true, wanted: "", keys: null, open: false }; // kept while the table is drawn anew

const numberOf = (text) => Number.parseFloat(text.replace("−", "-").replace(/[,+ ]/g, ""));

/** Rows in the order of a column: numbers as numbers, what has none at the end. */
function sortedRows(table) {
  const sign = order.down ? -1 : 1;
  const text = (row) => row.cells[order.column]?.innerText.trim() ?? "";
  const rows = [...table.tBodies[0].rows].map((row) => [row, text(row), numberOf(text(row))]);
  const both = (a, b) => (Number.isNaN(a[2]) ? 1 : 0) - (Number.isNaN(b[2]) ? 1 : 0);
  rows.sort((a, b) => {
    if (!Number.isNaN(a[2]) && !Number.isNaN(b[2])) return sign * (a[2] - b[2]);
    return both(a, b) || sign * a[1].localeCompare(b[1]);
  });
  return rows.map(([row]) => row);
}

/** Column heads become buttons. */
function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const name = head.textContent;
    if (!name || name === "reward" || name === "begun" || name === "written") return;
    const button = el("button", { type: "button", class: "plain sort" }, name);
    button.addEventListener("click", () => {
      Object.assign(order, { column, down: order.column === column ? !order.down : true });
      for (const one of table.querySelectorAll("th")) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      arranged(table, []);
    });
    if (order.column === column) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    head.replaceChildren(button);
  });
}

/** Only runs whose row holds all the words that are asked for. */
function sift(table) {
  const words = order.wanted.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of table.tBodies[0].rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
}

function searchOf(table) {
  const input = el("input", { type: "search", value: order.wanted, placeholder: "words of a run's row", "aria-label": "search runs" });
  input.addEventListener("input", () => {
    order.wanted = input.value;
    sift(table);
  });
  return el("label", { class: "field" }, "search ", input);
}

/** The whole table; rows that are there already are only given what is new, at the place where they are. */
function overview(found, root, chosen) {
  if (!found.runs.length) {
    root.replaceChildren(
      el("h1", {}, "No run yet"),
      el("p", { class: "soft" }, "There is no run in ", el("code", {}, visible(found.folder)), ". This page looks again every second."),
      el("pre", {}, "acereason run demo --out " + visible(found.folder) + "/demo"),
    );
    return;
  }
  const benchmarks = unique(found.runs.flatMap((run) => Object.keys(run.accuracy))).sort().reverse().slice(0, 6);
  const known = list(found.differing),
    keys = known.filter((key) => order.keys?.has(key) ?? known.length <= DIFFERING);
  const names = ["", "run", "state", "health", "stage", "step", ...keys.map(visible), ...benchmarks.map((name) => `${visible(name)} / %`)];
  const head = [...names, "reward", "H_T / nats", "T", "tokens", "begun", "written"];
  const rewards = found.runs.flatMap((run) => list(run.reward)).filter(isNumber);
  const scale = [Math.min(0, ...rewards), Math.max(...rewards)];
  const rows = new Map(found.runs.map((run) => [run.name, overviewCells(run, benchmarks, keys, scale, found.now)]));
  const shape = JSON.stringify([head, known, found.runs.length > 1]);
  if (root.dataset.shape !== shape) laidOut(found, root, chosen, head, known, shape);
  const table = root.querySelector("table.ruled");
  filled(table, rows);
  if (!table.matches(":hover, :focus-within")) arranged(table, [...rows.keys()]);
  sift(table);
}

/** Everything around the rows. */
function laidOut(found, root, chosen, head, known, shape) {
  const scroller = ruled(head, []),
    table = scroller.querySelector("table"),
    go = el("a", { class: "button", "aria-disabled": "true" });
  scroller.classList.add("overview", "picked");
  if (found.runs.length > 1) scroller.append(takingTable(table));
  sortable(table);
  table.addEventListener("change", ({ target }) => {
    if (target.checked) chosen.add(target.value);
    else chosen.delete(target.value);
    chosenSaid(go, chosen);
  });
  chosenSaid(go, chosen);
  const scale = "Reward curves have one scale, 0 to the largest of all.";
  root.replaceChildren(
    el("h1", {}, "Runs"),
    el("p", { class: "soft" }, visible(found.folder)),
    found.runs.length > 1 ? el("div", { class: "tools" }, searchOf(table), columnsOf(known)) : "",
    scroller,
    el("p", {}, go),
    el(
      "p",
      { class: "caption" },
      "Accuracy is the last evaluation of each benchmark, ± 1.96 standard errors; reward, H_T and T are those of reinforcement " +
        `learning; tokens were learned from in fine-tuning or sampled. Begun and written: so long ago. ${scale}`,
    ),
  );
  root.dataset.shape = shape;
}

function chosenSaid(go, chosen) {
  const names = [...chosen];
  if (names.length > 1) go.setAttribute("href", compareAddress(names));
  else go.removeAttribute("href");
  go.setAttribute("aria-disabled", String(names.length < 2));
  go.textContent = names.length < 2 ? "mark runs to compare them" : `compare ${names.length} runs`;
}

/** Which of the recipes' differing keys have a column. */
function columnsOf(known) {
  if (!known.length) return "";
  const box = (key) => {
    const input = el("input", { type: "checkbox", value: key, ...((order.keys?.has(key) ?? known.length <= DIFFERING) ? { checked: "" } : {}) });
    input.addEventListener("change", () => {
      order.keys ??= new Set(known.length <= DIFFERING ? known : []);
      if (input.checked) order.keys.add(key);
      else order.keys.delete(key);
      look();
    });
    return el("label", {}, input, " ", el("code", {}, visible(key)));
  };
  const many = `${known.length} key${known.length > 1 ? "s" : ""} of the recipes differ`;
  const details = el("details", { class: "columns", ...(order.open ? { open: "" } : {}) }, el("summary", {}, many), el("div", {}, known.map(box)));
  details.addEventListener("toggle", () => (order.open = details.open));
  return details;
}

/** New values into the rows that are there, so that nothing moves and nothing that is held is taken away. */
function filled(table, rows) {
  const body = table.tBodies[0],
    there = new Map([...body.rows].map((row) => [row.dataset.run, row]));
  for (const [name, row] of there) if (!rows.has(name)) row.remove();
  for (const [name, cell] of rows) {
    const row = there.get(name);
    if (!row) {
      const made = el("tr", { "data-run": name }, cells("td", cell));
      made.cells[0].firstChild.checked = overviewView.chosen.has(name);
      body.append(made);
      continue;
    }
    cell.slice(1).forEach((value, at) => {
      const place = row.cells[at + 1],
        fresh = el("td", {}, value);
      if (place.innerHTML !== fresh.innerHTML && !place.contains(document.activeElement)) place.replaceChildren(...fresh.childNodes);
    });
  }
}

/** Rows in the order that was asked for, or the one written last first; moved only where they have to. */
function arranged(table, names) {
  const body = table.tBodies[0],
    by = new Map([...body.rows].map((row) => [row.dataset.run, row])),
    wanted = order.column === null ? names.map((name) => by.get(name)) : sortedRows(table);
  wanted.forEach((row, at) => body.rows[at] !== row && body.insertBefore(row, body.rows[at] ?? null));
}

const overviewView = {
  chosen: new Set(),
  async refresh(root) {
    const found = await source.overview();
    for (const name of this.chosen) if (!found.runs.some((run) => run.name === name)) this.chosen.delete(name);
    overview(found, root, this.chosen);
  },
};
