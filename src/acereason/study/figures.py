"""A study's figure as an SVG that needs nothing to be shown: lines with 95 % bars, or its effects as bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from acereason.study.effects import interval
from acereason.study.spec import Figure, Line, Study
from acereason.study.tables import Arms, column, outcome_of
from acereason.study.verdicts import Told

PLOT, HEIGHT, LEFT, TOP, BOTTOM = 480, 320, 56, 28, 44
LETTER = 7.5  # pixels of a letter, rather more than most take
COLOURS = ("#2f7ed8", "#d9662b", "#2a9d63", "#a05bc9", "#c24a6b", "#8a7b1f", "#2396a8", "#7a7a7a")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#777}.tick{stroke:#888;stroke-opacity:.25}"
    "path{fill:none;stroke-width:2}.bar{stroke-width:1.5}"
)
At = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """A place on a line with its interval."""

    x: float
    y: float
    low: float
    high: float


def draw(study: Study, arms: Arms, seeds: Sequence[int]) -> str:
    """The SVG of a study whose arms are all there; "" where it has no figure."""
    figure = study.figure
    if figure is None:
        return ""
    of = _over_k if figure.samples else _over_arms
    lines = {line.label: of(figure, line, arms, seeds) for line in figure.lines}
    return _svg(lines, figure, f"{study.name}: {study.title}")


def _over_arms(figure: Figure, line: Line, arms: Arms, seeds: Sequence[int]) -> list[Point]:
    points = []
    for number, (name, start) in enumerate(zip(line.arms, line.starts or line.arms, strict=True)):
        if isinstance(line.x, str):
            own = [column(arms[start, seed], line.x, figure.domain).values.mean() for seed in seeds]
            place = float(sum(own)) / len(own)
        else:
            place = float(line.x[number])
        estimate = interval([column(arms[name, seed], figure.measure, figure.domain) for seed in seeds])
        points.append(Point(place, *estimate))
    return sorted(points, key=lambda p: p.x)


def _over_k(figure: Figure, line: Line, arms: Arms, seeds: Sequence[int]) -> list[Point]:
    of = [arms[line.arms[0], seed] for seed in seeds]
    most = outcome_of(of[0], figure.domain).k
    ks = [1 << n for n in range(most.bit_length()) if 1 << n <= most]
    return [Point(k, *interval([column(r, f"pass@{k}", figure.domain) for r in of], 400)) for k in ks]


def _svg(lines: dict[str, list[Point]], figure: Figure, title: str) -> str:
    points = [p for line in lines.values() for p in line]
    log = figure.log or figure.samples
    xs = [math.log2(max(p.x, 1e-9)) if log else p.x for p in points]
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    ticks = _ticks(min(p.low for p in points), max(p.high for p in points))

    def x(value: float) -> float:
        place = math.log2(max(value, 1e-9)) if log else value
        return LEFT + 12 + (PLOT - 24) * (place - left) / (right - left)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (ticks[-1] - value) / (ticks[-1] - ticks[0])

    body = [*_axes(ticks, sorted({p.x for p in points}), x, y, figure)]
    for number, (label, line) in enumerate(lines.items()):
        body.append(_line(line, label, COLOURS[number % len(COLOURS)], number, x, y))
    width = LEFT + PLOT + 30 + LETTER * max(map(len, lines))
    return _page(width, HEIGHT, title, body)


def _line(points: Sequence[Point], label: str, colour: str, number: int, x: At, y: At) -> str:
    path = "L".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in points)
    bars = "".join(
        f'<path class="bar" style="stroke:{colour}" d="M{x(p.x):.1f},{y(p.low):.1f}V{y(p.high):.1f}"/>'
        f'<circle cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="3" fill="{colour}"/>'
        for p in points
    )
    at = TOP + 16 * number + 8
    name = f'<text x="{LEFT + PLOT + 22}" y="{at + 4}" style="fill:{colour}">{escape(label)}</text>'
    dot = f'<circle cx="{LEFT + PLOT + 12}" cy="{at}" r="4" fill="{colour}"/>'
    return f'<path style="stroke:{colour}" d="M{path}"/>{bars}{dot}{name}'


def _axes(ticks: Sequence[float], places: Sequence[float], x: At, y: At, figure: Figure) -> list[str]:
    lines = [f'<text x="{LEFT - 40}" y="14">{escape(figure.measure)}, {escape(figure.domain)}</text>']
    for tick in ticks:
        at = y(tick)
        lines.append(f'<line class="tick" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    last = -math.inf
    for place in places:
        if x(place) - last >= 34:  # else its number would lie on the one before
            last = x(place)
            lines.append(
                f'<text x="{last:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{_short(place)}</text>'
            )
    middle = LEFT + PLOT / 2
    return [*lines, f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(figure.x)}</text>']


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose the range."""
    span = max(high - low, 1e-9)
    size = 10 ** math.floor(math.log10(span / 4))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= 6)
    first = math.floor(low / step)
    return [step * n for n in range(first, max(math.ceil(high / step), first + 1) + 1)]


def intervals(effects: Sequence[Told], title: str) -> str:
    """The SVG of effects as bars one below the other, each with its δ as a tick; "" where none is a number.

    Effects of other units than the first are left out: they do not share its axis."""
    shown = [e for e in effects if e.unit == effects[0].unit and math.isfinite(e.value)]
    if not shown:
        return ""
    ticks = _ticks(min(0, *(e.low for e in shown)), max(0, *(e.high for e in shown)))
    height = TOP + 28 * len(shown) + BOTTOM

    def x(value: float) -> float:
        return LEFT + PLOT * (value - ticks[0]) / (ticks[-1] - ticks[0])

    body = []
    for tick in ticks:
        body.append(f'<path class="tick" d="M{x(tick):.1f},{TOP}V{height - BOTTOM}"/>')
        body.append(f'<text x="{x(tick):.1f}" y="{height - 24}" text-anchor="middle">{tick:g}</text>')
    for number, effect in enumerate(shown):
        body.append(_bar(effect, TOP + 28 * number + 14, x))
    body.append(
        f'<text x="{LEFT + PLOT / 2}" y="{height - 6}" text-anchor="middle">{escape(shown[0].unit)}</text>'
    )
    width = LEFT + PLOT + 30 + LETTER * max(len(e.name) for e in shown)
    return _page(width, height, title, body)


def _bar(effect: Told, at: float, x: At) -> str:
    colour = COLOURS[0] if effect.decides else COLOURS[-1]
    parts = [
        f'<path style="stroke:{colour}" d="M{x(effect.low):.1f},{at}H{x(effect.high):.1f}"/>',
        f'<circle cx="{x(effect.value):.1f}" cy="{at}" r="4" fill="{colour}"/>',
        f'<text x="{LEFT + PLOT + 12}" y="{at + 4}">{escape(effect.name)}</text>',
    ]
    if effect.decides:
        parts.append(f'<path style="stroke:{COLOURS[1]}" d="M{x(effect.delta):.1f},{at - 8}V{at + 8}"/>')
    return "".join(parts)


def _page(width: float, height: float, title: str, body: Sequence[str]) -> str:
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img"'
    head = f"<title>{escape(title)}</title><style>{STYLE}</style>"
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box}>', head, *body, "</svg>", ""])


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
