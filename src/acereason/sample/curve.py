"""The curve of a calibration as a picture: H_T over T with error bars, the target, and the chosen T (SVG)."""

from __future__ import annotations

import math

import numpy as np

from acereason.sample.temperature import Calibration, fit

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 64, 20, 36, 48
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.axis{stroke:#888}.grid{stroke:#e4e4e4}.fit{fill:none;"
    "stroke:#3366cc;stroke-width:2}.point{fill:#3366cc}.bar{stroke:#3366cc}.target{stroke:#c0392b;"
    "stroke-dasharray:5 4}.back{fill:#fff}"
)


def svg(met: Calibration) -> str:
    """A self-contained SVG document."""
    points = met.points
    low, high = 0.9 * min(p.T for p in points), 1.05 * max(p.T for p in points)
    most = 1.1 * max([met.target, *(p.H + 2 * p.se for p in points)])

    def x(T: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (T - low) / (high - low)

    def y(H: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(H, 0.0), most) / most

    parts = [f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>']
    parts += [_tick_x(x(T), f"{T:g}") for T in _ticks(low, high)]
    parts += [_tick_y(y(H), f"{H:g}") for H in _ticks(0.0, most)]
    grid = np.linspace(low, high, 80)
    curve = np.exp(fit(points, met.target)(np.log(grid)))
    drawn = " ".join(f"{x(T):.1f},{y(H):.1f}" for T, H in zip(grid, curve, strict=True))
    parts.append(f'<polyline class="fit" points="{drawn}"/>')
    for p in points:
        bar = f'x1="{x(p.T):.1f}" x2="{x(p.T):.1f}" y1="{y(p.H - 2 * p.se):.1f}" y2="{y(p.H + 2 * p.se):.1f}"'
        parts.append(f'<line class="bar" {bar}/>')
        parts.append(f'<circle class="point" cx="{x(p.T):.1f}" cy="{y(p.H):.1f}" r="4"/>')
    level, at = f"{y(met.target):.1f}", f"{x(met.T):.1f}"
    parts.append(f'<line class="target" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level}" y2="{level}"/>')
    parts.append(f'<line class="target" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    title = f"H_T = {met.check.H:.3f} ± {met.check.se:.3f} at T = {met.T:.3f} (target {met.target:g})"
    parts.append(f'<text x="{LEFT}" y="22">{title}; bars: two standard errors</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">temperature T</text>')
    middle = HEIGHT / 2
    turn = f'transform="rotate(-90 16 {middle})" text-anchor="middle"'
    parts.append(f'<text x="16" y="{middle}" {turn}>temperature-adjusted entropy, nats</text>')
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, about five."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick_x(x: float, text: str) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return f'{line}<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>'


def _tick_y(y: float, text: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
