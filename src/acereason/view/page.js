// Puts the page together from the run that stands in it as JSON, and again when the scheme changes.
"use strict";

const SECTIONS = [
  ["results", "Results", headline],
  ["table", "Final table", finalTable],
  ["training", "Reinforcement learning", training],
  ["sft", "Supervised fine-tuning", sft],
  ["calibration", "Temperature calibration", calibration],
  ["modes", "Modes of responding", modes],
  ["funnel", "Curation funnel", funnel],
  ["responses", "Responses", responses],
  ["files", "Recipe and manifest", files],
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

function head(run) {
  const steps = run.rl.step ?? [],
    tokens = list(run.rl.tokens)
      .filter(isNumber)
      .reduce((sum, count) => sum + count, 0);
  const state = run.summary?.gain ? "complete" : "no final summary: still running, or stopped";
  const facts = [
    state,
    run.stages.length ? `${run.stages.length} RL stages` : null,
    steps.length ? `${steps.length} RL steps` : null,
    tokens ? `${short(tokens / 1e6)} M tokens sampled` : null,
    duration(run.summary?.seconds),
  ];
  const made = [
    run.manifest?.recipe,
    isNumber(run.manifest?.seed) ? `seed ${run.manifest.seed}` : null,
    run.manifest?.recipe_sha256 ? `recipe ${String(run.manifest.recipe_sha256).slice(0, 12)}` : null,
    run.manifest?.machine?.processor,
  ];
  const parts = [
    el("h1", {}, visible(run.name)),
    el(
      "p",
      { class: "soft" },
      facts.filter(Boolean).join(" · "),
      el("br"),
      visible(made.filter(Boolean).join(" · ")),
    ),
  ];
  if (run.notes.length)
    parts.push(
      el(
        "div",
        { class: "notes", role: "note" },
        el(
          "ul",
          {},
          run.notes.map((note) => el("li", {}, visible(note))),
        ),
      ),
    );
  return el("header", {}, parts);
}

/** Draw everything; a section that fails says so and leaves the others alone. */
function render(run) {
  const page = document.getElementById("page");
  for (const plot of drawn.splice(0)) plot.destroy();
  page.replaceChildren(
    head(run),
    el(
      "nav",
      { "aria-label": "sections" },
      SECTIONS.map(([id, title]) => el("a", { href: `#${id}` }, title)),
    ),
  );
  for (const [id, title, draw] of SECTIONS) {
    const section = el("section", { id }, el("h2", {}, title));
    page.append(section);
    try {
      draw(run, section);
    } catch (error) {
      console.error(id, error);
      section.append(el("div", { class: "notes" }, `This section could not be drawn: ${error.message}`));
    }
  }
  document.documentElement.dataset.drawn = String(drawn.length);
}

const run = JSON.parse(document.getElementById("run").textContent);
render(run);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => render(run));
