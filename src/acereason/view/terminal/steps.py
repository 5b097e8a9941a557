"""What a run shows in the terminal while it goes on: a live table, a line per step, or JSON lines.

    with display(quiet=False, as_json=False) as shown:
        run.listen(shown.row)             # every metrics row
        run_all(run, shown)               # and what it says about its tasks

On a terminal the table holds the last steps of the present stage under one row for each finished stage, with
the bars of the work at hand below. Elsewhere (a log file, Slurm) every RL step is one line and SFT, whose
steps may take a twentieth of a second, at most one line a second. `--json` writes the metrics rows to
standard output as they come, and nothing else.

Times are seconds; `cut` is the truncated share; tokens a second count response tokens over the whole step;
the ETA is that of the stage, from what its last steps took (`progress.typical`). The live table takes the
columns that the terminal has room for: all of WIDE on a wide one, without those of NARROW, one after the
other, on a narrow one.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from acereason.config import Health
from acereason.health.memory import Memory
from acereason.health.rows import Finding
from acereason.progress import RECENT, Advance, duration, in_lines, typical

COLUMNS = (
    *("stage", "step", "reward", "H_T", "target", "T", "tok/s", "length"),
    *("cut", "sample", "learn", "ETA"),
)
WIDE = ("idle", "grad", "k3", "lr", "judge")  # groups without a gradient, and more, before the ETA
NARROW = (
    *("lr", "judge", "k3", "grad", "idle", "learn", "sample", "target", "length", "tok/s", "T"),
    "cut",
    "H_T",
)
SHOWN = 8  # steps of the present stage in the live table


@dataclass
class Pace:
    """How far the present stage is, and how long its last steps took."""

    total: int = 0
    done: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def took(self, seconds: float) -> None:
        """One more step is done."""
        self.done += 1
        self.seconds.append(seconds)

    @property
    def eta(self) -> float | None:
        """Seconds until the stage's last step, None before the first."""
        each = typical(list(self.seconds))
        return None if each is None else max(self.total - self.done, 0) * each


def cells(row: Mapping[str, Any], eta: float | None) -> list[str]:
    """One step under `COLUMNS`; what a row does not have is "–". SFT has its loss in place of the reward."""
    seconds = row.get("seconds", {})
    total = seconds.get("total") or 0.0
    length = row.get("length", {})
    return [
        str(row.get("stage", "–")),
        str(row.get("step", "–")),
        _number(row.get("reward"), ".3f") if "reward" in row else f"loss {_number(row.get('loss'), '.3f')}",
        _number(row.get("H_T"), ".3f"),
        _number(row.get("H_target"), ".2f"),
        _number(row.get("T"), ".3f"),
        _number(row.get("tokens", 0) / total if total else None, ",.0f"),
        _number(length.get("mean"), ",.0f"),
        _number(row.get("truncated"), ".0%"),
        _number(seconds.get("sample"), ",.1f"),
        _number(seconds.get("learn", total), ",.1f"),
        duration(eta),
    ]


def wide(row: Mapping[str, Any], eta: float | None) -> list[str]:
    """One step under `COLUMNS` with `WIDE` before the ETA."""
    shown, idle = cells(row, eta), [row.get(name) for name in ("all_right", "all_wrong")]
    more = [
        _number(None if None in idle else sum(idle), ".0%"),
        _number(row.get("gradient_norm"), ".2g"),
        _number((row.get("logprob_difference") or {}).get("k3"), ".0e"),
        _number(row.get("lr"), ".0e"),
        _number(row.get("seconds", {}).get("judge"), ",.1f"),
    ]
    return [*shown[:-1], *more, shown[-1]]


def fitting(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Which of the columns of `wide` a terminal so many characters wide has room for."""
    names = [*COLUMNS[:-1], *WIDE, COLUMNS[-1]]
    sizes = [1 + max(len(name), *(len(row[at]) for row in rows)) for at, name in enumerate(names)]
    used = [any(row[at] != "–" for row in rows) or name in COLUMNS for at, name in enumerate(names)]
    kept = [at for at in range(len(names)) if used[at]]
    for name in NARROW:
        if sum(sizes[at] for at in kept) - 1 <= width:
            break
        kept = [at for at in kept if names[at] != name]
    return kept


def line(row: Mapping[str, Any], eta: float | None) -> str:
    """One step as one line of text."""
    names = ("", "step", "", "H_T", "target", "T", "tokens/s", "length", "cut", "sample", "learn", "ETA")
    pairs = list(zip(names, cells(row, eta), strict=True))
    if "reward" in row:
        pairs[2] = ("reward", pairs[2][1])
    return "  ".join(f"{name} {value}".strip() for name, value in pairs if value != "–")


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


class Watch:
    """What is wrong with the present stage, looked at no more than once a second."""

    def __init__(self, limits: Health) -> None:
        self._memory = Memory(limits)
        self._looked = 0.0
        self._told: set[tuple[str, str, str]] = set()
        self.findings: list[Finding] = []

    def row(self, kind: str, row: Mapping[str, Any]) -> list[Finding]:
        """Take a metrics row; returns what has not been found before."""
        self._memory.add(kind, row)
        if kind not in ("rl", "sft") or time.monotonic() - self._looked < 1.0:
            return []
        self._looked = time.monotonic()
        self.findings = [one for one in self._memory.findings() if one.stage == str(row.get("stage"))]
        new = [one for one in self.findings if (one.rule, one.severity, one.stage) not in self._told]
        self._told |= {(one.rule, one.severity, one.stage) for one in new}
        return new


def told(one: Finding) -> str:
    """A finding as a line of text."""
    return f"{one.severity}: {one.sentence} Since step {one.since}. {one.remedy}"


class Screen:
    """The live table on a terminal."""

    def __init__(self, console: Console, limits: Health = Health()):  # noqa: B008
        self._watch = Watch(limits)
        self._console = console
        self._pace = Pace()
        self._stages: dict[str, list[str]] = {}
        self._steps: deque[list[str]] = deque(maxlen=SHOWN)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(8, min(60, console.width // 4))),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=2)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """One line of news above the table."""
        self._console.print(text, markup=False)

    def row(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take a metrics row."""
        self._watch.row(kind, row)
        if kind in ("rl", "sft"):
            self._pace.took(row["seconds"]["total"])
            shown = wide(row, self._pace.eta)
            if self._steps and self._steps[-1][0] != shown[0]:
                self._stages[self._steps[-1][0]] = [*self._steps[-1][:-1], "done"]
                self._steps.clear()
            self._steps.append(shown)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A piece of work with a bar of its own."""
        self._pace = Pace(total, done)
        bar = self._bars.add_task(name, total=total, completed=done, note="")
        try:
            yield lambda parts, note: self._advance(bar, parts)
        finally:
            self._bars.remove_task(bar)

    def _advance(self, bar: TaskID, parts: int) -> None:
        self._bars.update(bar, advance=parts)

    def render(self) -> RenderableType:
        """The table with the bars under it."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        rows = [*self._stages.values(), *self._steps]
        kept = fitting(rows, self._console.width) if rows else []
        names = [*COLUMNS[:-1], *WIDE, COLUMNS[-1]]
        for at in kept:
            table.add_column(names[at], justify="left" if at == 0 else "right", no_wrap=True)
        for place, shown in enumerate(rows):
            style = "dim" if place < len(self._stages) else ""
            table.add_row(*(Text(shown[at]) for at in kept), style=style)
        styles = {"alarm": "bold red", "warning": "yellow", "notice": "dim"}
        lines = [Text(told(one), style=styles[one.severity]) for one in self._watch.findings[:3]]
        return Group(*([table] if self._steps else []), *lines, self._bars)


class Lines:
    """One line per step, for logs; other work tells how far it is every `interval` seconds."""

    def __init__(self, console: Console, interval: float = 10.0, limits: Health = Health()):  # noqa: B008
        self._watch = Watch(limits)
        self._console, self._interval = console, interval
        self._pace = Pace()
        self._last = {"sft": -1e9}
        self._told = False

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, text: str) -> None:
        """One line of news."""
        self._console.print(text, markup=False, soft_wrap=True)

    def row(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take a metrics row."""
        for one in self._watch.row(kind, row):
            self.say(told(one))
        if kind not in ("rl", "sft"):
            return
        self._pace.took(row["seconds"]["total"])
        self._told = True
        now = time.monotonic()
        if kind == "rl" or now - self._last["sft"] >= 1.0 or self._pace.done == self._pace.total:
            self._last["sft"] = now
            self.say(line(row, self._pace.eta))

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A piece of work: silent where its steps are rows, else a line now and then."""
        self._pace, self._told = Pace(total, done), False
        with in_lines(self._tell, name, total, done, self._interval) as advance:
            yield advance

    def _tell(self, text: str) -> None:
        """Say how far a piece of work is, unless its step was said just before."""
        told, self._told = self._told, False
        if not told:
            self.say(text)


class Rows:
    """The metrics rows as JSON lines; nothing at all without a file."""

    def __init__(self, file: TextIO | None):
        self._file = file

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, text: str) -> None:
        """News are for people."""

    def row(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take a metrics row."""
        if self._file is not None:
            self._file.write(msgspec.json.encode({"kind": kind, **row}).decode() + "\n")
            self._file.flush()

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A piece of work, unsaid."""
        yield lambda parts, note: None


Display = Screen | Lines | Rows


def display(
    quiet: bool,
    as_json: bool = False,
    console: Console | None = None,
    limits: Health = Health(),  # noqa: B008
) -> Display:
    """What fits where the run was started: standard error for people, standard output for JSON."""
    if as_json:
        return Rows(sys.stdout)
    if quiet:
        return Rows(None)
    console = console or Console(stderr=True, highlight=False)
    return Screen(console, limits) if console.is_terminal else Lines(console, limits=limits)
