"""From studies to the runs they need: every arm × seed once, whoever asks for it.

An arm's address is a hash of what it was made from (its recipe as written, its start's address, the seed,
what one's own files hold), and not of resolved defaults or paths; so equal arms of two studies are one run,
and what was computed elsewhere, or before the program had a new setting, is found again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from acereason import keys
from acereason.errors import ConfigError
from acereason.files import file_hash
from acereason.study.spec import ArmRow, Lab, Scale, Size, Study, expand, fingerprint


@dataclass(frozen=True)
class Own:
    """A model of one's own in the place of the lab's, the files it learns from, settings for every recipe.

    With traces among the files the model takes the place of the base and is fine-tuned; without, it takes
    that of every SFT model."""

    model: Path
    address: str  # of its weights
    files: Mapping[str, str]
    settings: tuple[str, ...] = ()

    @cached_property
    def contents(self) -> dict[str, str]:
        """A hash of each file: what stands in a recipe in place of where the file lies."""
        return {kind: file_hash(Path(file))[:16] for kind, file in self.files.items()}

    def replaces(self, row: ArmRow) -> bool:
        """Whether it takes the place of an arm."""
        return row.phase.split("-")[0] == ("base" if "traces" in self.files else "sft")

    def asked(self, row: ArmRow, study: Study) -> ArmRow:
        """The arm that only evaluates this model, instead of one that would make it."""
        if row.name not in ("base", "sft"):
            raise ConfigError(
                f"{study.name} compares fine-tuned models (arm {row.name}), and one model is given. With "
                "what it is tuned on (--data sft=FILE --data traces=FILE) it takes the base's place instead"
            )
        return ArmRow(row.name, "evaluate")

    def set(self, data: dict[str, Any]) -> None:
        """Put the files' hashes and the settings that fit into a recipe."""
        data["curate"] = {"files": dict(self.contents)}
        for setting in self.settings:
            section = setting.partition(".")[0]
            if section not in ("stage", "sft") or section in data:
                keys.assign(data, setting)


@dataclass(frozen=True)
class Ground:
    """Where arms stand: the lab at a size, the questions asked, and one's own model if there is one."""

    lab: Lab
    size: Size
    split: str
    own: Own | None = None

    @property
    def scale(self) -> Scale:
        return self.lab.size[self.size]


@dataclass(frozen=True)
class Job:
    """One arm at one seed. `recipe` is plain data without model.path, which `start`, a job's address or one's
    own model's, gives when the job is run, and with hashes of one's own `files` in place of their paths."""

    address: str
    name: str
    study: str
    seed: int
    phase: str
    recipe: dict[str, Any]
    start: str | None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All jobs by address, each after its start, and the addresses of each study's arms."""

    jobs: dict[str, Job]
    arms: dict[str, dict[tuple[str, int], str]]  # study → (arm, seed) → address


def plan(studies: Sequence[Study], ground: Ground) -> Plan:
    """The jobs of some studies. ConfigError: an arm that is not defined, a setting that does not fit."""
    jobs: dict[str, Job] = {}
    arms: dict[str, dict[tuple[str, int], str]] = {}
    for study in studies:
        rows = {**expand(ground.lab.arm), **expand(study.arm)}
        wanted = [*study.use, *expand(study.arm)]
        arms[study.name] = {
            (name, seed): _job(name, rows, study, seed, ground, jobs)
            for seed in seeds(study, ground)
            for name in wanted
        }
    return Plan(jobs, arms)


def seeds(study: Study, ground: Ground) -> tuple[int, ...]:
    """The seeds that a study takes at this size."""
    return study.seeds[: ground.scale.seeds]


def _job(
    name: str, rows: Mapping[str, ArmRow], study: Study, seed: int, ground: Ground, jobs: dict[str, Job]
) -> str:
    """Add an arm's job and those it starts from; returns its address."""
    if name not in rows:
        raise ConfigError(f"{study.name}: no arm is called {name!r}; known: {', '.join(rows)}")
    row = rows[name]
    if row.phase not in ground.lab.phase:
        known = ", ".join(ground.lab.phase)
        raise ConfigError(f"{study.name}, arm {name}: no phase {row.phase!r}; known: {known}")
    own = ground.own
    if own is not None and own.replaces(row):
        row = own.asked(row, study)
        start: str | None = own.address
    else:
        start = row.start and _start(row.start, rows, study, seed, ground, jobs)
    recipe = _recipe(row, seed, ground)
    address = fingerprint([recipe, start])
    recipe["name"] = f"{study.name}-{name}"
    files = {} if own is None else own.files
    jobs.setdefault(address, Job(address, name, study.name, seed, row.phase, recipe, start, files))
    return address


def _start(
    name: str, rows: Mapping[str, ArmRow], study: Study, seed: int, ground: Ground, jobs: dict[str, Job]
) -> str:
    """The address that an arm starts from: one's own model itself, or another arm's job."""
    own = ground.own
    if own is None or name not in rows or not own.replaces(rows[name]):
        return _job(name, rows, study, seed, ground, jobs)
    own.asked(rows[name], study)
    return own.address


def _recipe(row: ArmRow, seed: int, ground: Ground) -> dict[str, Any]:
    """An arm's recipe as plain data, without its name and model.path."""
    lab, scale, own = ground.lab, ground.scale, ground.own
    phase = lab.phase[row.phase]
    data = merged(lab.recipe, phase.recipe)
    settings = [s.replace("{seed}", str(seed)) for s in (*scale.set.get(row.phase, ()), *row.set)]
    if own is not None:
        own.set(data)
        settings = [_for_files(s) for s in settings if "curate.tasks." not in s]
    if phase.part == "rl":
        data["stage"] = [_stage(data.get("stage", []), name) for name in row.stages]
    for setting in settings:
        keys.assign(data, setting)
    _scaled(data, scale)
    data["curate"]["split"] = ground.split
    return {**data, "seed": seed}


def _for_files(setting: str) -> str:
    return setting.replace("curate.responses_per_prompt", "curate.files.responses")


def _stage(stages: Iterable[Mapping[str, Any]], wanted: str) -> dict[str, Any]:
    """A copy of the stage of that name; "NAME as OTHER" renames it."""
    name, _, other = wanted.partition(" as ")
    for stage in stages:
        if stage["name"] == name:
            return {**copy.deepcopy(dict(stage)), "name": other or name}
    raise ConfigError(f"no stage is called {name!r} in the lab")


def _scaled(data: dict[str, Any], scale: Scale) -> None:
    """The recipe at another size, in place."""
    for stage in data.get("stage", []):
        stage["steps"] = max(2, round(stage["steps"] * scale.steps))
        stage["prompts"] = max(2, round(stage["prompts"] * scale.batch))
        if not scale.calibrated:
            stage["temperature"] = {"rule": "fixed", "value": 1.0}
            stage.pop("temperatures", None)
        if "tokens" in stage.get("stop", {}):
            stage["stop"]["tokens"] = max(1, round(stage["stop"]["tokens"] * scale.steps))
    for tasks in data["curate"].get("tasks", {}).values():
        tasks["held_out"] = max(4, round(tasks["held_out"] * scale.questions))
        for key in ("sft_prompts", "rl_prompts"):
            tasks[key] = max(16, round(tasks[key] * scale.prompts))
    if "sft" in data:
        data["sft"]["epochs"] = max(1, round(data["sft"]["epochs"] * scale.epochs))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section; a deep copy."""
    whole = copy.deepcopy(dict(below))
    for key, value in above.items():
        known = whole.get(key)
        both = isinstance(known, dict) and isinstance(value, Mapping)
        whole[key] = merged(known, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return whole
