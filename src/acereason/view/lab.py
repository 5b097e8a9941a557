"""Any number of runs, grouped by recipe over seeds: how the recipes differ, which is better, what flipped.

    members(folders) ─▶ grouped ─▶ table(groups)        a run, or a finished evaluation's folder or file

Runs with equal recipes but for the seeds (and what does not touch weights or measurement) are one group; the
first group is what the others are compared with, stage by stage and benchmark by benchmark, on the questions
that they share (`evaluate.lab`). Only what is kept per question is compared; where nothing was kept, the
means that the metrics tell stand in for it, and it is said.
"""

from __future__ import annotations

import contextlib
import json
import math
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from acereason import changes
from acereason.config import parse, resolved
from acereason.errors import ConfigError
from acereason.evaluate import lab
from acereason.evaluate.lab import Side
from acereason.files import read_file
from acereason.view.data import read_object
from acereason.view.tail import Row

SEEDS = ("seed", "data_seed", "draw_seed")
FLIPS = 25  # in each direction that are listed
END = "end"  # the last stage of each run, whatever its name
Rows = Mapping[str, Sequence[bool | None]]  # verdicts by question
Tables = Mapping[str, Mapping[str, Rows]]  # stage → benchmark


class Kept(msgspec.Struct):
    """One benchmark of a run's `evaluations/STAGE.json`."""

    ids: list[str]
    right: list[list[bool | None]]


@dataclass(frozen=True)
class Member:
    """One run. `scores`: (mean, se) by stage and benchmark where no verdicts were kept."""

    name: str
    folder: Path
    recipe: Mapping[str, Any] | None
    stages: Sequence[str]
    tables: Tables
    scores: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    @property
    def seed(self) -> str:
        """Its seeds as a text."""
        seeds = [(self.recipe or {}).get(name) for name in SEEDS]
        return "/".join(str(s) for s in seeds if s is not None) or self.name

    def stage(self, name: str) -> str:
        """The stage of that name; END is the last one."""
        return self.stages[-1] if name == END and self.stages else name


@dataclass(frozen=True)
class Group:
    """Runs of one recipe."""

    label: str
    members: Sequence[Member]

    def side(self, stage: str, benchmark: str, k: int = 0) -> Side:
        """{seed: {question: value}} of a stage's benchmark; runs without it are left out."""
        by_seed = {}
        for one in self.members:
            table = one.tables.get(one.stage(stage), {}).get(benchmark)
            if table and (values := lab.values(table, k)):
                by_seed[one.seed] = values
        return by_seed


def flat(recipe: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a recipe with their values: stage.code.steps, 60. A list of named sections also has its
    names: stage, ["math", "code"]."""
    if isinstance(recipe, dict):
        for key, value in recipe.items():
            yield from flat(value, f"{where}.{key}" if where else str(key))
    elif names := _names(recipe):
        yield where, names
        for one in recipe:
            yield from flat({k: v for k, v in one.items() if k != "name"}, f"{where}.{one['name']}")
    else:
        yield where, recipe


def _names(sections: Any) -> list[str]:
    named = isinstance(sections, list | tuple) and all(isinstance(s, dict) and "name" in s for s in sections)
    return [str(section["name"]) for section in sections] if named else []


def matters(key: str) -> bool:
    """Whether two runs that differ in this key are two recipes."""
    return key not in SEEDS and (not changes.free(key) or key.startswith("evaluation"))


def differing(recipes: Sequence[Mapping[str, Any] | None]) -> dict[str, list[Any]]:
    """Keys that differ, each with its value in every recipe; None where a recipe has no such key. Of a
    section that a recipe lacks as a whole only its name is told."""
    tables = [dict(flat(dict(recipe or {}))) for recipe in recipes]
    keys = dict.fromkeys(key for table in tables for key in table if matters(key))
    sections = {".".join(key.split(".")[:2]) for key in keys if key.startswith("stage.")}
    partly = {s for s in sections if not all(any(k.startswith(f"{s}.") for k in table) for table in tables)}
    rows = {key: [table.get(key) for table in tables] for key in keys}
    return {
        key: row
        for key, row in rows.items()
        if any(value != row[0] for value in row) and ".".join(key.split(".")[:2]) not in partly
    }


def grouped(members: Sequence[Member]) -> tuple[list[Group], list[str]]:
    """Groups in the order of their first runs, and what is to be said of them. A run again with the same seed
    is left out; runs of one recipe alone are compared one with the other."""
    groups: dict[str, dict[str, Member]] = {}
    notes = []
    for one in members:
        kept = dict(sorted((k, v) for k, v in flat(dict(one.recipe or {})) if matters(k)))
        known = groups.setdefault(json.dumps(kept) if kept else one.name, {})
        if one.seed in known:
            notes.append(f"{one.name} is left out: recipe and seed are those of {known[one.seed].name}")
        known.setdefault(one.seed, one)
    if len(groups) == 1 and len(members) > 1:
        alone = "all runs have one recipe: they are compared as runs, which says nothing of recipes"
        return [Group(_label(i), [one]) for i, one in enumerate(members)], [alone]
    return [Group(_label(i), list(g.values())) for i, g in enumerate(groups.values())], notes


def _label(number: int) -> str:
    letters = string.ascii_uppercase
    return (letters[number // 26 - 1] if number >= 26 else "") + letters[number % 26]


def member(name: str, folder: Path, scores: Mapping[str, Any] | None = None) -> Member:
    """A run, or an evaluation (which is one stage); RunError when it is neither."""
    if not (folder / "evaluations").is_dir() and not (folder / "recipe.json").exists():
        stage = folder.stem if folder.is_file() else "evaluation"
        return Member(name, folder, None, [stage], {stage: _of_evaluation(folder)})
    recipe = recipe_of(folder)
    order = ["sft", *(str(s.get("name")) for s in (recipe or {}).get("stage") or [] if isinstance(s, dict))]
    tables: dict[str, Mapping[str, Rows]] = {}
    for file in (folder / "evaluations").glob("*.json"):
        try:
            kept = msgspec.json.decode(read_file(file), type=dict[str, Kept])
            tables[file.stem] = {b: dict(zip(k.ids, k.right, strict=True)) for b, k in kept.items()}
        except (OSError, ValueError):
            continue  # damaged: the others are compared
    known = {*tables, *(scores or {})}
    stages = [s for s in order if s in known] + sorted(known - {*order})
    return Member(name, folder, recipe, stages, tables, scores or {})


def _of_evaluation(path: Path) -> dict[str, Rows]:
    """The benchmarks of an evaluation; RunError when there are none."""
    from acereason.evaluate.benchmarks import compared  # it knows how to make one, too: half a second

    return {table.name: table.rows for table in compared.tables(path)}


def recipe_of(folder: Path) -> Mapping[str, Any] | None:
    """The run's recipe with its defaults; None when there is none that can be read."""
    recipe = read_object(folder / "recipe.json", [])
    if recipe is None:
        return None
    with contextlib.suppress(ConfigError):
        return resolved(parse(recipe, recorded=True))  # keys that are newer than the run have their defaults
    return recipe


def table(members: Sequence[Member]) -> Row:
    """The groups, how they differ, and every comparison with the first group."""
    groups, notes = grouped(members)
    recipes = [group.members[0].recipe for group in groups]
    rows = [
        _comparison(groups[0], group, stage, benchmark, k)
        for group in groups[1:]
        for stage, benchmark in _asked(groups[0], group)
        for k in _ks(groups[0], group, stage, benchmark)
    ]
    return {
        "groups": [_group(group) for group in groups],
        "differs": [{"key": key, "values": row} for key, row in differing(recipes).items()],
        "comparisons": rows,
        "notes": notes,
    }


def _group(group: Group) -> Row:
    recipe = group.members[0].recipe or {}
    runs = [{"name": m.name, "seed": m.seed, "recipe": m.recipe is not None} for m in group.members]
    return {"label": group.label, "recipe": recipe.get("name"), "runs": runs}


def _asked(first: Group, second: Group) -> list[tuple[str, str]]:
    """(stage, benchmark) of what both were evaluated on: the common stages, and their ends."""
    stages = [[s for m in group.members for s in m.stages] for group in (first, second)]
    common = [s for s in dict.fromkeys(stages[0]) if s in stages[1]]
    ends = [{m.stages[-1] for m in group.members if m.stages} for group in (first, second)]
    last = common[-1] if common and ends[0] == ends[1] == {common[-1]} else END
    ordered = [*(s for s in common if s != last), last]
    return [(s, b) for s, names in product(ordered, [None]) for b in _benchmarks(first, second, s)]


def _benchmarks(first: Group, second: Group, stage: str) -> list[str]:
    sides = [
        {b for m in group.members for of in (m.tables, m.scores) for b in of.get(m.stage(stage), {})}
        for group in (first, second)
    ]
    return sorted(sides[0] & sides[1], reverse=True)


def _ks(first: Group, second: Group, stage: str, benchmark: str) -> list[int]:
    """0 for avg@k, and the largest k of pass@k that both sides have."""
    tables = [
        m.tables.get(m.stage(stage), {}).get(benchmark) for group in (first, second) for m in group.members
    ]
    most = [max((len(row) for row in t.values()), default=0) for t in tables if t is not None]
    return [0, min(most)] if most and min(most) > 1 else [0]


def _comparison(first: Group, second: Group, stage: str, benchmark: str, k: int) -> Row:
    sides = [group.side(stage, benchmark, k) for group in (first, second)]
    kept = all(sides)
    difference = lab.difference(*sides) if kept else _unpaired(first, second, stage, benchmark)
    names = [group.members[0].stage(stage) for group in (first, second)]
    said = lab.verdict(difference, first.label, second.label)
    about = {
        "groups": [first.label, second.label],
        "stage": names[0] if names[0] == names[1] else " → ".join(names),
        "end": stage == END or all(m.stages[-1:] == [stage] for g in (first, second) for m in g.members),
        "benchmark": benchmark,
        "measure": f"pass@{k}" if k else "avg@k",
        "scores": [_level(side) for side in sides] if kept else [None, None],
        "difference": _difference(difference),
        "verdict": f"{benchmark}{f' pass@{k}' if k else ''}: {said}.",
    }
    turned = lab.flips(*sides) if kept and difference and not k else []
    return {**about, "flips": _flips(turned, (first, second), stage, benchmark)}


def _unpaired(first: Group, second: Group, stage: str, benchmark: str) -> lab.Difference | None:
    scores = [
        [one for m in group.members if (one := m.scores.get(m.stage(stage), {}).get(benchmark))]
        for group in (first, second)
    ]
    return lab.unpaired(scores) if all(scores) else None


def _level(side: Side) -> Row:
    mean, se = lab.level(side)
    n = round(sum(map(len, side.values())) / len(side))
    return {"accuracy": mean, "se": _known(se), "n": n, "k": 1, "seeds": len(side)}


def _difference(difference: lab.Difference | None) -> Row:
    if difference is None:
        return {"refused": True}
    row = {
        name: getattr(difference, name)
        for name in ("mean", "seeds", "questions", "left_out", "matched", "needed")
    }
    ends = {name: _known(getattr(difference, name)) for name in ("se", "low", "high")}
    return {"refused": False, "paired": difference.questions > 0, "sign": difference.sign, **row, **ends}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _flips(turned: Sequence[lab.Flip], groups: tuple[Group, Group], stage: str, benchmark: str) -> Row:
    ways = [[f for f in turned if (f.after > f.before) is up] for up in (True, False)]
    rows = [
        {"question": f.question, "seed": f.seed, "before": f.before, "after": f.after}
        | {"answers": [_answers(group, f, stage, benchmark) for group in groups]}
        for way in ways
        for f in way[:FLIPS]
    ]
    return {"gained": len(ways[0]), "lost": len(ways[1]), "rows": rows}


def _answers(group: Group, flip: lab.Flip, stage: str, benchmark: str) -> Row | None:
    """Where a run of the group keeps its answers to the question."""
    for one in group.members:
        asked = one.tables.get(one.stage(stage), {}).get(benchmark)
        if asked and flip.question in asked and flip.seed in ("", one.seed):
            file = _file(one.folder, f"evaluation-{benchmark}-{one.stage(stage)}")
            return {"run": one.name, "file": file} if file else None
    return None


@lru_cache(maxsize=4096)
def _file(folder: Path, name: str) -> str | None:
    """The last responses file of that name, without its ending."""
    stems = [p.stem for p in (folder / "responses").glob("*.jsonl") if p.stem.rpartition("-")[0] == name]
    return max(stems, key=lambda stem: stem.rpartition("-")[2], default=None)
