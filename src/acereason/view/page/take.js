// What one does with a chart: read it in words, go to a step's responses, and take it along as CSV, SVG or PNG
// (a table as CSV). Made in the browser, nothing is sent.
"use strict";

function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** One field of CSV (RFC 4180); what a spreadsheet would run as a formula gets a ' in front. */
function field4180(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value !== "number" && /^[=+@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const csv = (rows) => rows.map((row) => row.map(field4180).join(",")).join("\r\n") + "\r\n";

/** A chart's numbers as rows: the axis, then every series with its interval where it has one. */
function chartRows({ spec, series }) {
  const names = series.flatMap((one) => (one.errors ? [one.name, `${one.name} low`, `${one.name} high`] : [one.name]));
  const rows = spec.x.map((x, at) => [
    spec.categories?.[x] ?? x,
    ...series.flatMap((one) => {
      const value = (one.raw ?? one.values)[at];
      return one.errors ? [value, one.errors[0][at], one.errors[1][at]] : [value];
    }),
  ]);
  return [[spec.xName ?? "step", ...names], ...rows];
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** A chart as an SVG that stands alone: axes, ticks, lines, whiskers and names. */
function chartSvg({ plot, live }) {
  const { spec, series } = live,
    [W, H, L, T, R, B] = [640, 360, 64, 36, 150, 48];
  const { x: sx, y: sy } = plot.scales,
    scale = spec.log ? Math.log10 : (value) => value;
  const X = (x) => (L + ((W - L - R) * (x - sx.min)) / (sx.max - sx.min || 1)).toFixed(1);
  const Y = (y) => (H - B - ((H - B - T) * (scale(y) - scale(sy.min))) / (scale(sy.max) - scale(sy.min) || 1)).toFixed(1);
  const shown = (value) => (spec.share ? `${Number((100 * value).toPrecision(3))} %` : short(spec.points ? 100 * value : value));
  const steps = [0, 0.25, 0.5, 0.75, 1];
  const ticksY = steps.map((t) => (spec.log ? 10 ** (scale(sy.min) + t * (scale(sy.max) - scale(sy.min))) : sy.min + t * (sy.max - sy.min)));
  const ticksX = spec.categories ? spec.x : steps.map((t) => sx.min + t * (sx.max - sx.min));
  const inside = (x) => x >= sx.min && x <= sx.max;
  const parts = [
    `<rect width="${W}" height="${H}" fill="#fff"/><text x="${L}" y="20" font-weight="600">${escaped(spec.title)}</text>`,
    ...ticksY.map((y) => `<path d="M${L} ${Y(y)}H${W - R}" stroke="#ddd"/><text x="${L - 6}" y="${Y(y)}" dy="4" text-anchor="end">${escaped(shown(y))}</text>`),
    ...ticksX.map((x) => `<text x="${X(x)}" y="${H - B + 18}" text-anchor="middle">${escaped(spec.categories?.[x] ?? short(Math.round(x * 100) / 100))}</text>`),
    `<text x="${(L + W - R) / 2}" y="${H - 8}" text-anchor="middle">${escaped(spec.xLabel ?? "optimiser step")}</text>`,
    `<text transform="translate(14 ${(T + H - B) / 2}) rotate(-90)" text-anchor="middle">${escaped(spec.yLabel ?? "")}</text>`,
  ];
  series.forEach((one, place) => {
    const stroke = colour(one.colour),
      dash = one.dash ? ` stroke-dasharray="${one.dash.join(" ")}"` : "";
    let path = "",
      on = false;
    one.values.forEach((value, at) => {
      if (!isNumber(value) || !inside(spec.x[at])) return (on = on && one.spanGaps);
      path += `${on ? "L" : "M"}${X(spec.x[at])} ${Y(value)}`;
      return (on = true);
    });
    if (one.width !== 0) parts.push(`<path d="${path}" fill="none" stroke="${stroke}" stroke-width="1.8"${dash}/>`);
    spec.x.forEach((x, at) => {
      const [low, high] = one.errors?.map((side) => side[at]) ?? [];
      if (isNumber(low) && isNumber(high) && inside(x)) parts.push(`<path d="M${X(x)} ${Y(low)}V${Y(high)}" stroke="${stroke}"/>`);
      if (one.points === true && isNumber(one.values[at]) && inside(x)) parts.push(`<circle cx="${X(x)}" cy="${Y(one.values[at])}" r="3" fill="${stroke}"/>`);
    });
    const y = T + 8 + 18 * place;
    parts.push(`<path d="M${W - R + 10} ${y}h20" stroke="${stroke}" stroke-width="2"${dash}/><text x="${W - R + 36}" y="${y + 4}">${escaped(one.name)}</text>`);
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${W} ${H}" width="${W}" height="${H}" font-family="system-ui,sans-serif" font-size="11" fill="#222">${parts.join("")}</svg>\n`;
}

/** The buttons of a chart. */
function taking(id) {
  const known = () => charts.get(id);
  const button = (name, act) => {
    const one = el("button", { type: "button", class: "plain take", "aria-label": `${id} as ${name}` }, name);
    one.addEventListener("click", () => known()?.plot && act(known()));
    return one;
  };
  return el(
    "span",
    { class: "taking" },
    button("CSV", ({ live }) => download(`${id}.csv`, csv(chartRows(live)), "text/csv")),
    button("SVG", (one) => download(`${id}.svg`, chartSvg(one), "image/svg+xml")),
    button("PNG", ({ plot }) => plot.ctx.canvas.toBlob((blob) => download(`${id}.png`, blob))),
  );
}

/** The button of a table. */
function takingTable(table) {
  const button = el("button", { type: "button", class: "plain take" }, "CSV");
  const rows = () => [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim().replace(/^−/, "-")));
  button.addEventListener("click", () => download("table.csv", csv(rows()), "text/csv"));
  return button;
}

/** A chart in words, for those who cannot see it: every series' first, last, lowest and highest value. */
function summaryOf(spec) {
  const say = (value) => (spec.share ? percent(value) : spec.points ? `${points(value)} points` : short(value));
  const parts = drawable({ ...spec, stacked: false }).map(({ name, values }) => {
    const known = values.filter(isNumber);
    const [low, high] = known.reduce(([l, h], value) => [Math.min(l, value), Math.max(h, value)], [Infinity, -Infinity]);
    return `${name}: from ${say(known[0])} to ${say(known.at(-1))}, lowest ${say(low)}, highest ${say(high)}`;
  });
  return `${spec.title}. ${parts.join("; ") || "Nothing recorded yet"}.`;
}

/** A click on a step leads to its responses; a drag zooms and a double click shows all, as before. */
function followClicks(plot, live) {
  let down = null,
    timer = 0;
  plot.over.addEventListener("mousedown", (event) => (down = [event.clientX, event.clientY]));
  plot.over.addEventListener("dblclick", () => clearTimeout(timer));
  plot.over.addEventListener("click", (event) => {
    const moved = !down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > 3;
    const at = plot.cursor.idx;
    clearTimeout(timer);
    if (!moved && live.spec.onStep && isNumber(live.spec.x[at]))
      timer = setTimeout(() => live.spec.onStep(live.spec.x[at]), 300);
  });
}
