"""What the kernel says about the time of a child. Nothing here is read from the child itself.

Where the wall clock must not punish a program for a busy machine, the kernel's count of the time that a
thread was ready and waited for a processor is taken off it (`/proc/PID/task/TID/schedstat`). A program that
sleeps does not collect any, however often it wakes.
"""

from __future__ import annotations

import os
import time

ASLEEP = 0.05  # share of a processor above which a child counts as busy, where the kernel does not count
THREADS_READ = 64  # whose waiting is looked at


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used, from the kernel."""
    return time.clock_gettime((~pid << 3) | 2)


class Clocks:
    """The clocks of one child since it was forked. `proc` is a descriptor of the folder /proc, of whatever
    process namespace; `handle` the child's pidfd, which says what number the child has there."""

    def __init__(self, pid: int, handle: int, proc: int) -> None:
        self._pid, self._handle, self._proc = pid, handle, proc
        self.started = time.monotonic()
        self._tasks = ""
        self._seen: dict[str, int] = {}
        self.waited = 0.0

    def look(self) -> tuple[float, float, float]:
        """Seconds since the start, of processor time, and of waiting for a processor."""
        wall, used = time.monotonic() - self.started, processor_time(self._pid)
        fresh = self._waiting()
        if fresh is not None:
            self.waited += fresh
        elif used > ASLEEP * wall:
            self.waited = max(self.waited, wall - used)
        return wall, used, min(self.waited, wall)

    def threads(self) -> int:
        """How many threads the child has."""
        return len(self._threads())

    def _threads(self) -> list[str]:
        if not self._tasks:
            with open(f"self/fdinfo/{self._handle}", opener=self._open) as file:
                number = dict(line.split(None, 1) for line in file)["Pid:"].strip()
            self._tasks = f"{number}/task"
        folder = self._open(self._tasks, os.O_RDONLY)
        try:
            return os.listdir(folder)
        finally:
            os.close(folder)

    def _open(self, path: str, flags: int) -> int:
        return os.open(path, flags, dir_fd=self._proc)

    def _waiting(self) -> float | None:
        """Seconds that the thread which waited longest since the last look did; None: not counted here."""
        longest, ran = 0, 0
        try:
            for thread in self._threads()[:THREADS_READ]:
                with open(f"{self._tasks}/{thread}/schedstat", opener=self._open) as file:
                    running, waiting = map(int, file.read().split()[:2])
                ran += running
                longest = max(longest, waiting - self._seen.get(thread, 0))
                self._seen[thread] = waiting
        except (OSError, KeyError, ValueError):
            return None
        return longest / 1e9 if ran else None
