"""The README's picture and table, from runs of the demo: `make figures RUNS="runs/demo …"`, the first drawn.

Writes docs/demo.json (every number, with the recipe's hash), docs/demo-light.svg, docs/demo-dark.svg and the
table between the markers of README.md. A test sees to it that all three tell the same, and that the demo's
recipe still has the settings that the runs had: a key added since, at its default, does not make them stale.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- demo: begin -->", "<!-- demo: end -->"
Z95 = 1.959964
WIDTH, HEIGHT, TOP, BOTTOM = 1200, 500, 74, 440
INK = {
    "light": ("#ffffff", "#1f2328", "#6e7781", "#d8dee4"),
    "dark": ("#0d1117", "#e6edf3", "#8b949e", "#30363d"),
}
COLOURS = {"light": ("#0550ae", "#bc4c00", "#1a7f37"), "dark": ("#79c0ff", "#ffa657", "#7ee787")}
Points = Sequence[tuple[float, float]]


def numbers(folders: Sequence[Path]) -> dict[str, Any]:
    """What the picture and the table say."""
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    rows = [json.loads(line) for line in (folders[0] / "metrics.jsonl").read_text().splitlines()]
    rl = [row for row in rows if row["kind"] == "rl"]
    return {
        "recipe": manifest["recipe"],
        "recipe_sha256": manifest["recipe_sha256"],
        "settings": json.loads((folders[0] / "recipe.json").read_text()),
        "packages": manifest["packages"],
        "processor": manifest["machine"]["processor"],
        "seeds": [summary["seed"] for summary in summaries],
        "stages": [_stage(stage, rl) for stage in summaries[0]["stages"]],
        "gain": summaries[0]["gain"],
        "gains": {d: [s["gain"][d]["mean"] for s in summaries] for d in summaries[0]["gain"]},
        "reward": [[row["step"] - rl[0]["step"], row["reward"]] for row in rl],
        "H_T": [[row["step"] - rl[0]["step"], row["H_T"]] for row in rl],
        "H_target": [
            [row["step"] - rl[0]["step"], row["H_target"]] for row in rl if row["H_target"] is not None
        ],
        "ends": [i for i, (a, b) in enumerate(pairwise(rl)) if a["stage"] != b["stage"]],
    }


def _stage(stage: dict[str, Any], rl: list[dict[str, Any]]) -> dict[str, Any]:
    own = [row for row in rl if row["stage"] == stage["name"]]
    told = {
        d: [e["accuracy"], e["se"], max(e["pass_at_k"].items(), key=lambda p: int(p[0]))]
        for d, e in stage["evaluation"].items()
    }
    return {
        "name": stage["name"],
        "budget": own[0]["budget"] if own else None,
        "T": stage["T"],
        "H_T": statistics.fmean(row["H_T"] for row in own) if own else None,
        "evaluation": told,
    }


def table(told: dict[str, Any]) -> str:
    """The README's table."""
    domains = list(told["gain"])
    lines = [
        f"| stage | T | mean H_T | {' | '.join(f'{d}, %' for d in domains)} |",
        "|---" * (3 + len(domains)) + "|",
    ]
    for stage in told["stages"]:
        T, H = (("–" if stage[x] is None else f"{stage[x]:.2f}") for x in ("T", "H_T"))
        cells = [
            f"{100 * a:.1f} ± {100 * Z95 * se:.1f}" for a, se, _ in (stage["evaluation"][d] for d in domains)
        ]
        name = "SFT" if stage["budget"] is None else f"RL {stage['name']}, budget {stage['budget']}"
        lines.append(f"| {name} | {T} | {H} | {' | '.join(cells)} |")
    gains = [told["gain"][d] for d in domains]
    cells = [f"**{100 * g['mean']:+.1f}** ({100 * g['low']:.1f} to {100 * g['high']:.1f})" for g in gains]
    lines.append(f"| **gain over SFT** (paired, 95 %) | | | {' | '.join(cells)} |")
    wide = [
        f"{d} {100 * float(told['stages'][0]['evaluation'][d][2][1]):.1f} → "
        f"{100 * float(told['stages'][-1]['evaluation'][d][2][1]):.1f}"
        for d in domains
    ]
    k = told["stages"][0]["evaluation"][domains[0]][2][0]
    seeds = [f"{d} {', '.join(f'{100 * g:+.1f}' for g in told['gains'][d])}" for d in domains]
    lines += [
        "",
        f"pass@{k}, %: {'; '.join(wide)}. Gains of seeds {', '.join(map(str, told['seeds']))}: "
        f"{'; '.join(seeds)} points. Recipe `{told['recipe_sha256'][:8]}`.",
    ]
    return "\n".join(lines)


def picture(told: dict[str, Any], theme: str) -> str:
    """An SVG of 1200 × 500: accuracy after each stage, reward, H_T."""
    paper, ink, soft, rule = INK[theme]
    colours = COLOURS[theme]
    domains = list(told["gain"])
    names = [s["name"] for s in told["stages"]]
    last = told["reward"][-1][0]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="15" '
        f'fill="{ink}" role="img">',
        f"<title>The demo, recipe {told['recipe_sha256'][:8]}: accuracy, reward, entropy</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{paper}"/>',
    ]
    panel = Panel(out, 56, 400, (-0.3, len(names) - 0.7), (0, 1), rule, soft)
    panel.frame("accuracy on held-out questions, %", [0, 0.25, 0.5, 0.75, 1], lambda y: f"{100 * y:.0f}")
    for domain, colour in zip(domains, colours, strict=False):
        values = [s["evaluation"][domain] for s in told["stages"]]
        panel.line([(i, v[0]) for i, v in enumerate(values)], colour, 2.5)
        for i, (accuracy, se, _) in enumerate(values):
            panel.line([(i, accuracy - Z95 * se), (i, accuracy + Z95 * se)], colour, 2.5)
            panel.dot(i, accuracy, colour)
        highest = values[-1][0] == max(told["stages"][-1]["evaluation"][d][0] for d in domains)
        panel.text(len(names) - 1, values[-1][0] + (0.05 if highest else -0.09), domain, colour, "end")
    for i, name in enumerate(names):
        panel.text(i, -0.09, name, soft, "middle")
    panel = Panel(out, 470, 780, (0, last), (0, 1), rule, soft)
    panel.frame("reward, by RL step", [0, 0.25, 0.5, 0.75, 1], lambda y: f"{y:.2f}")
    panel.stages(told["ends"])
    panel.line(told["reward"], colours[2], 1.8)
    top = 1.25 * max(h for _, h in told["H_T"])
    panel = Panel(out, 850, 1160, (0, last), (0, top), rule, soft)
    panel.frame("temperature-adjusted entropy, nats", [0, top / 2, top], lambda y: f"{y:.2f}")
    panel.stages(told["ends"])
    panel.line(told["H_T"], colours[0], 1.8)
    panel.line(told["H_target"], colours[1], 1.8, dashed=True)
    panel.text(told["H_target"][-1][0] + 2, told["H_target"][-1][1], "target", colours[1], "start")
    return "\n".join([*out, "</svg>\n"])


class Panel:
    """One plot between two places of the picture."""

    def __init__(
        self,
        out: list[str],
        left: int,
        right: int,
        x: tuple[float, float],
        y: tuple[float, float],
        *inks: str,
    ):
        self.out, self.left, self.right, self.x, self.y = out, left, right, x, y
        self.rule, self.soft = inks

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), BOTTOM - up * (BOTTOM - TOP)

    def frame(self, title: str, ticks: Iterable[float], say: Any) -> None:
        self.out.append(f'<text x="{self.left}" y="{TOP - 28}" font-size="17">{title}</text>')
        for tick in ticks:
            y = self.at(0, tick)[1]
            self.out.append(f'<path d="M{self.left} {y:.1f}H{self.right}" stroke="{self.rule}"/>')
            self.out.append(
                f'<text x="{self.left - 8}" y="{y + 5:.1f}" text-anchor="end" fill="{self.soft}">'
                f"{say(tick)}</text>"
            )

    def stages(self, ends: Iterable[int]) -> None:
        for end in ends:
            x = self.at(end + 0.5, 0)[0]
            self.out.append(
                f'<path d="M{x:.1f} {TOP}V{BOTTOM}" stroke="{self.rule}" stroke-dasharray="3 4"/>'
            )

    def line(self, points: Points, colour: str, width: float, dashed: bool = False) -> None:
        path = "L".join("{:.1f} {:.1f}".format(*self.at(x, y)) for x, y in points)
        dash = ' stroke-dasharray="7 5"' if dashed else ""
        self.out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        a, b = self.at(x, y)
        self.out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="5" fill="{colour}"/>')

    def text(self, x: float, y: float, words: str, colour: str, anchor: str) -> None:
        a, b = self.at(x, y)
        self.out.append(
            f'<text x="{a:.1f}" y="{b:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
        )


def with_table(readme: str, told: dict[str, Any]) -> str:
    """The README with its table replaced."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(told)}\n{END}{after}"


def changed(then: Any, now: Any, key: str = "") -> Iterable[str]:
    """The keys whose value is no longer what the runs had; the seed and the machine's threads do not count.
    `then` and `now` are resolved recipes."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name, value in then.items():
            yield from changed(value, now.get(name), f"{key}.{name}".lstrip("."))
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for at, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from changed(one, other, f"{key}[{at}]")
    elif then != now and key not in ("seed", "sampling.threads"):
        yield key


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]]
    if not folders:
        sys.exit("which runs? python docs/figures.py runs/demo [more seeds …]")
    told = numbers(folders)
    (HERE / "demo.json").write_text(json.dumps(told, indent=1) + "\n")
    for theme in INK:
        (HERE / f"demo-{theme}.svg").write_text(picture(told, theme))
    README.write_text(with_table(README.read_text(), told))


if __name__ == "__main__":
    main()
