// The reader: all answers to one prompt, side by side or one at a time across the page; and beside them, if wanted, the answers to
// the same prompt at another step. The address says which: …/group/FILE/PROBLEM/SAMPLE?with=FILE&other=SAMPLE&read=one
"use strict";

const LONG_ANSWER = 800; // tokens from which a group is read one response at a time, unless the address says otherwise
const shortcuts = { on: remembered("shortcuts") !== "off" };
const lastList = { run: null, rows: [], view: "responses", query: "" }; // what one came from
const nowReading = { panes: [], find: null, active: 0 };

/** What the browser keeps for this page from one visit to the next; nothing where it keeps nothing. */
function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // then it holds until the page is left
  }
}

function choice(name, label, options, chosen, change) {
  const select = el("select", { name, "aria-label": label });
  for (const [key, text] of options) select.append(el("option", key === chosen ? { value: key, selected: "" } : { value: key }, text));
  select.addEventListener("change", () => change(select.value));
  return el("label", { class: "field" }, `${label} `, select);
}

function checkbox(name, label, checked, change) {
  const box = el("input", { type: "checkbox", name, ...(checked ? { checked: "" } : {}) });
  box.addEventListener("change", () => change(box.checked));
  return el("label", { class: "field" }, box, ` ${label}`);
}

/** What scrolls can be scrolled by keys. */
function reachable(root) {
  for (const one of root.querySelectorAll("pre, .scroll")) {
    const scrolls = one.scrollHeight > one.clientHeight + 1 || one.scrollWidth > one.clientWidth + 1;
    if (scrolls) one.tabIndex = 0;
    else one.removeAttribute("tabindex");
  }
}

const rightOf = (one) => `${one.responses.filter((row) => row.reward === 1).length} of ${one.responses.length} right`;

/** One group in the reader: links to its responses, and these. `moved` is told when another one is chosen. */
function groupPane(one, run, sample, alone, moved) {
  const rows = one.responses,
    wanted = rows.findIndex((row) => String(row.sample) === String(sample));
  const pane = { one, at: Math.max(0, wanted), chosen: wanted >= 0 };
  const body = el("div", alone ? { class: "alone" } : { class: "strip", tabindex: "0", role: "group", "aria-label": `responses, step ${one.step}` });
  const picks = el("nav", { class: "picks", "aria-label": `responses of step ${one.step}` });
  const name = el("h2", {}, `${visible(one.stage)}, step ${short(one.step)} `, el("span", { class: "soft" }, rightOf(one)));
  pane.element = el("section", { class: "pane", "aria-label": `${visible(one.stage)}, step ${one.step}` }, name, picks, body);
  pane.fill = () => {
    const shown = alone ? rows.slice(pane.at, pane.at + 1) : rows;
    body.replaceChildren(...shown.map((row) => response(row, one, run, (pane.chosen || alone) && row === rows[pane.at])));
    if (alone) body.firstElementChild?.loadWhole?.();
    pick();
  };
  const pick = () => {
    for (const [at, link] of [...picks.children].entries()) {
      if (at === pane.at && (alone || pane.chosen)) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  pane.choose = (at) => {
    if (at < 0 || at >= rows.length) return false;
    [pane.at, pane.chosen] = [at, true];
    if (alone) pane.fill();
    else for (const [place, article] of [...body.children].entries()) article.classList.toggle("chosen", place === at);
    pick();
    moved(pane);
    const article = alone ? body.firstElementChild : body.children[at];
    article.focus({ preventScroll: true });
    article.scrollIntoView({ block: alone || article.getBoundingClientRect().top < 0 ? "start" : "nearest", inline: "center" });
    return true;
  };
  for (const [at, row] of rows.entries()) {
    const link = el("a", { href: address("run", run, "group", one.file, one.problem_id, row.sample), class: `pick ${knownOutcome(row.outcome)}`, title: outcomeName(row.outcome) }, `#${visible(row.sample ?? "?")}`);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      pane.choose(at);
    });
    picks.append(link);
  }
  pane.fill();
  return pane;
}

/** Links to the list, and to the matches before and after this one. */
function steps(run, [file, problem, sample]) {
  const at = lastList.rows.findIndex(
    (row) => row.file === file && row.problem_id === problem && String(row.sample) === sample,
  );
  const to = (row, name, key) =>
    row
      ? el("a", { href: address("run", run, "group", row.file, row.problem_id, row.sample), "data-key": key, "aria-keyshortcuts": key }, name)
      : null;
  const known = lastList.run === run && at >= 0;
  const [view, query] = lastList.run === run ? [lastList.view, lastList.query] : ["responses", ""];
  const back = el("a", { href: `${address("run", run, view)}${query}` }, view === "desk" ? "suspicious answers" : "all responses");
  back.addEventListener("click", () => (returning = true));
  return el(
    "p",
    { class: "steps" },
    back,
    known ? to(lastList.rows[at - 1], "← previous match", "k") : null,
    known ? to(lastList.rows[at + 1], "next match →", "j") : null,
  );
}

/** The problem: its question, reference and tests. */
function problemOf(one) {
  const about = [one.family, hasText(one.level) ? `level ${one.level}` : null];
  return [
    el("h1", { class: "first" }, el("code", {}, visible(one.problem_id))),
    el("p", { class: "soft" }, about.filter(hasText).map(visible).join(" · ")),
    el("pre", { class: "question" }, hasText(one.question) ? prose(one.question) : "The question is not among the run's data."),
    hasText(one.reference) ? el("p", {}, "Reference: ", el("code", {}, visible(one.reference))) : "",
    one.tests?.length ? tests(one) : "",
  ];
}

function keysHelp() {
  const rows = [
    ["j k", "next, previous match of the list one came from; else next, previous response"],
    ["→ ←", "next, previous response of the group"],
    ["/", "find in the text; Enter and n: next place, Shift+Enter and N: previous"],
  ];
  return el(
    "details",
    { class: "keys" },
    el("summary", {}, "keys"),
    el("dl", {}, rows.flatMap(([keys, what]) => [el("dt", {}, keys.split(" ").map((key) => [el("kbd", {}, key), " "]).flat()), el("dd", {}, what)])),
    checkbox("shortcuts", "these keys are on", shortcuts.on, (on) => {
      shortcuts.on = on;
      remember("shortcuts", on ? "on" : "off");
    }),
  );
}

/** The address of what is read now, without a step in the browser's history: going back leads to where one came from. */
function readAt(run, panes, query) {
  const [first, second] = panes,
    sample = first.chosen ? first.one.responses[first.at]?.sample : undefined;
  const path = address(...["run", run, "group", first.one.file, first.one.problem_id, ...(sample === undefined ? [] : [sample])]);
  const parts = Object.entries({ ...query, other: second?.chosen ? second.one.responses[second.at]?.sample : null }).filter(([, value]) => hasText(value));
  history.replaceState(history.state, "", `${path}${parts.length ? `?${new URLSearchParams(parts)}` : ""}`);
  current = { ...current, route: routeOf(location.hash), hash: location.hash };
}

const longest = (one) => Math.max(0, ...one.responses.map((row) => row.tokens ?? 0));

function drawReader(place, run, route, one, two) {
  const root = el("div"),
    { query } = route,
    alone = query.read ? query.read === "one" : longest(one) >= LONG_ANSWER;
  const again = () => {
    for (const pane of panes) pane.fill();
    root.querySelector(".question").replaceChildren(...(hasText(one.question) ? prose(one.question) : ["The question is not among the run's data."]));
    refresh();
  };
  const refresh = () => {
    reachable(root);
    find.again();
  };
  const moved = () => {
    readAt(run, panes, current.route.query);
    root.querySelector(".steps").replaceWith(steps(run, current.route.rest));
    refresh();
  };
  const change = (more) => location.replace(withQuery({ ...current.route.query, ...more }));
  const others = list(one.others).map((other) => [other.file, `${visible(other.stage)}, step ${short(other.step)}: ${short(other.right)} of ${short(other.of)} right`]);
  const panes = [groupPane(one, run, route.rest[2], alone, moved)];
  if (two) panes.push(groupPane(two, run, query.other, alone, moved));
  const find = finder(root);
  const traced = [one, two].some((group) => group?.responses.some((row) => row.trace));
  root.append(
    steps(run, route.rest),
    ...problemOf(one),
    el(
      "div",
      { class: "tools", role: "group", "aria-label": "how it is read" },
      find.element,
      others.length ? choice("with", "beside it", [["", "nothing"], ...others], query.with ?? "", (file) => change({ with: file, other: null })) : "",
      checkbox("alone", "one at a time, wide", alone, (one) => change({ read: one ? "one" : "all" })),
      checkbox("thinking", "reasoning open", reading.thinking, (open) => {
        reading.thinking = open;
        for (const fold of root.querySelectorAll(".thinking")) open ? fold.unfold() : (fold.open = false);
      }),
      checkbox("raw", "raw text", reading.raw, (raw) => {
        reading.raw = raw;
        again();
      }),
      traced ? colourChoice(again) : "",
      keysHelp(),
    ),
    el("div", { class: `reader ${alone ? "one" : "all"} ${two ? "pair" : ""}` }, panes.map((pane) => pane.element)),
  );
  if (query.with && !two) root.querySelector(".reader").before(el("p", { class: "soft" }, "That step holds no answers to this prompt."));
  place.append(root);
  root.addEventListener("changed", refresh);
  root.addEventListener("drawn", () => (reachable(root), find.look()));
  root.addEventListener("toggle", () => reachable(root), true);
  refresh();
  const chosen = root.querySelectorAll(".strip > .chosen");
  for (const article of chosen) article.parentElement.scrollLeft = article.offsetLeft - article.parentElement.offsetLeft - 24;
  Object.assign(nowReading, { panes, find, active: 0 });
}

/** The pane in which a key was pressed, else the one that was used last. */
function paneOf(target) {
  const at = nowReading.panes.findIndex((pane) => pane.element.contains(target));
  if (at >= 0) nowReading.active = at;
  return nowReading.panes[nowReading.active] ?? nowReading.panes[0];
}

function readerKey(event) {
  const { target, key } = event,
    pane = paneOf(target),
    by = key === "j" || key === "ArrowRight" ? 1 : -1;
  if (key === "ArrowLeft" || key === "ArrowRight") return !target.closest?.(".scroll") && pane.choose(pane.at + by);
  if (key === "j" || key === "k") {
    const match = document.querySelector(`.steps [data-key="${key}"]`);
    if (!match) return pane.choose(pane.at + by);
    location.replace(match.href);
    return true;
  }
  if (key === "/") nowReading.find.input.focus();
  else if (key === "n" || key === "N") nowReading.find.go(key === "n" ? 1 : -1);
  else return false;
  return true;
}

addEventListener("keydown", (event) => {
  const busy = event.target.closest?.("input:not([type=checkbox]), select, textarea") || event.ctrlKey || event.metaKey || event.altKey;
  if (busy || !shortcuts.on || current.view !== groupView || !nowReading.panes.length) return;
  if (readerKey(event)) event.preventDefault();
});

const groupView = {
  once: true,
  async refresh(root, route) {
    const [file, problem] = route.rest,
      beside = route.query.with;
    const [one, two] = await Promise.all([
      source.group(route.run, file, problem),
      beside && beside !== file ? source.group(route.run, beside, problem).catch(() => null) : null,
    ]);
    if (current.route !== route) return;
    const held = root.contains(document.activeElement) ? document.activeElement.name : "";
    root.style.minHeight = `${root.offsetHeight}px`;
    root.replaceChildren();
    drawReader(root, route.run, route, one, two);
    root.style.minHeight = "";
    if (held) root.querySelector(`[name="${held}"]`)?.focus({ preventScroll: true });
  },
};
