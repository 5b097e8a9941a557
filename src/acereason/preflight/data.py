"""The data of a recipe: every file read, every row counted, every stage with prompts that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from acereason.config import Files, Recipe, Stage
from acereason.curate.fit import check_held_out, fitting, stages_of
from acereason.curate.funnel import Funnel
from acereason.curate.own import OwnData, read_files
from acereason.errors import AceReasonError, ConfigError
from acereason.preflight import model
from acereason.preflight.finding import Finding
from acereason.problems import Problem
from acereason.published.records import level_of
from acereason.published.rows import raw_rows
from acereason.verify.domains import domain

LARGE = 1 << 29  # bytes of all files together, above which only their beginnings are read here
FIRST = 1000


def data(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """Files or tasks, then every stage on them."""
    for stage in recipe.stage:
        for name in stage.domains:
            try:
                domain(name)
            except ConfigError as error:
                yield Finding("error", f"stage.{stage.name}.domain", str(error))
    if recipe.curate.files is not None:
        yield from _files(recipe, recipe.curate.files)
    elif recipe.curate.tasks:
        yield from _tasks(recipe)
    else:
        yield Finding("error", "curate", "no data: give [curate.files], or [curate.tasks.DOMAIN]")


def _tasks(recipe: Recipe) -> Iterator[Finding]:
    from acereason.procedural import FAMILIES, find, gym

    for name, tasks in recipe.curate.tasks.items():
        if unknown := [family for family in tasks.families if find(family) is None]:
            known = ", ".join((*FAMILIES, *gym.LEVELS))
            yield Finding("error", f"curate.tasks.{name}", f"no family {unknown[0]!r}; known: {known}")
        if any(family.startswith("rg") for family in tasks.families) and not gym.installed():
            yield Finding(
                "error", f"curate.tasks.{name}", "needs reasoning-gym: pip install 'acereason[base]'"
            )
    for stage in recipe.stage:
        for name in set(stage.domains) - set(recipe.curate.tasks):
            yield _no_prompts(stage, name, sorted(recipe.curate.tasks))


def _no_prompts(stage: Stage, name: str, domains: Sequence[str]) -> Finding:
    return Finding(
        "error", f"stage.{stage.name}", f"no prompt of domain {name!r}; there are: {', '.join(domains)}"
    )


def paths(files: Files) -> dict[str, str]:
    """Every file that a recipe names, by its key."""
    rl = {"rl": files.rl} if isinstance(files.rl, str) else {f"rl.{k}": v for k, v in files.rl.items()}
    named = {**rl, "held_out": files.held_out, "sft": files.sft, "traces": files.traces}
    return {f"curate.files.{key}": value for key, value in named.items() if value is not None}


def _files(recipe: Recipe, files: Files) -> Iterator[Finding]:
    here = {key: Path(value).expanduser() for key, value in paths(files).items()}
    missing = {key: path for key, path in here.items() if not path.is_file()}
    for key, path in missing.items():
        yield Finding("error", key, f"there is no file {path}")
    if missing:
        return
    size = sum(path.stat().st_size for path in here.values())
    if size > LARGE:
        yield from _beginnings(here, size)
        return
    own = read_files(files, recipe.curate)
    for funnel in own.funnels:
        yield _told(funnel)
    yield from _stages(recipe, own)


def _beginnings(files: dict[str, Path], size: int) -> Iterator[Finding]:
    yield Finding(
        "note", "data", f"{size / 1e9:.1f} GB: the first {FIRST:,} rows of each file are read here, the rest "
        "when the run begins"
    )  # fmt: skip
    for key, path in files.items():
        for read, _ in zip(raw_rows(path), range(FIRST), strict=False):
            if read.row is None:
                yield Finding("warning", key, f"{path}, {read.place}: {read.reason}")
                break


def _told(funnel: Funnel) -> Finding:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in funnel.reasons.items())
    text = f"{funnel.before:,} rows, {funnel.after:,} taken" + (f"; set aside: {dropped}" if dropped else "")
    return Finding("warning" if dropped else "note", funnel.name, text)


def _stages(recipe: Recipe, own: OwnData) -> Iterator[Finding]:
    """What each stage may ask, by its domain, its levels and the context."""
    problems = own.rl
    try:
        room, length = model.context(recipe), model.prompt_length(recipe)
    except AceReasonError:
        room = length = None  # said by the model's own check
    if room is not None and length is not None:
        check_held_out(own.held_out, recipe.evaluation.budget, room, length)
        problems, lines = fitting(problems, recipe, room, length)
        for line in lines:
            yield _told(line)
    for stage in recipe.stage:
        yield from _stage(stage, recipe, problems, own.rl)


def _stage(
    stage: Stage, recipe: Recipe, fit: Sequence[Problem], every: Sequence[Problem]
) -> Iterator[Finding]:
    asked = [p for p in fit if stage in stages_of(p, recipe)]
    there = sorted({p.domain for p in every})
    if missing := [name for name in stage.domains if name not in there]:
        yield _no_prompts(stage, missing[0], there)
        return
    if not asked:
        yield Finding("error", f"stage.{stage.name}", "no prompt is short enough for its budget")
        return
    if stage.filter.levels is not None:
        low, high = stage.filter.levels
        levels = [level_of(p.meta.get("level")) for p in asked]
        inside = sum(level is not None and low <= level <= high for level in levels)
        if none := sum(level is None for level in levels):
            yield Finding(
                "warning", f"stage.{stage.name}", f"{none:,} prompts have no level and are left out"
            )
        if not inside:
            known = sorted({level for level in levels if level is not None})
            yield Finding(
                "error", f"stage.{stage.name}.filter.levels", f"no prompt has a level from {low} to {high}; "
                + (f"there are {known[0]} to {known[-1]}" if known else "none has a level")
            )  # fmt: skip
            return
    if len(asked) < stage.prompts:
        yield Finding(
            "warning", f"stage.{stage.name}", f"{stage.prompts} prompts a step, and {len(asked)} in all: a "
            "step asks every one; name fewer"
        )  # fmt: skip
    else:
        yield Finding("note", f"stage.{stage.name}", f"{len(asked):,} prompts")
