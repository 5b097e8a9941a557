"""Progress for people: bars on a terminal, one line now and then elsewhere, nothing when told to be quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

Advance = Callable[[int, str], None]


RECENT = 30  # steps that tell what the next ones will take


def typical(seconds: Sequence[float]) -> float | None:
    """What a step takes: the mean of the middle of the last RECENT ones, so that neither one slow step nor
    the next quick one moves an estimate much. None before the first."""
    last = sorted(seconds[-RECENT:])
    out = max(len(last) // 5, min((len(last) - 1) // 2, 2)) if last else 0  # so many on each side
    middle = last[out : len(last) - out]
    return sum(middle) / len(middle) if middle else None


class Progress(Protocol):
    """Where a run tells how far it is."""

    def say(self, text: str) -> None:
        """One line of news."""
        ...

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """A piece of work of `total` parts; yields advance(parts, note)."""
        ...


class Quiet:
    """Says nothing."""

    def say(self, text: str) -> None:
        return None

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        yield lambda parts, note: None


class Terminal:
    """Bars when `console` is a terminal, else a line every `interval` seconds."""

    def __init__(self, console: Console | None = None, interval: float = 10.0):
        self.console = console or Console(stderr=True, highlight=False)
        self._interval = interval

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        work = self._bar if self.console.is_terminal else self._lines
        with work(name, total, done) as advance:
            yield advance

    @contextmanager
    def _bar(self, name: str, total: int, done: int) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Bars(*columns, console=self.console, transient=False) as bars:
            bar = bars.add_task(name, total=total, completed=done, note="")
            yield lambda parts, note: bars.update(bar, advance=parts, note=note)

    def _lines(self, name: str, total: int, done: int) -> AbstractContextManager[Advance]:
        return in_lines(self.say, name, total, done, self._interval)


@contextmanager
def in_lines(
    say: Callable[[str], None], name: str, total: int, done: int, interval: float
) -> Iterator[Advance]:
    """A piece of work whose progress is a line every `interval` seconds, and one at its end."""
    begun = last = time.monotonic()
    count = done

    def advance(parts: int, note: str) -> None:
        nonlocal count, last
        count += parts
        now = time.monotonic()
        if now - last >= interval or count >= total:
            last = now
            say(f"{name:<14} {count}/{total}  {duration(now - begun)}  {note}".rstrip())

    yield advance


def duration(seconds: float | None) -> str:
    """1:02:03 or 2:03 or 3 s."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def for_terminal(quiet: bool) -> Quiet | Terminal:
    """The progress that fits standard error."""
    return Quiet() if quiet else Terminal(Console(file=sys.stderr, highlight=False))
