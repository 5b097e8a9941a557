"""The table of docs/base.md, from runs of the base recipe: `python docs/base_table.py runs/base-1 …`

A run's rows are its base, few-shot where `benchmarks/few_shot.py` was asked, then its stages; differences are
paired by question. Standard errors are over questions, intervals at 95 %; of several runs together by a
two-level bootstrap, over runs and in each over questions. Also writes docs/base.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
import numpy as np

from acereason.evaluate import summary
from acereason.evaluate.estimates import average, paired_difference, pass_at_k
from acereason.evaluate.seeds import Column
from acereason.evaluate.summary import Result
from acereason.study.effects import interval

HERE = Path(__file__).parent
PAGE = HERE / "base.md"
BEGIN, END = "<!-- base: begin -->", "<!-- base: end -->"


def results(run: Path) -> dict[str, dict[str, Result]]:
    """By row, in order, and domain: what a run's base and stages answered."""
    stages = [stage["name"] for stage in json.loads((run / "recipe.json").read_text())["stage"]]
    files = {"base, few-shot": run / "few-shot.json", "SFT": run / "evaluations" / "sft.json"}
    files |= {f"RL {name}": run / "evaluations" / f"{name}.json" for name in stages}
    return {
        name: msgspec.json.decode(file.read_bytes(), type=dict[str, Result])
        for name, file in files.items()
        if file.exists()
    }


def part(result: Result, family: str | None) -> Result:
    """The questions of one family; None: all."""
    at = [i for i, own in enumerate(result.families) if family in (None, own)]
    rows = (result.ids, result.right, result.families, result.modes)
    return Result(*([column[i] for i in at] for column in rows))  # type: ignore[arg-type]


def cell(result: Result) -> str:
    found = average(result.right)
    return f"{100 * found.mean:.1f} ± {100 * 1.96 * found.se:.1f}"


def difference(before: Result, after: Result) -> str:
    found = paired_difference(before.right, after.right)
    return f"**{100 * found.mean:+.1f}** ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def columns(every: dict[str, dict[str, Result]]) -> list[tuple[str, str, str | None]]:
    """(title, domain, family): a domain, then its families."""
    first = next(iter(every.values()))
    found: list[tuple[str, str, str | None]] = []
    for domain, result in (every.get("SFT") or first).items():
        found.append((domain, domain, None))
        families = sorted(set(result.families))
        found += [(f.removeprefix("rg-"), domain, f) for f in families if len(families) > 1]
    return found


def table(run: Path) -> list[str]:
    """One run's table."""
    every = results(run)
    shown = columns(every)
    math = every["SFT"]["math"]
    k = len(math.right[0])
    lines = [
        f"| {run.name}, % | {' | '.join(title for title, _, _ in shown)} | math pass@{k} | worked out |",
        "|---" * (len(shown) + 3) + "|",
    ]
    for name, found in every.items():
        cells = [cell(part(found[d], f)) if d in found else "–" for _, d, f in shown]
        samples = len(found["math"].right[0])
        reached = pass_at_k(found["math"].right, k).mean if samples >= k else None
        most = f"– (k {samples})" if reached is None else f"{100 * reached:.1f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {most} | {worked(found['math'])} |")
    last = every[list(every)[-1]]
    gains = [difference(part(every["SFT"][d], f), part(last[d], f)) for _, d, f in shown]
    more = summary.gain_pass_at_k(math, last["math"])[str(k)]
    ends = [100 * (more[end] or 0.0) for end in ("mean", "low", "high")]
    reach = "{:+.1f} ({:+.1f} to {:+.1f})".format(*ends)
    return [*lines, f"| **RL over SFT** | {' | '.join(gains)} | {reach} | |"]


def worked(result: Result) -> str:
    """The share of responses that do not give the answer at once, and how many of these are right."""
    if not any(result.modes):
        return "–"
    right = [
        bool(ok)
        for row, modes in zip(result.right, result.modes, strict=True)
        for ok, mode in zip(row, modes, strict=True)
        if mode == "steps"
    ]
    share = len(right) / sum(map(len, result.modes))
    return f"{100 * share:.0f}, right {100 * mean(right):.1f}" if right else "0"


def together(runs: Sequence[Path]) -> str:
    """The gain of RL in math over all runs."""
    columns = []
    for run in runs:
        every = results(run)
        before, after = every["SFT"]["math"], every[list(every)[-1]]["math"]
        each = [[mean(map(bool, row)) for row in result.right] for result in (after, before)]
        columns.append(Column(100 * np.subtract(*map(np.array, each)), run.name))
    gain, low, high = interval(columns, 4000)
    return f"**All {len(runs)} seeds: {gain:+.1f}** ({low:+.1f} to {high:+.1f}) points in math."


def said(run: Path) -> str:
    """Below a table: what was asked, how long it took, and how H_T was held."""
    recipe = json.loads((run / "recipe.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rl = [row for row in rows if row["kind"] == "rl"]
    count, half = len(results(run)["SFT"]["math"].ids), rl[len(rl) // 2 :]
    off = [mean(row["H_T"] - row["H_target"] for row in some) for some in (rl[: len(rl) // 2], half)]
    seconds = mean(row["seconds"]["total"] for row in rl)
    reward = [mean(row["reward"] for row in some) for some in (rl[:10], rl[-10:])]
    return (
        f"Seed {recipe['seed']}, split `{recipe['curate']['split']}`: {count} math problems, {len(rl)} "
        f"steps of RL, {seconds:.0f} s each. Reward of the first and last ten steps: {reward[0]:.3f}, "
        f"{reward[1]:.3f}. H_T less its target, mean of each half: {off[0]:+.3f}, {off[1]:+.3f} nats; "
        f"T {rl[0]['T']:.2f} at the start, {rl[-1]['T']:.2f} at the end."
    )


def main(runs: Sequence[str]) -> None:
    folders = [Path(run) for run in runs]
    text = "\n\n".join("\n".join([*table(run), "", said(run)]) for run in folders)
    text += f"\n\n{together(folders)}" if len(folders) > 1 else ""
    numbers: dict[str, Any] = {run.name: json.loads((run / "summary.json").read_text()) for run in folders}
    (HERE / "base.json").write_text(json.dumps(numbers, indent=1) + "\n")
    page = PAGE.read_text()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(f"{page[:begin]}\n{text}\n{page[end:]}")


if __name__ == "__main__":
    main(sys.argv[1:])
