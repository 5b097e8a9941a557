"""`compare`: evaluations and runs, question by question; any number of them, grouped by recipe over seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from acereason.cli.common import out
from acereason.errors import ConfigError, DataError

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...",
            help="runs' or evaluations' folders, or RUN/evaluations/STAGE.json; the first is what the others "
            "are compared with",
        ),
    ],
    plot: Annotated[Path | None, typer.Option(help="write pass@k of all as SVG")] = None,
    flips: Annotated[int, typer.Option(min=0, help="so many questions that flipped, each way")] = 0,
    stages: Annotated[bool, typer.Option("--stages", help="every stage, not only the last")] = False,
    as_json: AsJson = False,
) -> None:
    """Which is better, on the questions that both were asked: two evaluations or runs with a paired bootstrap
    interval; more of them grouped by recipe over their seeds, with a verdict for each recipe. Of a run its
    last evaluated stage is taken."""
    if len(folders) < 2:
        raise ConfigError("expected two or more folders to compare, found one")
    if plot is not None:
        _plot(folders, plot)
    if len(folders) == 2 and not (flips or stages):
        _two(folders[0], folders[1], as_json)
    else:
        _many(folders, flips, stages, as_json)


def _plot(folders: Sequence[Path], plot: Path) -> None:
    from acereason.evaluate.benchmarks import compared
    from acereason.evaluate.benchmarks.plot import pass_at_k

    curves = {f"{t.title} {f.stem}": compared.curve(t) for f in folders for t in compared.tables(f)}
    drawn = {name: points for name, points in curves.items() if points}
    if not drawn:
        raise DataError("there is no curve to draw: no question had all its samples judged")
    plot.write_text(pass_at_k(drawn))


def _two(before: Path, after: Path, as_json: bool) -> None:
    from rich.table import Table

    from acereason.evaluate.benchmarks import compared, scores

    differences = scores.compare(compared.tables(before), compared.tables(after))
    if as_json:
        out.print_json(json.dumps(compared.finite(differences)))
        return
    table = Table("benchmark", "questions", "before, %", "after, %", "difference", "95 %, paired bootstrap")
    for row in differences:
        interval = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
        difference = f"{100 * row.mean:+.1f} ± {100 * row.se:.1f}"
        shares = [scores.per_cent(share) for share in (row.before, row.after)]
        table.add_row(row.title, str(row.n), *shares, difference, interval)
    out.print(table)
    for note in compared.noted(differences):
        out.print(note, markup=False)


def _many(folders: Sequence[Path], flips: int, stages: bool, as_json: bool) -> None:
    """Groups, what differs, and a sentence for each comparison."""
    from acereason.view import lab

    names = _names(folders)
    comparison = lab.table([lab.member(name, folder) for name, folder in zip(names, folders, strict=True)])
    if as_json:
        out.print_json(json.dumps(comparison))
        return
    _recipes(comparison)
    for row in comparison["comparisons"]:
        if stages or row["end"]:
            out.print(f"{row['stage']}: {row['verdict']}" if stages else row["verdict"], markup=False)
            _flips(row, flips)
    for note in comparison["notes"]:
        out.print(note, markup=False)
    if not comparison["comparisons"]:
        out.print("nothing to compare: one recipe, or no evaluation of one benchmark in two recipes")


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or all of it where two are alike."""
    short = [folder.resolve().name for folder in folders]
    return [str(f) if short.count(n) > 1 else n for f, n in zip(folders, short, strict=True)]


def _recipes(comparison: dict[str, Any]) -> None:
    from rich.table import Table

    for group in comparison["groups"]:
        runs = ", ".join(f"{run['name']} (seed {run['seed']})" for run in group["runs"])
        out.print(f"{group['label']}  {group['recipe'] or 'an evaluation'}: {runs}", markup=False)
    if comparison["differs"]:
        table = Table("key", *(group["label"] for group in comparison["groups"]))
        for row in comparison["differs"]:
            table.add_row(row["key"], *(_said(value) for value in row["values"]))
        out.print(table)


def _said(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def _flips(row: dict[str, Any], most: int) -> None:
    for up in (True, False):
        rows = [one for one in row["flips"]["rows"] if (one["after"] > one["before"]) is up][:most]
        for one in rows:
            shares = f"{one['before']:.0%} → {one['after']:.0%}"
            seed = f" (seed {one['seed']})" if one["seed"] else ""
            out.print(f"  {'gained' if up else 'lost'}  {one['question']}{seed}  {shares}", markup=False)
