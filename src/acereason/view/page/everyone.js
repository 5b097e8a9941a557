// What makes the page everyone's: charts by keyboard and by fingers, what scrolls within reach of the keyboard, and
// charts in the colours of paper when it is printed.
"use strict";

const KEYS = "arrow keys read the values, + and − zoom, 0 shows all";

/** All charts that are zoomed together with this one. */
const together = (one) => (one.live.spec.sync ? [...charts.values()].filter((other) => other.plot && other.live.spec.sync === one.live.spec.sync) : [one]);

/** Show x from `min` to `max`, as far as there is data; the whole where that is all of it. */
function zoomTo(one, min, max) {
  if (one.live.spec.categories) return;
  for (const other of together(one)) {
    const x = other.plot.data[0],
      [first, last] = [x[0], x.at(-1)];
    const span = Math.min(Math.max(max - min, (last - first) / 1e4), last - first),
      from = Math.min(Math.max(min, first), last - span);
    if (last > first) other.plot.setScale("x", { min: from, max: from + span });
  }
}

/** Zoom around a point by a factor; below 1 is nearer. */
function zoomBy(one, factor, around) {
  const { min, max } = one.plot.scales.x;
  zoomTo(one, around - (around - min) * factor, around + (max - around) * factor);
}

const wholeOf = (one) => zoomTo(one, one.plot.data[0][0], one.plot.data[0].at(-1));

/** What stands at a place of a chart, in words. */
function saidAt({ live, plot }, at) {
  const { spec, series } = live,
    x = plot.data[0][at];
  const told = series.map((one) => [one.name, (one.raw ?? one.values)[at]]).filter(([, value]) => isNumber(value));
  const say = (value) => (spec.share ? percent(value) : spec.points ? `${points(value)} points` : short(value));
  return `${spec.xName ?? "step"} ${spec.categories?.[x] ?? short(x)}: ${told.map(([name, value]) => `${name} ${say(value)}`).join(", ") || "nothing"}`;
}

/** Move the cursor to a place and say what is there; a zoom follows it. */
function standAt(one, at) {
  const x = one.plot.data[0][at],
    { min, max } = one.plot.scales.x;
  if (x < min || x > max) zoomTo(one, x - (max - min) / 2, x + (max - min) / 2);
  one.plot.setCursor({ left: one.plot.valToPos(x, "x"), top: one.plot.over.clientHeight / 2 });
  one.at = at;
  one.figure.querySelector(".reading").textContent = saidAt(one, at);
}

function pressed(one, event) {
  const last = one.plot.data[0].length - 1,
    at = Math.min(one.at ?? -1, last),
    reach = event.shiftKey ? Math.max(2, Math.round(last / 10)) : 1;
  const x = one.plot.data[0][Math.max(at, 0)];
  const acts = {
    ArrowRight: () => standAt(one, Math.min(last, at + reach)),
    ArrowLeft: () => standAt(one, Math.max(0, at < 0 ? last : at - reach)),
    Home: () => standAt(one, 0),
    End: () => standAt(one, last),
    "+": () => zoomBy(one, 0.5, x),
    "=": () => zoomBy(one, 0.5, x),
    "-": () => zoomBy(one, 2, x),
    0: () => wholeOf(one),
    Escape: () => wholeOf(one),
    Enter: () => at >= 0 && one.live.spec.onStep?.(x),
  };
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(acts, event.key)) return;
  event.preventDefault();
  acts[event.key]();
}

/** One finger reads, or moves what is zoomed; two zoom; two taps show all. */
function byTouch(one) {
  const fingers = new Map(), // where each is, in pixels of the plot
    { over } = one.plot;
  let held = [], // the values that were under the fingers
    tapped = 0;
  const place = (event) => event.clientX - over.getBoundingClientRect().left;
  const hold = () => (held = [...fingers.values()].map((left) => one.plot.posToVal(left, "x")));
  over.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    fingers.set(event.pointerId, place(event));
    hold();
  });
  over.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, place(event));
    const [a, b] = fingers.values(),
      { min, max } = one.plot.scales.x,
      x = one.plot.data[0],
      width = over.clientWidth;
    if (fingers.size === 2 && Math.abs(b - a) > 8) {
      const span = ((held[1] - held[0]) / (b - a)) * width,
        from = held[0] - (a / width) * span;
      if (span > 0) zoomTo(one, from, from + span);
    } else if (fingers.size === 1 && (min > x[0] || max < x.at(-1))) zoomTo(one, held[0] - (a / width) * (max - min), held[0] + (1 - a / width) * (max - min));
    else if (fingers.size === 1) one.plot.setCursor({ left: a, top: over.clientHeight / 2 });
  });
  const lifted = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    hold();
    if (event.type === "pointerup" && !fingers.size) {
      if (event.timeStamp - tapped < 300) wholeOf(one);
      tapped = event.timeStamp;
    }
  };
  for (const name of ["pointerup", "pointercancel"]) over.addEventListener(name, lifted);
}

/** A chart that keyboard and fingers can use: {figure, plot, live}. */
function operable(one) {
  const host = one.figure.children[1];
  for (const [name, value] of [["tabindex", "0"], ["role", "application"], ["aria-roledescription", "chart"]]) host.setAttribute(name, value);
  host.setAttribute("aria-label", `${one.live.spec.title}: ${KEYS}${one.live.spec.onStep ? ", Enter opens the step's responses" : ""}`);
  host.addEventListener("keydown", (event) => pressed(one, event));
  one.figure.append(el("span", { class: "unseen reading", role: "status" }));
  byTouch(one);
}

/** What can be scrolled can be reached by the keyboard, and what cannot is not in its way. */
function withinReach(root) {
  for (const box of root.querySelectorAll(".scroll, pre")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (scrolls === box.hasAttribute("tabindex")) continue;
    if (!scrolls) box.removeAttribute("tabindex");
    else for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", box.tagName === "PRE" ? "text that scrolls" : "table that scrolls"]]) box.setAttribute(name, value);
  }
}

addEventListener("toggle", () => withinReach(document), true);
addEventListener("resize", () => withinReach(document));
/** Charts in the colours that hold now, as when the page is printed. */
function recoloured() {
  for (const { figure, plot, live } of charts.values()) {
    plot?.redraw(false);
    [...figure.querySelectorAll(".u-series .u-marker")].slice(1).forEach((marker, at) => (marker.style.background = colour(live.series[at]?.colour ?? "grey")));
  }
}

matchMedia("print").addEventListener("change", recoloured);
