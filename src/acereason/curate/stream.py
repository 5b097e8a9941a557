"""Files too large for memory: a JSON Lines file by line number, and work on its parts in processes.

Only the places where lines begin are held (8 bytes a line). A part is a run of lines that a worker
reads by itself; results come back in the order of the parts, so what is computed never depends on
the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from acereason.errors import DataError
from acereason.files import replacing
from acereason.problems import Problem

Part = tuple[str, int, int]  # path, first byte, last byte + 1
Job = TypeVar("Job")
Result = TypeVar("Result")
BLOCK = 1 << 24

_decoder = msgspec.json.Decoder(Problem)


def _starts(path: Path) -> npt.NDArray[np.int64]:
    ends, base = [np.zeros(1, np.int64)], 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + base + 1)
            base += len(block)
    starts = np.concatenate(ends)
    if starts[-1] != base:
        raise DataError(f"{path}: the last line has no end; the file was cut off, write it again")
    return starts


class Lines:
    """The lines of a file of problems, by number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts = _starts(path)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def parts(self, size: int) -> Iterator[Part]:
        """Runs of `size` lines."""
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            yield str(self.path), int(self.starts[first]), int(self.starts[last])

    def problem(self, number: int) -> Problem:
        """The problem on one line (0 = first)."""
        start, end = int(self.starts[number]), int(self.starts[number + 1])
        with self.path.open("rb") as file:
            file.seek(start)
            return _decoder.decode(file.read(end - start))

    def copy(self, keep: npt.NDArray[np.bool_], target: Path) -> int:
        """Write the lines whose flag is set, atomically; returns their number."""
        with self.path.open("rb") as source, replacing(target) as out:
            for flag, line in zip(keep.tolist(), source, strict=True):
                if flag:
                    out.write(line)
        return int(keep.sum())


def read_part(part: Part) -> list[Problem]:
    """The problems of a run of lines; DataError when a line holds none."""
    path, start, end = part
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(end - start)
    try:
        return _decoder.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}, bytes {start:,}-{end:,}: expected problems, {error}") from error


_function: Callable[[Any], Any]


def _start_worker(function: Callable[[Any], Any]) -> None:
    """Hold the function, and end with the parent: a worker of a killed parent would wait for
    ever."""
    global _function
    _function = function

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(job: Any) -> Any:
    return _function(job)


def in_order(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """`map(function, jobs)` with `workers` processes and a bounded number of results waiting.

    With more than one worker, `function` travels once to each of these fresh interpreters, by
    pickle."""
    if workers <= 1:
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (function,)) as pool:
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            waiting.append(pool.submit(_call, job))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
