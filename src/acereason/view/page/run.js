// A run's numbers: what it is, and its sections of tables and curves. A section is drawn again only when what it
// shows has changed, so that nothing moves under the reader's eyes.
"use strict";

// id, title, what draws it, the keys it is drawn from, and whether there is anything to draw
const SECTIONS = [
  ["health", "What is wrong", health, ["health"], (run) => list(run.health).length],
  ["results", "Results", headline, ["results", "summary"], (run) => run.results.length],
  ["table", "Stages", finalTable, ["results", "summary"], (run) => run.results.length],
  ["training", "Reinforcement learning", training, ["rl", "stages", "dev"], (run) => run.rl.step?.length],
  ["sft", "Supervised fine-tuning", sft, ["sft", "evaluation"], (run) => run.sft.step?.length],
  ["calibration", "Temperature calibration", calibration, ["calibration"], (run) => run.calibration.length],
  ["modes", "Modes of responding", modes, ["modes", "evaluation"], (run) => run.modes.length || run.evaluation.some((row) => row.by_family)],
  ["funnel", "Curation funnel", funnel, ["funnel"], (run) => run.funnel.length],
  ["files", "Recipe and manifest", files, ["recipe", "manifest"], (run) => run.recipe || run.manifest],
];

function duration(seconds) {
  if (!isNumber(seconds)) return null;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours
    ? `${hours} h ${minutes} min`
    : minutes
      ? `${minutes} min ${Math.round(seconds % 60)} s`
      : `${Math.round(seconds)} s`;
}

function files(run, root) {
  for (const [name, value] of [
    ["recipe.json", run.recipe],
    ["manifest.json", run.manifest],
  ]) {
    if (value)
      root.append(
        el(
          "details",
          { class: "file" },
          el("summary", {}, name),
          el("pre", {}, visible(JSON.stringify(value, null, 2))),
        ),
      );
  }
}

/** The time that the whole run still takes, and how many stages have nothing yet to go by. */
function leftInAll(now) {
  if (!isNumber(now.run_left)) return null;
  const stages = now.untimed ? `, then ${now.untimed} stage${now.untimed > 1 ? "s" : ""}` : "";
  return `${duration(now.run_left)}${stages}`;
}

/** Where a run stands that is going on: stage, step, time left, and the numbers one looks at first. */
function nowBox(run, state) {
  const now = run.now;
  if (!now || state === "finished") return null;
  const facts = [
    ["stage", isNumber(now.number) ? `${visible(now.stage)}, ${now.number} of ${now.of}` : visible(now.stage)],
    ["step", isNumber(now.steps) ? `${short(now.stage_step)} of ${short(now.steps)}` : short(now.stage_step)],
    ["left in this stage", state === "running" ? duration(now.seconds_left) : null],
    ["left in all, about", state === "running" ? leftInAll(now) : null],
    ["reward", isNumber(now.reward) ? percent(now.reward) : null],
    ["held-out", isNumber(now.held_out) ? percent(now.held_out) : null],
    ["H_T", isNumber(now.H_T) ? `${now.H_T.toFixed(3)}${isNumber(now.H_target) ? ` (target ${short(now.H_target)})` : ""}` : null],
    ["T", isNumber(now.T) ? now.T.toFixed(3) : null],
    ["cut", isNumber(now.truncated) ? percent(now.truncated, 0) : null],
    ["loss", isNumber(now.reward) || !isNumber(now.loss) ? null : now.loss.toFixed(3)],
  ];
  return el(
    "dl",
    { class: "now" },
    facts.filter(([, value]) => hasText(value)).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}

function head(run) {
  const tokens = run.tokens?.rl;
  const state = run.state ?? (run.summary?.gain ? "finished" : null);
  const facts = [
    run.stages.length ? `${run.stages.length} RL stages` : null,
    run.rows?.rl ? `${short(run.rows.rl)} RL steps` : null,
    tokens ? `${tokenCount(tokens)} tokens sampled` : null,
    duration(run.summary?.seconds),
    run.manifest?.recipe ? `recipe ${visible(run.manifest.recipe)} ${String(run.manifest.recipe_sha256 ?? "").slice(0, 8)}` : null,
    isNumber(run.manifest?.seed) ? `seed ${run.manifest.seed}` : null,
    hasText(run.manifest?.machine?.processor) ? visible(run.manifest.machine.processor) : null,
  ];
  return el(
    "header",
    {},
    el("h1", {}, visible(run.name), " ", state ? stateMark(state) : null),
    el("p", { class: "soft" }, facts.filter(Boolean).join(" · ")),
    nowBox(run, state),
    run.behind > 0.001 ? el("p", { class: "soft" }, `reading: ${Math.round(100 - 100 * run.behind)} % of the metrics so far`) : null,
    SECTIONS.slice(1, -1).every(([, , , , any]) => !any(run))
      ? el("p", { class: "soft" }, "Nothing was measured yet: curves come with the first steps.")
      : null,
    run.notes.length
      ? el("div", { class: "notes", role: "note" }, el("ul", {}, run.notes.map((note) => el("li", {}, visible(note)))))
      : null,
  );
}

/** Draw what has changed, and let the browser paint after each section; one that fails says so and leaves the
 *  others alone. */
async function renderRun(run, root, told) {
  if (!root.querySelector("nav")) {
    const links = SECTIONS.map(([id, title]) => el("a", { href: withQuery({ at: id }), "data-section": id }, title));
    const sections = SECTIONS.map(([id, title]) =>
      el("section", { id }, el("h2", {}, title), el("div", { class: "body" })),
    );
    root.replaceChildren(el("header"), el("nav", { "aria-label": "sections" }, links), ...sections);
  }
  const top = head(run);
  if (root.firstChild.innerHTML !== top.innerHTML && !marked(root.firstChild)) root.firstChild.replaceWith(top);
  for (const [id, , draw, keys, any] of SECTIONS) {
    const empty = !any(run);
    root.querySelector(`#${id}`).hidden = root.querySelector(`nav [data-section="${id}"]`).hidden = empty;
    if (empty) continue;
    const fresh = JSON.stringify(keys.map((key) => run[key]));
    if (told[id] === fresh) continue;
    const body = root.querySelector(`#${id} > .body`);
    if (marked(body)) continue; // drawn when nothing in it is marked any more
    told[id] = fresh;
    if (!root.isConnected) return;
    redraw(body, () => {
      try {
        draw(run, body);
      } catch (error) {
        console.error(id, error);
        body.append(el("div", { class: "notes" }, `This section could not be drawn: ${error.message}`));
      }
    });
    await new Promise((resume) => setTimeout(resume));
  }
  const drawn = [...charts.values()].filter((one) => one.plot).length;
  document.documentElement.dataset.drawn = String(drawn);
}

const curvesView = {
  async refresh(root, route) {
    if (!source.live && this.fresh) return;
    const answer = await source.run(route.run, this.fresh?.run.version);
    if (current.route !== route) return;
    const state = answer.state ?? this.fresh?.run.state;
    if (answer.same && this.fresh.run.state === state) return;
    const run = answer.same ? { ...this.fresh.run, state } : answer;
    this.fresh = { run, told: this.fresh?.told ?? {} };
    await renderRun(run, root, this.fresh.told);
    if (run.behind > 0.001) await this.refresh(root, route);
  },
};
