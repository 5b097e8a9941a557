"""Runs that die at their Nth durable event, one fork a run: lines of [folder, N, changes] on standard input.

Events are what a run does to its folder: make a folder, sync, rename, append a row. It dies as SIGKILL would
have it, before the event; a negative N means the -Nth time that a stage is about to be marked as finished.
The answer is the exit status, -9 for a death. One process imports and forks: imports take longer than runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # no threads before a fork

import tiny_run
from acereason import config, program, runs
from acereason.train.checkpoint import Saver

assert program


def die_at_event(number: int) -> None:
    """Count the events of this process, and die."""
    left = number

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return counted

    for name in ("fsync", "rename", "replace", "mkdir"):
        setattr(os, name, counting(getattr(os, name)))
    runs.Run.record = counting(runs.Run.record)  # type: ignore[method-assign]


def die_at_the_end_of_a_stage(times: int) -> None:
    """Die when the checkpoint is due that says that a stage is finished."""
    save, seen = Saver.__call__, 0

    def counted(self: Saver) -> None:
        nonlocal seen
        seen += self._position.finished
        if seen == times:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self)

    Saver.__call__ = counted  # type: ignore[method-assign]


def run(folder: Path, number: int, changes: dict[str, Any]) -> None:
    """Begin the run in the folder, or go on with it, up to the event."""
    die_at_event(number) if number > 0 else die_at_the_end_of_a_stage(-number)
    resume = folder.is_dir()
    if resume and not (folder / "recipe.json").exists():
        runs.resume(folder, config.parse({**tiny_run.RECIPE, **changes})).close()
    tiny_run.main(folder, resume, changes)


def main() -> None:
    for line in sys.stdin:
        folder, number, changes = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                run(Path(folder), number, changes)
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
