"""pass@k over k with its bootstrap band, as an SVG that needs nothing to be drawn and nothing to be shown.

k is on a logarithmic axis, per cent on a linear one. One line a series with its name at its end; ends that
would overlap are moved apart. Colours keep their contrast on a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from acereason.evaluate.benchmarks.scores import PassAtK

PLOT, HEIGHT = 480, 400  # pixels; labels stand right of the plot
LEFT, TOP, BOTTOM = 56, 24, 44
LETTER = 7.5  # pixels of a letter, rather more than most take
COLOURS = ("#2f7ed8", "#d9662b", "#2a9d63", "#a05bc9", "#c24a6b", "#8a7b1f", "#2396a8", "#7a7a7a")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#777}.tick{stroke:#888;stroke-opacity:.25}"
    "path{fill:none;stroke-width:2}.band{stroke:none;fill-opacity:.12}"
)


def pass_at_k(series: Mapping[str, Sequence[PassAtK]], title: str = "pass@k, %") -> str:
    """The SVG of some pass@k curves by their names."""
    labels = [f"{name} {100 * curve[-1].mean:.1f}" for name, curve in series.items()]
    width = LEFT + PLOT + 20 + LETTER * max(map(len, labels))
    points = [point for curve in series.values() for point in curve]
    largest = max(2, *(point.k for point in points))
    low, high = _range(points)

    def x(k: float) -> float:
        return LEFT + PLOT * math.log2(k) / math.log2(largest)

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - share) / (high - low)

    parts = [_axes(largest, low, high, x, y, title)]
    ends = _apart([y(curve[-1].mean) for curve in series.values()])
    for number, curve in enumerate(series.values()):
        colour = COLOURS[number % len(COLOURS)]
        band = [(x(p.k), y(p.high)) for p in curve] + [(x(p.k), y(p.low)) for p in reversed(curve)]
        line = [(x(p.k), y(p.mean)) for p in curve]
        parts.append(f'<path class="band" style="fill:{colour}" d="{_path(band)}Z"/>')
        parts.append(f'<path style="stroke:{colour}" d="{_path(line)}"/>')
        dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in line)
        parts.append(
            f'{dots}<text x="{line[-1][0] + 10:.1f}" y="{ends[number] + 4:.1f}" '
            f'style="fill:{colour}">{escape(labels[number])}</text>'
        )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {HEIGHT}" '
        f'width="{width:.0f}" role="img">\n'
        f"<title>{escape(title)}</title><style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _range(points: Sequence[PassAtK]) -> tuple[float, float]:
    """From a multiple of 10 % below all bands to one above."""
    low = math.floor(10 * min(p.low for p in points)) / 10
    high = math.ceil(10 * max(p.high for p in points)) / 10
    return (low, high) if high - low >= 0.2 else (max(0.0, low - 0.1), min(1.0, low + 0.2))


def _axes(largest: int, low: float, high: float, x: object, y: object, title: str) -> str:
    assert callable(x) and callable(y)
    lines = []
    step = 0.1 if high - low <= 0.6 else 0.2
    share = low
    while share <= high + 1e-9:
        at = y(share)
        lines.append(f'<line class="tick" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{100 * share:.0f}</text>')
        share += step
    for power in range(largest.bit_length()):
        at = x(1 << power)
        lines.append(f'<text x="{at:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{1 << power}</text>')
    middle = LEFT + PLOT / 2
    lines.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">samples, k</text>')
    lines.append(f'<text x="{LEFT - 40}" y="14">{escape(title)}</text>')
    return "\n".join(lines)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _apart(ends: Sequence[float], gap: float = 16.0) -> list[float]:
    """The heights of labels, moved so that none is nearer than `gap` to the next."""
    placed = dict[int, float]()
    last = -math.inf
    for index in sorted(range(len(ends)), key=ends.__getitem__):
        last = placed[index] = max(ends[index], last + gap)
    over = max(0.0, last - (HEIGHT - BOTTOM)) if ends else 0.0
    return [placed[index] - over for index in range(len(ends))]
