"""Curves of one or more runs as an SVG for a paper: small panels, one per quantity, runs told apart by
colour and dash, dotted lines between the stages of the first. It needs nothing to be shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from acereason.errors import ConfigError
from acereason.view.data import Reader, stage_spans

PANELS = ("reward", "H_T", "length.mean", "truncated")
TITLES = {
    "reward": "Reward",
    "H_T": "Entropy H_T / nats",
    "length.mean": "Response length / tokens",
    "truncated": "Truncated share",
    "T": "Temperature",
    "loss": "Loss",
    "gradient_norm": "Gradient norm",
}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 300, 200, 52, 26, 10, 36
COLOURS = ("#0072b2", "#b84a00", "#007a58", "#a8558c", "#2b85bd", "#8a6700", "#6b7278")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
POINTS = 300
STYLE = (
    "text{font:11px Helvetica,Arial,sans-serif;fill:#222}path{fill:none}"
    ".grid{stroke:#e2e2e2}.stage{stroke:#999}"
)
Numbers = NDArray[np.float64]


class Curve(NamedTuple):
    """One run's quantity over its steps, counted from the run's first; `stages`: where stages begin."""

    name: str
    x: Numbers
    y: Numbers
    stages: list[float]


def curves(folders: Sequence[Path], quantity: str) -> list[Curve]:
    """The quantity of every run that has it, averaged to at most POINTS points."""
    lines = []
    for place, folder in enumerate(folders):
        reader = Reader(folder)
        reader.advance()
        columns = reader.columns["rl"]
        x, y = columns.column("step"), columns.column(quantity)
        if not len(x) or not (y == y).any():
            continue
        starts = [float(span["first"] - x[0]) + 0.5 for span in stage_spans(columns)[1:]]
        name = folder.resolve().name
        twice = sum(other.resolve().name == name for other in folders) > 1
        size = math.ceil(len(x) / POINTS)
        lines.append(
            Curve(f"{name} ({place + 1})" if twice else name, *_means(x - x[0] + 1, y, size), starts)
        )
    return lines


def _means(x: Numbers, y: Numbers, size: int) -> tuple[Numbers, Numbers]:
    parts = [slice(i, i + size) for i in range(0, len(x), size)]
    known = [y[part][y[part] == y[part]] for part in parts]
    means = [float(some.mean()) if len(some) else math.nan for some in known]
    return np.array([x[part].mean() for part in parts]), np.array(means)


def figure(folders: Sequence[Path], panels: Sequence[str] = PANELS) -> str:
    """The SVG. ConfigError when no run has any of the quantities."""
    drawn = [(name, lines) for name in panels if (lines := curves(folders, name))]
    if not drawn:
        raise ConfigError(f"no run has a step of RL with {', '.join(panels)}; name others with --panel")
    names = list(dict.fromkeys(curve.name for _, lines in drawn for curve in lines))
    across = min(2, len(drawn))
    width, height = across * WIDTH, -(-len(drawn) // across) * HEIGHT + 18 * len(names)
    parts = []
    for i, (name, lines) in enumerate(drawn):
        place = f"{i % across * WIDTH} {i // across * HEIGHT}"
        parts.append(f'<g transform="translate({place})">{_panel(name, lines, names)}</g>')
    top = -(-len(drawn) // across) * HEIGHT
    for i, name in enumerate(names):
        y = top + 18 * i + 8
        parts.append(
            f'<path d="M{LEFT} {y}h24" {_stroke(i)}/><text x="{LEFT + 32}" y="{y + 4}">{escape(name)}</text>'
        )
    body, size = "".join(parts), f'width="{width}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}>'
        f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>{body}</svg>\n'
    )


def _stroke(place: int) -> str:
    dash = DASHES[place % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{COLOURS[place % len(COLOURS)]}" stroke-width="1.5"{dashed}'


def _panel(quantity: str, lines: Sequence[Curve], names: Sequence[str]) -> str:
    """One quantity; shares that lie in [0, 1] are drawn on it."""
    every = np.concatenate([curve.y for curve in lines])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    if quantity in ("reward", "truncated") and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    air = 0.0 if (low, high) == (0.0, 1.0) else 0.05 * (high - low or abs(high) or 1.0)
    low, high, last = low - air, high + air, max(float(curve.x[-1]) for curve in lines)

    def X(x: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (x - 1) / max(last - 1, 1):.1f}"

    def Y(y: float) -> str:
        return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low):.1f}"

    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(TITLES.get(quantity, quantity))}</text>']
    for t in np.linspace(0, 1, 5):
        y = low + t * (high - low)
        parts.append(f'<path class="grid" d="M{LEFT} {Y(y)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{Y(y)}" dy="4" text-anchor="end">{y:.3g}</text>')
    bottom = HEIGHT - BOTTOM
    parts += [
        f'<text x="{X(step)}" y="{bottom + 15}" text-anchor="middle">{step}</text>'
        for step in sorted({1, round(last / 2), round(last)})
    ]
    parts += [
        f'<path class="stage" stroke-dasharray="1 3" d="M{X(start)} {TOP}V{bottom}"/>'
        for start in lines[0].stages
    ]
    parts += [f'<path d="{_line(one, X, Y)}" {_stroke(names.index(one.name))}/>' for one in lines]
    return "".join(parts)


def _line(curve: Curve, X: Callable[[float], str], Y: Callable[[float], str]) -> str:
    path, on = "", False
    for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True):
        if y == y:
            path += f"{'L' if on else 'M'}{X(x)} {Y(y)}"
        on = y == y
    return path
