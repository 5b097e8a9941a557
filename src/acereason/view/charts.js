// One kind of chart for the whole page, drawn by uPlot: lines, whiskers, a target band, stage
// boundaries, stacked shares. A chart is {id, title, yLabel, x, series: [{name, values, …}], …}.
"use strict";

const drawn = []; // the charts on the page, to be destroyed before it is drawn anew

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

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const percent = (value, digits = 1) => (isNumber(value) ? `${(100 * value).toFixed(digits)} %` : "–");

function short(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1).replace("e+", "e");
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
function stageMarks(stages) {
  return (u) => {
    const { ctx } = u,
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
function bandFill({ low, high }) {
  return (u) => {
    const { ctx } = u,
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
function whiskers(series) {
  return (u) => {
    const { ctx } = u,
      ratio = devicePixelRatio;
    ctx.save();
    ctx.lineWidth = 1.3 * ratio;
    series.forEach((one) => {
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
function verticalMarks(marks) {
  return (u) => {
    const { ctx } = u,
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
function yRange(spec, series) {
  const all = series.flatMap((one) => [...one.values, ...(one.errors ?? []).flat()]);
  if (spec.band) all.push(...spec.band.low, ...spec.band.high);
  const finite = all.filter(isNumber);
  let low = Infinity,
    high = -Infinity;
  for (const value of finite) ((low = Math.min(low, value)), (high = Math.max(high, value)));
  if (spec.log) return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high * 1.0001))];
  if (spec.floor !== undefined) low = Math.min(low, spec.floor);
  const air = (high - low || Math.abs(high) || 1) * 0.06;
  if (spec.ceiling !== undefined) return [low, spec.ceiling];
  return [spec.floor !== undefined && low >= spec.floor ? spec.floor : low - air, high + air];
}

function xRange(spec) {
  const first = spec.x[0],
    last = spec.x[spec.x.length - 1];
  if (spec.categories) return [-0.5, spec.categories.length - 0.5];
  const air = first === last ? 0.5 : spec.air ? (last - first) * spec.air : 0;
  return [first - air, last + air];
}

/** Category names under their places, cut to the width they have. */
function categoryAxis(names) {
  return {
    splits: () => names.map((_, index) => index),
    values: (u, places) => {
      const room = Math.floor(u.bbox.width / devicePixelRatio / names.length / 6.2);
      return places.map((at) =>
        names[at].length <= room ? names[at] : room > 4 ? `${names[at].slice(0, room - 1)}…` : at + 1,
      );
    },
  };
}

/** Labels and grid lines of a logarithmic axis at powers of ten only. */
function decades(axis) {
  const filter = (_, splits) => splits.map((value) => (Math.log10(value) % 1 === 0 ? value : null));
  return { filter, grid: { ...axis.grid, filter } };
}

function options(spec, series, width) {
  const axis = {
    stroke: () => colour("soft"),
    grid: { stroke: () => colour("grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
    labelFont: "11px system-ui, sans-serif",
    labelSize: 15,
  };
  const format = spec.share ? (value) => `${Number((100 * value).toPrecision(3))} %` : short;
  const dots = spec.x.length <= 30;
  const [before, after] = [[], []];
  if (spec.band) before.push(bandFill(spec.band));
  if (spec.stages?.length) after.push(stageMarks(spec.stages));
  if (series.some((one) => one.errors)) after.push(whiskers(series));
  if (spec.marks) after.push(verticalMarks(spec.marks));
  return {
    width,
    height: spec.height ?? 168,
    padding: [spec.stages?.length ? 16 : 8, 10, 0, 0],
    scales: {
      x: { time: false, range: xRange(spec) },
      y: { range: yRange(spec, series), distr: spec.log ? 3 : 1 },
    },
    axes: [
      {
        ...axis,
        label: spec.xLabel ?? "optimiser step",
        size: 24,
        gap: 3,
        space: 60,
        incrs:
          spec.integers === false ? undefined : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 1e5],
        ...(spec.categories ? categoryAxis(spec.categories) : {}),
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
    drawOrder: spec.stacked ? ["series", "axes"] : ["axes", "series"],
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: !spec.categories, y: false },
      ...(spec.sync ? { sync: { key: spec.sync } } : {}),
    },
    legend: { markers: { width: 0, fill: (u, index) => colour(series[index - 1]?.colour ?? "grey") } },
    series: [
      {
        label: spec.xName ?? "step",
        value: (_, value) => (value === null ? "" : spec.categories ? spec.categories[value] : short(value)),
      },
      ...series.map((one) => ({
        label: one.name,
        stroke: () => colour(one.colour),
        width: one.width ?? 1.5,
        dash: one.dash?.map((length) => length * devicePixelRatio),
        fill: spec.stacked ? () => colour(one.colour) : undefined,
        alpha: one.alpha ?? 1,
        spanGaps: one.spanGaps ?? spec.log ?? false,
        paths: one.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
        points: {
          show: !spec.stacked && !one.stepped && (dots || Boolean(one.points)),
          size: 5,
          fill: () => colour(one.colour),
        },
        value: (_, value, __, index) => {
          const shown = index === null || index === undefined ? null : (one.raw ?? one.values)[index];
          return !isNumber(shown) ? "" : spec.share ? percent(shown) : short(shown);
        },
      })),
    ],
    hooks: { drawClear: before, draw: after },
  };
}

/** Draw a chart into `parent`; says so when there is nothing to draw. */
function chart(parent, spec) {
  const title = el("figcaption", {}, spec.title, spec.note ? el("span", { class: "soft" }, ` ${spec.note}`) : null);
  const host = el("div");
  const figure = el("figure", { "data-chart": spec.id }, title, host);
  parent.append(figure);
  const kept = (value) => (isNumber(value) && (value > 0 || !spec.log) ? value : null); // no logarithm of 0
  let series = spec.series.map((one) => ({ ...one, values: (one.values ?? []).map(kept) }));
  series = series.filter((one) => one.values.some(isNumber));
  if (!spec.x?.length || !series.length) {
    host.append(el("div", { class: "empty" }, "nothing recorded"));
    figure.dataset.state = "empty";
    return;
  }
  if (spec.stacked) series = stack(series).reverse(); // the lowest is painted last, over the others
  const plot = new uPlot(
    options(spec, series, host.clientWidth || 320),
    [spec.x, ...series.map((one) => one.values)],
    host,
  );
  drawn.push(plot);
  figure.dataset.state = "drawn";
  new ResizeObserver(() => {
    if (host.clientWidth && host.clientWidth !== plot.width)
      plot.setSize({ width: host.clientWidth, height: plot.height });
  }).observe(host);
}
