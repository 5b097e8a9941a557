// The list of responses with its filters. The filters stand in the address, so a list can be linked to.
"use strict";

const PAGE = 50;

function option(value, name, chosen) {
  return el("option", value === chosen ? { value, selected: "" } : { value }, name);
}

function field(name, label, values, query) {
  const select = el("select", { name });
  const chosen = query[name] ?? "";
  select.append(option("", "any", chosen), ...values.map(([value, text]) => option(value, text, chosen)));
  if (chosen && !values.some(([value]) => value === chosen)) select.append(option(chosen, visible(chosen), chosen));
  return el("label", { class: "field" }, `${label} `, select);
}

function filters(found, query, changed) {
  const same = (values) => values.map((value) => [String(value), outcomeName(value)]);
  const steps = query.stage ? list(found.stages[query.stage]) : unique(Object.values(found.stages).flat());
  const text = el("input", { type: "search", name: "text", value: query.text ?? "", placeholder: "exact text", size: "18" });
  const form = el(
    "form",
    { class: "filters", role: "search" },
    el("h1", { class: "unseen" }, "Responses"),
    field("stage", "stage", same(Object.keys(found.stages)), query),
    field("step", "step", same(steps.toSorted((a, b) => b - a)), query),
    field("outcome", "outcome", same(found.outcomes), query),
    field("truncated", "cut", [["yes", "at the budget"], ["no", "not cut"]], query),
    field("family", "family", same(found.families), query),
    el("label", { class: "field" }, "holds ", text),
  );
  const read = () => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  let timer = 0;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => event.target !== text && changed(read()));
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => changed(read()), 200);
  });
  return form;
}

function listed(row, run) {
  const cell = cells("td", [
    el("a", { href: address("run", run, "group", row.file, row.problem_id, row.sample) }, `${short(row.step)}`),
    visible(row.stage),
    el("span", { class: `outcome ${knownOutcome(row.outcome)}` }, outcomeName(row.outcome)),
    row.finish === "length" ? `${short(row.tokens)} cut` : short(row.tokens),
    visible([row.family, row.level].filter(hasText).join(" ")),
    el("code", {}, visible(row.problem_id)),
    `#${visible(row.sample ?? "?")}`,
    el("code", { class: "said" }, visible(row.said ?? "")),
  ]);
  const tr = el("tr", {}, cell);
  tr.addEventListener("click", (event) => {
    if (!event.target.closest("a")) location.hash = cell[0].firstChild.getAttribute("href");
  });
  return tr;
}

function counted(found) {
  const least = found.searched < 1 ? "at least " : "";
  const parts = [`${least}${short(found.matching)} of ${short(found.total)} responses match`];
  if (found.searched < 1) parts.push(`${Math.round(100 * found.searched)} % searched`);
  if (found.indexed < 1) parts.push(`${Math.round(100 * found.indexed)} % indexed`);
  if (found.broken) parts.push(`${short(found.broken)} unreadable lines left out`);
  if (found.of) parts.push(`this file holds a few groups of each stage; the run has ${short(found.of)} there, and acereason view shows all`);
  return parts.join(" · ");
}

/** Earlier and later pages of the list. */
function pager(found, query, start) {
  const to = (at, name) => el("a", { href: withQuery({ ...query, start: at || null }) }, name);
  return el(
    "p",
    { class: "steps" },
    start > 0 ? to(Math.max(0, start - PAGE), "← newer") : null,
    found.matching ? `${short(start + 1)} to ${short(start + found.rows.length)}` : null,
    found.more ? to(start + PAGE, "older →") : null,
  );
}

/** Whether the pointer or the focus is on the rows, or some of their text is marked. */
function heldStill(root, which = ".listing") {
  const rows = root.querySelector(which);
  return Boolean(rows) && (rows.matches(":hover, :focus-within") || marked(rows));
}

const listView = {
  async refresh(root, route) {
    const { query } = route,
      start = Number(query.start) || 0;
    const key = JSON.stringify([route.run, query]);
    if (this.key === key && root.firstChild && this.complete && !source.live) return null;
    if (this.key === key && root.querySelector(".filters :focus") && this.complete) return null; // someone is typing
    const asked = performance.now();
    const found = await source.responses(route.run, { ...query, limit: PAGE });
    if (current.route !== route) return null;
    this.complete = found.searched >= 1 && found.indexed >= 1;
    const told = JSON.stringify(found);
    if (this.key === key && told === this.told && root.firstChild && this.complete) return null;
    if (this.key === key && root.firstChild && this.complete && !this.asked && heldStill(root)) return this.offer(root);
    this.asked = false;
    Object.assign(lastList, { run: route.run, rows: found.rows, view: "responses", query: route.search });
    this.draw(root, route, found, start);
    Object.assign(this, { key, told });
    if (!this.complete) return this.refresh(root, route); // asked again, the server goes on where it stopped
    root.dataset.milliseconds = String(Math.round(performance.now() - asked));
    return null;
  },
  /** New responses wait while the pointer is on a row, or the keyboard: no row moves away under it. */
  offer(root) {
    if (root.querySelector(".fresh")) return null;
    const button = el("button", { type: "button", class: "fresh" }, "there are new responses: show them");
    button.addEventListener("click", () => {
      this.asked = true;
      look();
    });
    root.querySelector("[role=status]").append(" ", button);
    return null;
  },
  draw(root, route, found, start) {
    const form = filters(found, route.query, (query) => location.replace(withQuery(query)));
    const old = root.querySelector(".filters");
    const head = ["step", "stage", "outcome", "tokens", "family, level", "problem", "sample", "answer"];
    const table = found.rows.length
      ? ruled(head, found.rows.map((row) => listed(row, route.run)))
      : el("p", { class: "soft" }, found.total ? "No response matches." : "No responses were kept (keep.responses), or none yet.");
    if (found.rows.length) table.classList.add("listing");
    const below = [el("p", { class: "soft", role: "status" }, counted(found)), table, pager(found, route.query, start)];
    if (old?.contains(document.activeElement)) {
      for (const child of [...root.children]) if (child !== old) child.remove();
      root.append(...below);
    } else redraw(root, () => root.append(form, ...below));
  },
};
