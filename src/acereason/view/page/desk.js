// The reward-hacking desk: right answers that one should read before believing the reward, the reward beside
// held-out accuracy, and a selection judged again. The rules are health/suspicion.py.
"use strict";

const REASONS = {
  cut: "cut at the budget",
  short: "very short",
  copied: "copied",
  spike: "one answer for many",
  new_way: "new way of answering",
};
const AT_ONCE = 64; // responses judged again with one press
const keyOf = (row) => JSON.stringify([row.file, row.problem ?? row.problem_id, row.sample]);

/** Accuracy on held-out questions after each stage, at the drawn step that is nearest. */
function evaluatedAt(run, x) {
  return unique(run.evaluation.map((row) => row.benchmark)).map((benchmark, place) => {
    const at = x.map(() => null);
    for (const row of run.evaluation) {
      if (row.benchmark !== benchmark || !isNumber(row.step) || row.step < x[0] - 1) continue;
      const near = x.reduce((best, step, index) => (Math.abs(step - row.step) < Math.abs(x[best] - row.step) ? index : best), 0);
      at[near] = row;
    }
    const values = at.map((row) => row?.accuracy ?? null);
    return { name: `evaluated: ${benchmark}`, values, colour: ["purple", "green", "yellow"][place % 3], width: 0, points: true, errors: interval(at) };
  });
}

/** What is trained on and what is not, on one axis: hacking raises one of them. */
function rewardBeside(run, root) {
  const x = list(run.rl.step),
    reach = x.length >= 40 ? Math.max(2, Math.round(x.length / 50)) : 0;
  const reward = reach ? smooth(x, list(run.rl.reward), run.stages, reach) : run.rl.reward;
  chart(root, {
    id: "desk-reward",
    title: "Training reward and held-out accuracy",
    note: "held-out questions are never trained on; 95 % intervals",
    yLabel: "share correct",
    share: true,
    height: 220,
    x,
    stages: run.stages,
    series: [
      { name: reach ? `training reward, mean of ${2 * reach + 1}` : "training reward", values: reward, colour: "blue", width: 2 },
      ...heldOut(run, x),
      ...evaluatedAt(run, x),
    ],
  });
}

function verdictCell(verdict) {
  if (!verdict) return el("span", { class: "soft" }, "–");
  if (!verdict.outcome) return el("span", { class: "soft" }, "judging …");
  const same = verdict.outcome === "correct" ? "as before" : verdict.outcome === "unjudged" ? "" : "differs";
  return el("span", { title: visible(verdict.detail ?? "") }, el("span", { class: `outcome ${knownOutcome(verdict.outcome)}` }, outcomeName(verdict.outcome)), " ", same ? el("b", { class: same === "differs" ? "down" : "soft" }, same) : visible(verdict.detail ?? ""));
}

function queueRow(row, view, run, judged) {
  const key = keyOf(row),
    link = address("run", run, "group", row.file, row.problem_id, row.sample);
  const pick = el("input", { type: "checkbox", "aria-label": `select ${visible(row.problem_id)} of step ${row.step}` });
  pick.checked = view.chosen.has(key);
  pick.addEventListener("change", () => (view.chosen[pick.checked ? "add" : "delete"](key), view.count()));
  const why = row.reasons.map(({ rule, sentence }) => el("span", { class: "reason", "data-rule": rule }, el("b", {}, REASONS[rule] ?? visible(rule)), " ", visible(sentence)));
  return el(
    "tr",
    { "data-key": key },
    judged ? el("td", {}, pick) : null,
    cells("td", [
      el("a", { href: link }, `${short(row.step)}`, el("span", { class: "soft" }, ` ${visible(row.stage)}`)),
      el("span", {}, el("code", {}, visible(row.problem_id)), row.alike > 1 ? el("span", { class: "soft" }, ` ${row.alike} alike`) : ""),
      el("code", { class: "said" }, visible(row.answer ?? "")),
    ]),
    judged ? el("td", { class: "again" }, verdictCell(view.verdicts.get(key))) : null,
    el("td", { class: "why" }, why),
  );
}

const byRule = (queue, rule) => (rule ? queue.filter((row) => row.reasons.some((reason) => reason.rule === rule)) : queue);

/** The tools above the queue: which reason, all or none, and judging again. */
function deskTools(found, rows, view, route) {
  const choice = field("rule", "reason", Object.entries(found.counts).map(([rule, n]) => [rule, `${REASONS[rule] ?? rule} (${n})`]), route.query);
  choice.addEventListener("change", (event) => location.replace(withQuery({ ...route.query, rule: event.target.value })));
  if (!found.judge) return el("p", { class: "tools" }, choice, el("span", { class: "soft" }, "Judging again is for the machine's own user: open the page on 127.0.0.1."));
  const all = el("button", { type: "button" }, "select all"),
    none = el("button", { type: "button" }, "none"),
    judge = el("button", { type: "button", class: "judge" }, "judge again");
  const status = el("span", { class: "soft", role: "status" });
  const set = (chosen) => {
    view.chosen = new Set(chosen);
    for (const row of view.root.querySelectorAll("tr[data-key]")) row.querySelector("input").checked = view.chosen.has(row.dataset.key);
    view.count();
  };
  all.addEventListener("click", () => set(rows.slice(0, AT_ONCE).map(keyOf)));
  none.addEventListener("click", () => set([]));
  judge.addEventListener("click", () => view.judge(route.run, found.queue));
  view.count = () => {
    const n = view.chosen.size;
    judge.textContent = `judge again (${n})`;
    judge.disabled = n === 0 || n > AT_ONCE || view.busy;
    status.textContent = n > AT_ONCE ? `at most ${AT_ONCE} at once` : view.said;
  };
  view.count();
  return el("p", { class: "tools" }, choice, all, none, judge, status);
}

const shareRow = (share) =>
  el("tr", {}, cells("td", [visible(share.stage), visible(share.family || "all"), el("code", { class: "said" }, visible(share.what || "none")), percent(share.before), percent(share.now), short(share.n), share.told ? el("b", { class: "down" }, "▲ suspicious") : ""]));

function sharesOf(title, caption, what, shares, root) {
  if (!shares.length) return;
  const table = ruled(["stage", "family", what, "before", "now", "of these", ""], shares.map(shareRow));
  table.classList.add("shares");
  root.append(el("h2", {}, title), el("p", { class: "caption" }, caption), table);
}

function deskPage(found, run, route, view, root) {
  const rows = byRule(found.queue, route.query.rule);
  const looked = `${short(found.right)} right answers of ${short(found.looked)} responses looked at, in ${short(found.steps)} steps: the newest and each stage's first; ${short(found.total)} are kept.`;
  const large = found.too_large ? ` Too large to be looked at: ${short(found.too_large)} ${found.too_large === 1 ? "file" : "files"} of responses.` : "";
  const reading = found.part < 1 || found.indexed < 1 ? ` Reading: ${Math.round(100 * Math.min(found.part, found.indexed))} % so far.` : "";
  root.append(
    el("h1", {}, "Rewarded, but suspicious"),
    el("p", { class: "soft", role: "status" }, `${short(found.suspicious)} to read. ${looked}${large}${reading}`),
  );
  const stacks = el("div", { class: "wide" });
  root.append(stacks);
  if (run.rl.step?.length) rewardBeside(run, stacks);
  root.append(el("h2", {}, "To be read"));
  if (!found.queue.length) root.append(el("p", { class: "soft" }, reading ? "Nothing yet." : !found.total ? "No responses were kept (keep.responses), or none yet." : "Nothing is suspicious among these: no right answer was cut, very short, copied, the same for many problems, or of a way that is new."));
  else {
    const head = ["step", "problem", "answer", ...(found.judge ? ["judged again"] : []), "why"];
    const table = ruled(found.judge ? ["", ...head] : head, rows.map((row) => queueRow(row, view, route.run, found.judge)));
    table.classList.add("queue", ...(found.judge ? ["picked"] : []));
    root.append(deskTools(found, rows, view, route), table);
    if (found.suspicious > found.queue.length) root.append(el("p", { class: "caption" }, `The first ${found.queue.length} of ${short(found.suspicious)}.`));
    root.append(el("p", { class: "caption" }, "A reason to read, not a verdict. Equal answers of a group are one row. Thresholds are the recipe's [health]: short, copied, spike, new_way."));
  }
  sharesOf("Final answers", "The share of each stage's last problems that one final answer is right for; before: among their reference answers or, without these, when the stage began.", "answer", found.answers, root);
  sharesOf("Ways of answering", "Among right answers, when the stage began and in its last steps.", "way", found.ways, root);
}

const deskView = {
  chosen: new Set(),
  verdicts: new Map(),
  said: "",
  busy: false,
  count: () => null,
  async refresh(root, route) {
    const [answer, found] = [await source.run(route.run, this.fresh?.run.version), await source.desk(route.run)];
    if (current.route !== route) return;
    const run = answer.same ? this.fresh.run : answer;
    if (this.of !== route.run) Object.assign(this, { of: route.run, chosen: new Set(), verdicts: new Map(), said: "" });
    this.fresh = { run };
    const told = JSON.stringify([found, run.version, route.query]);
    const whole = found.part >= 1 && found.indexed >= 1 && !(run.behind > 0.001);
    if (told !== this.told && !(root.firstChild && whole && this.whole && this.key === JSON.stringify(route.query) && heldStill(root, ".queue"))) {
      Object.assign(this, { told, whole, root, key: JSON.stringify(route.query) });
      Object.assign(lastList, { run: route.run, rows: found.queue, view: "desk", query: route.search });
      redraw(root, () => deskPage(found, run, route, this, root));
    }
    if (!whole) await this.refresh(root, route);
  },
  /** Judge what is chosen, and ask on until every verdict is there, or another run is looked at. */
  async judge(run, queue) {
    const asked = queue.filter((row) => this.chosen.has(keyOf(row))).map((row) => ({ file: row.file, problem: row.problem_id, sample: row.sample }));
    Object.assign(this, { busy: true, said: "judging …" });
    const mine = this.verdicts, // another map as soon as another run is looked at
      outcome = (row) => mine.get(keyOf(row))?.outcome;
    let left = asked;
    this.show(left.map((row) => ({ ...row, outcome: null })));
    try {
      while (left.length) {
        const answer = await source.judge(run, left);
        if (this.verdicts !== mine) return;
        this.show(answer.verdicts);
        left = left.filter((row) => !outcome(row));
        if (left.length) this.said = `judging: ${asked.length - left.length} of ${asked.length}`;
        this.count();
      }
      const right = asked.filter((row) => outcome(row) === "correct").length;
      this.said = `${asked.length} judged again: ${right} right as before, ${asked.length - right} not`;
    } catch (error) {
      if (this.verdicts !== mine) return;
      this.said = `not judged: ${error.message}`;
      for (const row of left) mine.delete(keyOf(row));
      this.show([]);
    } finally {
      this.busy = false;
      this.count();
    }
  },
  show(verdicts) {
    for (const one of verdicts) this.verdicts.set(keyOf(one), one);
    for (const row of this.root.querySelectorAll("tr[data-key]"))
      row.querySelector(".again")?.replaceChildren(verdictCell(this.verdicts.get(row.dataset.key)));
    this.count();
  },
};
