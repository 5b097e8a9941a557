// One kind of chart for the whole page, drawn by uPlot: lines, whiskers, a target band, stage
// boundaries, stacked shares. A chart is {id, title, yLabel, x, series: [{name, values, …}], …}. Drawn
// again with the same series, as when a run goes on, it keeps its place, its zoom and its cursor.
"use strict";

const charts = new Map(); // what is on the page, by id: {figure, plot, live, shape}

/** Forget every chart: before another view is shown, or when the colours change. */
function clearCharts() {
  for (const one of charts.values()) {
    one.watch?.disconnect();
    one.plot?.destroy();
  }
  charts.clear();
}

/** An element with attributes and children; strings become text nodes, never markup. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const list = (value) => (Array.isArray(value) ? value : []);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const percent = (value, digits = 1) => (isNumber(value) ? `${(100 * value).toFixed(digits)} %` : "–");

function short(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  if (size >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** Sums from below, so that each series' area lies on the one before it. */
function stack(series) {
  const total = series[0].values.map(() => 0);
  return series.map((one) => ({
    ...one,
    raw: one.values,
    values: one.values.map((value, index) => (total[index] += isNumber(value) ? value : 0)),
  }));
}

/** Centred mean over `reach` steps to each side that does not look over a stage boundary. */
function smooth(x, values, stages, reach) {
  const stageOf = (step) => stages.findIndex((stage) => step >= stage.first && step <= stage.last);
  const home = x.map(stageOf);
  return values.map((_, index) => {
    let sum = 0,
      count = 0;
    for (let at = Math.max(0, index - reach); at <= Math.min(x.length - 1, index + reach); at++) {
      if (home[at] === home[index] && isNumber(values[at])) ((sum += values[at]), count++);
    }
    return count ? sum / count : null;
  });
}

/** Stage boundaries as dotted lines, names above the plot where they fit. */
function stageMarks(live) {
  return (u) => {
    const stages = live.spec.stages ?? [],
      { ctx } = u,
      { left, top, width, height } = u.bbox,
      ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${10.5 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.fillStyle = colour("soft");
    ctx.strokeStyle = colour("grey");
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.lineWidth = ratio;
    stages.forEach((stage, index) => {
      const from = Math.max(left, u.valToPos(stage.first - 0.5, "x", true));
      const to = Math.min(left + width, u.valToPos(stage.last + 0.5, "x", true));
      if (to <= left || from >= left + width) return;
      if (index > 0 && from > left) {
        ctx.beginPath();
        ctx.moveTo(from, top - 10 * ratio);
        ctx.lineTo(from, top + height);
        ctx.stroke();
      }
      const name = [stage.name, String(index + 1)].find(
        (text) => ctx.measureText(text).width < to - from - 6 * ratio,
      );
      if (name) ctx.fillText(name, from + 4 * ratio, top - 4 * ratio);
    });
    ctx.restore();
  };
}

/** The band between two columns, a step wide to each side of every point. */
function bandFill(live) {
  return (u) => {
    if (!live.spec.band) return;
    const { low, high } = live.spec.band,
      { ctx } = u,
      x = u.data[0];
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.fillStyle = colour("band");
    x.forEach((value, index) => {
      if (!isNumber(low[index]) || !isNumber(high[index])) return;
      const from = index > 0 ? (x[index - 1] + value) / 2 : value - 0.5;
      const to = index < x.length - 1 ? (value + x[index + 1]) / 2 : value + 0.5;
      const [l, r] = [u.valToPos(from, "x", true), u.valToPos(to, "x", true)].map(Math.round);
      const [t, b] = [u.valToPos(high[index], "y", true), u.valToPos(low[index], "y", true)];
      ctx.fillRect(l, t, Math.max(1, r - l), b - t);
    });
    ctx.restore();
  };
}

/** Error bars of series that have `errors: [lows, highs]`. */
function whiskers(live) {
  return (u) => {
    const { ctx } = u,
      ratio = devicePixelRatio;
    ctx.save();
    ctx.setLineDash([]);
    ctx.lineWidth = 1.3 * ratio;
    live.series.forEach((one) => {
      if (!one.errors) return;
      ctx.strokeStyle = colour(one.colour);
      u.data[0].forEach((x, index) => {
        const [low, high] = one.errors.map((side) => side[index]);
        if (!isNumber(low) || !isNumber(high)) return;
        const at = Math.round(u.valToPos(x, "x", true));
        const [top, bottom] = [u.valToPos(high, "y", true), u.valToPos(low, "y", true)];
        ctx.beginPath();
        ctx.moveTo(at, top);
        ctx.lineTo(at, bottom);
        for (const end of [top, bottom]) (ctx.moveTo(at - 4 * ratio, end), ctx.lineTo(at + 4 * ratio, end));
        ctx.stroke();
      });
    });
    ctx.restore();
  };
}

/** A vertical line with its name, such as a chosen temperature. */
function verticalMarks(live) {
  return (u) => {
    const marks = live.spec.marks ?? [],
      { ctx } = u,
      ratio = devicePixelRatio,
      { top, height, left, width } = u.bbox;
    ctx.save();
    ctx.font = `${10.5 * ratio}px system-ui, sans-serif`;
    ctx.strokeStyle = ctx.fillStyle = colour("ink");
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    for (const mark of marks) {
      const at = Math.round(u.valToPos(mark.x, "x", true));
      ctx.beginPath();
      ctx.moveTo(at, top);
      ctx.lineTo(at, top + height);
      ctx.stroke();
      ctx.textAlign = at > left + width / 2 ? "right" : "left";
      ctx.fillText(mark.name, at + (ctx.textAlign === "left" ? 5 : -5) * ratio, top + 12 * ratio);
    }
    ctx.restore();
  };
}

/** The span of everything drawn, with some air; from `floor` on when there is one. */
function yRange({ spec, series }) {
  const all = series.flatMap((one) => [...one.values, ...(one.errors ?? []).flat()]);
  if (spec.band) all.push(...spec.band.low, ...spec.band.high);
  const finite = all.filter(isNumber);
  let low = Infinity,
    high = -Infinity;
  for (const value of finite) ((low = Math.min(low, value)), (high = Math.max(high, value)));
  if (spec.log) return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high * 1.0001))];
  if (spec.floor !== undefined) low = Math.min(low, spec.floor);
  if (spec.zero) ((low = Math.min(low, 0)), (high = Math.max(high, 0)));
  const air = (high - low || Math.abs(high) || 1) * 0.06;
  if (spec.share && !spec.optional && low >= 0 && high <= 1) return [0, 1];
  if (spec.ceiling !== undefined) return [low, spec.ceiling];
  return [spec.floor !== undefined && low >= spec.floor ? spec.floor : low - air, high + air];
}

/** The whole time axis, or the part that was zoomed into. */
function xRange({ spec }, from, to) {
  const first = spec.x[0],
    last = spec.x[spec.x.length - 1];
  if (isNumber(from) && isNumber(to) && (from > first || to < last)) return [from, to];
  if (spec.categories) return [-0.5, spec.categories.length - 0.5];
  const air = first === last ? 0.5 : spec.air ? (last - first) * spec.air : 0;
  return [first - air, last + air];
}

/** Category names under their places, cut to the width they have. */
function categoryAxis(live) {
  return {
    splits: () => live.spec.categories.map((_, index) => index),
    values: (u, places) => {
      const names = live.spec.categories;
      const room = Math.floor(u.bbox.width / devicePixelRatio / names.length / 6.2);
      return places.map((at) =>
        names[at].length <= room ? names[at] : room > 4 ? `${names[at].slice(0, room - 1)}…` : at + 1,
      );
    },
  };
}

const isPower = (value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9;

/** Labels and grid lines of a logarithmic axis at powers of ten only, five of them at most. */
function decades(axis) {
  const filter = (u, splits) => {
    const every = Math.ceil(Math.log10(u.scales.y.max / u.scales.y.min) / 5);
    return splits.map((value) => (Math.round(Math.log10(value)) % every === 0 && isPower(value) ? value : null));
  };
  return { filter, grid: { ...axis.grid, filter } };
}

function options(live, width) {
  const { spec, series } = live;
  const axis = {
    stroke: () => colour("soft"),
    grid: { stroke: () => colour("grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
    labelFont: "11px system-ui, sans-serif",
    labelSize: 15,
  };
  const hundredth = (value) => Number((100 * value).toPrecision(3));
  const format = spec.share ? (value) => `${hundredth(value)} %` : spec.points ? hundredth : short;
  const dots = (u) => u.data[0].length <= 30;
  return {
    width,
    height: spec.height ?? 168,
    padding: [spec.stages?.length ? 16 : 8, 10, 0, 0],
    scales: {
      x: { time: false, range: (_, from, to) => xRange(live, from, to) },
      y: { range: () => yRange(live), distr: spec.log ? 3 : 1 },
    },
    axes: [
      {
        ...axis,
        label: spec.xLabel ?? "optimiser step",
        size: 24,
        gap: 3,
        space: 60,
        incrs:
          spec.integers === false
            ? undefined
            : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6],
        ...(spec.categories ? categoryAxis(live) : {}),
      },
      {
        ...axis,
        label: spec.yLabel,
        size: 46,
        gap: 3,
        space: 28,
        values: (_, splits) => splits.map((value) => (value === null ? "" : format(value))),
        ...(spec.log ? decades(axis) : {}),
      },
    ],
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: !spec.categories, y: false },
      ...(spec.sync ? { sync: { key: spec.sync } } : {}),
    },
    legend: { markers: { width: 0, fill: (u, index) => colour(live.series[index - 1]?.colour ?? "grey") } },
    series: [
      {
        label: spec.xName ?? "step",
        value: (_, value) => (!isNumber(value) ? "" : spec.categories ? live.spec.categories[value] : short(value)),
      },
      ...series.map((one, place) => ({
        label: one.name,
        stroke: () => colour(one.colour),
        width: one.width ?? 1.5,
        dash: one.dash?.map((length) => length * devicePixelRatio),
        fill: spec.stacked ? () => colour(one.colour) : undefined,
        alpha: one.alpha ?? 1,
        spanGaps: one.spanGaps ?? spec.log ?? false,
        paths: one.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
        points: {
          show: (u) => !spec.stacked && !one.stepped && one.points !== false && (dots(u) || one.points === true),
          size: 5,
          fill: () => colour(one.colour),
        },
        value: (_, value, __, index) => {
          const now = live.series[place],
            shown = index === null || index === undefined ? null : (now.raw ?? now.values)[index];
          return !isNumber(shown) ? "" : spec.share ? percent(shown) : spec.points ? points(shown) : short(shown);
        },
      })),
    ],
    hooks: { drawClear: [bandFill(live)], draw: [stageMarks(live), whiskers(live), verticalMarks(live)] },
  };
}

/** The series that hold a number, ready to be drawn. */
function drawable(spec) {
  const kept = (value) => (isNumber(value) && (value > 0 || !spec.log) ? value : null); // no logarithm of 0
  const series = spec.series
    .map((one) => ({ ...one, values: (one.values ?? []).map(kept) }))
    .filter((one) => one.values.some(isNumber));
  return spec.stacked && series.length ? stack(series).reverse() : series; // the lowest is painted last
}

/** What must be equal for a chart to go on with new values. */
function shapeOf(spec, series) {
  return JSON.stringify([
    [spec.yLabel, spec.log, spec.stacked, Boolean(spec.categories), spec.sync, Boolean(spec.stages?.length)],
    series.map((one) => [one.name, one.colour, one.width, one.dash, one.alpha, Boolean(one.errors)]),
  ]);
}

/** Draw a chart into `parent`, or go on with the one of that id; says so when there is nothing to draw. */
function chart(parent, spec) {
  const series = spec.x?.length ? drawable(spec) : [];
  if (!series.length && spec.optional) return;
  const shape = shapeOf(spec, series),
    known = charts.get(spec.id);
  if (known?.plot && known.shape === shape && series.length) {
    Object.assign(known.live, { spec, series });
    caption(known.figure, spec);
    parent.append(known.figure);
    renew(known);
    return;
  }
  known?.watch?.disconnect();
  known?.plot?.destroy();
  const host = el("div");
  const figure = el("figure", { "data-chart": spec.id, role: "group" }, el("figcaption"), host);
  caption(figure, spec);
  parent.append(figure);
  if (!series.length) {
    host.append(el("div", { class: "empty" }, spec.empty ?? "nothing recorded yet"));
    figure.dataset.state = "empty";
    charts.set(spec.id, { figure, shape });
    return;
  }
  const live = { spec, series };
  const plot = new uPlot(options(live, host.clientWidth || 320), [spec.x, ...series.map((one) => one.values)], host);
  const watch = new ResizeObserver(() => {
    if (host.clientWidth && host.clientWidth !== plot.width)
      plot.setSize({ width: host.clientWidth, height: plot.height });
  });
  watch.observe(host);
  followClicks(plot, live);
  figure.dataset.state = "drawn";
  charts.set(spec.id, { figure, plot, live, shape, watch });
  operable(charts.get(spec.id));
}

function caption(figure, spec) {
  const note = spec.note ? el("span", { class: "soft" }, ` ${spec.note}`) : "";
  figure.firstChild.replaceChildren(spec.title, note, figure.dataset.state === "empty" ? "" : taking(spec.id));
  figure.setAttribute("aria-label", summaryOf(spec));
}

/** New values for a chart; a zoom stays where it is. */
function renew({ plot, live }) {
  const [first, last] = [plot.data[0][0], plot.data[0].at(-1)],
    { min, max } = plot.scales.x,
    zoomed = isNumber(min) && (min > first || max < last);
  plot.setData([live.spec.x, ...live.series.map((one) => one.values)], !zoomed);
  if (zoomed) plot.setScale("x", { min, max });
}

/** A small curve without axes, for a table whose curves have one scale. */
function spark(values, label, [low, high]) {
  const known = list(values).filter(isNumber);
  if (known.length < 2) return el("span", { class: "soft" }, "–");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"),
    line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  for (const [name, value] of [
    ["class", "spark"],
    ["viewBox", "0 0 90 22"],
    ["role", "img"],
    ["aria-label", label],
  ])
    svg.setAttribute(name, value);
  const place = (value, at) =>
    `${((90 * at) / (known.length - 1)).toFixed(1)},${(20 - (18 * (value - low)) / (high - low || 1)).toFixed(1)}`;
  line.setAttribute("points", known.map(place).join(" "));
  svg.append(line);
  return svg;
}
