"""Runs that die at an event of one's choosing, each forked from one server that has imported everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands import HERE

Die = Callable[[Path, int], int]


@contextmanager
def dying(changes: dict[str, Any]) -> Iterator[Die]:
    """A function (folder, event): the tiny run in this folder with a death at this event; its exit status."""
    command = [sys.executable, str(HERE / "die.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def told(folder: Path, at: int) -> int:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps([str(folder), at, changes]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield told
