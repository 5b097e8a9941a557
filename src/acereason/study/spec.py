"""A study as data: TOML → a claim, the arms that test it, and the rule that decides, all stated beforehand.

    studies/lab.toml   the recipe of every phase (base, sft, rl), arms that studies share, the sizes
    studies/F5.toml    a claim: its own arms, seeds, effects with the smallest size δ that matters, a figure

An arm is a phase's recipe with `set` assignments, started from another arm's model or from nothing. `each`
makes an arm of every row: `{p}` in name, start and assignments stands for the row's `p`. A verdict follows
from the effects alone: *supported* when every 95 % interval lies above its δ, *contradicted* when one lies
below it, else *undecided*. The hash of the file goes into the result.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from acereason.errors import ConfigError

Size = Literal["full", "small", "tiny"]
Part = Literal["sft", "rl"]
Read = TypeVar("Read")
Seeds = Annotated[tuple[int, ...], Meta(min_length=1, max_length=8)]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts of a study."""


class ArmRow(Struct, frozen=True):
    """An arm, or one for each row of `each`. `stages` are the lab's stages that an RL arm runs, by name;
    "math as again" runs one under another name."""

    name: str
    phase: str
    start: str | None = None
    stages: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    each: tuple[dict[str, Any], ...] = ()


class Effect(Struct, frozen=True):
    """A number with an interval. `kind`:

    contrast  Σ weight × measure over `terms` {arm: weight}; "ARM | MEASURE" takes a measure of its own
    slope     of the `terms`' measure at the end on that at their start (pairs [start, end] in `pairs`)
    fit       `coefficient` of  measure ~ a·x + b·y + c  over `points` [[arm, x, y], …], x and y standardised
    vertex    the x of the maximum of a parabola through `points` [[arm, x], …], x given or a measure's name
    solved    share of questions that `after` solves and `before` never does, minus the same of `chance`

    `delta` is the smallest size that matters, in the effect's own unit (points for accuracies). An effect
    that does not `decide` is only told. For `measure` see `tables.column`."""

    name: str
    kind: Literal["contrast", "slope", "fit", "vertex", "solved"]
    delta: float = 0.0
    decides: bool = True
    measure: str = "accuracy"
    domain: str = "math"
    unit: str = "points"
    terms: dict[str, float] = {}
    pairs: tuple[tuple[str, str], ...] = ()
    points: tuple[tuple[Any, ...], ...] = ()
    coefficient: Literal["a", "b", "a - b", "R2"] = "a"
    before: str = ""
    after: str = ""
    chance: str = ""


class Line(Struct, frozen=True):
    """One line of a figure: arms over x, which are numbers, or a measure of each arm or of its `starts`."""

    label: str
    arms: tuple[str, ...]
    x: tuple[float, ...] | str = ()
    starts: tuple[str, ...] = ()


class Figure(Struct, frozen=True):
    """What is drawn: `measure` of a domain over x; `samples` draws pass@k of each arm over k instead."""

    x: str
    lines: tuple[Line, ...]
    measure: str = "accuracy"
    domain: str = "math"
    log: bool = False
    samples: bool = False


class Study(Struct, frozen=True):
    """A claim and how it is decided. `paper` is the paper's own figure, `needs` what is not there yet."""

    name: str
    title: str
    claim: str
    paper: str
    seeds: Seeds
    effect: tuple[Effect, ...]
    arm: tuple[ArmRow, ...] = ()
    use: tuple[str, ...] = ()
    figure: Figure | None = None
    needs: str = ""
    note: str = ""


class Scale(Struct, frozen=True):
    """A size: seeds taken, factors on steps, prompts a step, questions, prompts in all and SFT epochs,
    assignments for a phase's recipe (an arm's own come after), and the questions asked by default. Without
    `calibrated` every temperature is 1: a model that learned nothing meets no target."""

    seeds: int
    split: Literal["dev", "test"] = "dev"
    steps: float = 1.0
    batch: float = 1.0
    questions: float = 1.0
    prompts: float = 1.0
    epochs: float = 1.0
    calibrated: bool = True
    set: dict[str, tuple[str, ...]] = {}


class Phase(Struct, frozen=True):
    """A part of the recipe: what is laid over the lab's common sections, and whether it is SFT or RL."""

    part: Part
    recipe: dict[str, Any]


class Lab(Struct, frozen=True):
    """The ground of all studies."""

    recipe: dict[str, Any]
    phase: dict[str, Phase]
    arm: tuple[ArmRow, ...]
    size: dict[Size, Scale]
    order: tuple[str, ...] = ()


def folder() -> Path:
    """Where the studies that ship stand."""
    return Path(str(files("acereason"))) / "studies"


def shipped() -> list[str]:
    """The names of the studies that ship, the most wanted first."""
    names = sorted(p.stem for p in folder().glob("*.toml") if p.stem != "lab")
    order = load_lab().order
    return sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n))


def load_lab(path: Path | None = None) -> Lab:
    """The lab's file; ConfigError says what is wrong with it."""
    return _load(path or folder() / "lab.toml", Lab)


def load(name: str) -> Study:
    """A study by its name, or one of one's own by its file."""
    path = Path(name)
    if path.suffix != ".toml":
        path = folder() / f"{name}.toml"
        if name == "lab" or not path.exists():
            raise ConfigError(f"no study is called {name!r}; known: {', '.join(shipped())}, or give a file")
    study = _load(path, Study)
    if study.name != path.stem:
        raise ConfigError(
            f"{path}: the study is called {study.name!r} inside; name the file {study.name}.toml"
        )
    return study


def digest(study: Study) -> str:
    """A hash of all that was stated beforehand (16 hex digits)."""
    return fingerprint(msgspec.to_builtins(study))


def fingerprint(value: object) -> str:
    """A hash of plain data (16 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def expand(rows: Sequence[ArmRow]) -> dict[str, ArmRow]:
    """Every arm by its name, `each` rows made into arms."""
    arms: dict[str, ArmRow] = {}
    for row in rows:
        for values in row.each or ({},):
            arm = ArmRow(
                _filled(row.name, values),
                row.phase,
                None if row.start is None else _filled(row.start, values),
                tuple(_filled(stage, values) for stage in row.stages),
                tuple(_filled(setting, values) for setting in row.set),
            )
            if arm.name in arms:
                raise ConfigError(f"two arms are called {arm.name!r}")
            arms[arm.name] = arm
    return arms


def _filled(text: str, values: Mapping[str, Any]) -> str:
    for key, value in values.items():
        text = text.replace("{" + key + "}", str(value))
    return text


def _load(path: Path, kind: type[Read]) -> Read:
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), kind)
    except OSError as error:
        raise ConfigError(f"cannot read the study {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
