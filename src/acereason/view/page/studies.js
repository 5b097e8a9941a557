// The paper's claims, tried again: verdicts and intervals as `acereason study` wrote them.
"use strict";

const WIDE = 220; // pixels of an interval's drawing

function drawn(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** An interval as a bar with its value and δ, on an axis of its own that holds 0. */
function intervalBar(effect) {
  const numbers = [effect.low, effect.high, effect.value, effect.delta, 0];
  if (!numbers.every(isNumber)) return el("span", { class: "soft" }, "–");
  const low = Math.min(...numbers),
    high = Math.max(...numbers);
  const x = (value) => (8 + ((WIDE - 16) * (value - low)) / (high - low || 1)).toFixed(1);
  const label = `${effect.low.toPrecision(3)} to ${effect.high.toPrecision(3)}`;
  const svg = drawn("svg", { class: "interval", viewBox: `0 0 ${WIDE} 22`, role: "img", "aria-label": label });
  svg.append(
    drawn("line", { class: "zero", x1: x(0), x2: x(0), y1: 2, y2: 20 }),
    drawn("line", { class: "delta", x1: x(effect.delta), x2: x(effect.delta), y1: 2, y2: 20 }),
    drawn("line", { class: "reach", x1: x(effect.low), x2: x(effect.high), y1: 11, y2: 11 }),
    drawn("circle", { cx: x(effect.value), cy: 11, r: 4 }),
  );
  return svg;
}

function effectRow(effect) {
  const digits = effect.unit === "nats" || !effect.unit ? 3 : 1;
  const told = [effect.value, effect.low, effect.high].every(isNumber)
    ? `${effect.value.toFixed(digits)} (${effect.low.toFixed(digits)} to ${effect.high.toFixed(digits)}) ${effect.unit ?? ""}`
    : "none inside the range";
  const delta = effect.decides ? String(effect.delta) : "told only";
  return el("tr", {}, cells("td", [visible(effect.name), intervalBar(effect), visible(told), visible(delta)]));
}

function study(one) {
  const effects = list(one.effects);
  const seeds = `${list(one.seeds).length} seeds, size ${one.size}, ${one.split} questions, stated beforehand: ${one.stated}`;
  const failed = Object.entries(one.failed ?? {}).map(([arm, why]) => el("p", {}, visible(`Failed: ${arm}: ${why}`)));
  return el(
    "section",
    { class: "study" },
    el("h2", {}, visible(`${one.study} ${one.title}: `), el("strong", {}, visible(one.verdict))),
    el("p", {}, visible(one.claim)),
    el("p", { class: "soft" }, visible(`Paper: ${one.paper}`)),
    effects.length ? ruled(["effect", "95 %", "value", "δ"], effects.map(effectRow)) : el("p", {}, visible(`${one.done} of ${one.arms} arms are there`)),
    failed,
    el("p", { class: "caption" }, visible(seeds)),
  );
}

const studiesView = {
  async refresh(root) {
    const found = await source.studies();
    const told = JSON.stringify(found);
    if (told === this.told && root.firstChild) return;
    this.told = told;
    redraw(root, () => {
      root.append(el("h1", {}, "Studies"));
      if (!found.findings.length) root.append(el("p", { class: "soft" }, "No findings in ", el("code", {}, visible(found.folder)), "; acereason study run writes them."));
      for (const { place, studies } of found.findings) root.append(el("p", { class: "soft" }, visible(place)), ...studies.map(study));
    });
  },
};
