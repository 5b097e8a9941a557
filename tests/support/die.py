"""A run that dies at its Nth durable event: `python die.py FOLDER N CHANGES`.

Events are what a run does to its folder: make a folder, sync, rename, append a row. It dies as SIGKILL would
have it, before the event; a negative N means the -Nth time that a stage is about to be marked as finished."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_run

left = int(sys.argv[2])


def die_at(owner: Any, name: str) -> None:
    """Count calls of a function as events."""
    real: Callable[..., Any] = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(owner, name, counted)


def die_at_the_end_of_a_stage(times: int) -> None:
    """Die when the checkpoint is due that says that a stage is finished."""
    from acereason.train.checkpoint import Saver

    save, seen = Saver.__call__, 0

    def counted(self: Saver) -> None:
        nonlocal seen
        seen += self._position.finished
        if seen == times:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self)

    Saver.__call__ = counted  # type: ignore[method-assign]


def main() -> None:
    from acereason import config, runs

    folder, recipe = Path(sys.argv[1]), {**tiny_run.RECIPE, **json.loads(sys.argv[3])}
    if left < 0:
        die_at_the_end_of_a_stage(-left)
    else:
        for owner, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "mkdir")):
            die_at(owner, name)
        die_at(runs.Run, "record")
    resume = folder.is_dir()
    if resume and not (folder / "recipe.json").exists():
        runs.resume(folder, config.parse(recipe)).close()
    tiny_run.main(folder, resume, json.loads(sys.argv[3]))


if __name__ == "__main__":
    main()
