"""Semaphores for the modules of `multiprocessing` without the named ones of the system.

`multiprocessing.pool.ThreadPool` and `multiprocessing.Lock` want a semaphore that other processes can open
by its name, which takes a file. A confined program has no other process, so threads are all that can meet.
"""

from __future__ import annotations

import threading
from typing import Any

RECURSIVE_MUTEX = 0  # as in `multiprocessing.synchronize`; the other kind is a counting semaphore


class SemLock:
    """Takes the place of `_multiprocessing.SemLock`, in one process."""

    SEM_VALUE_MAX = 2**31 - 1

    def __init__(self, kind: int, value: int, maxvalue: int, name: str = "", unlink: bool = True) -> None:
        self.kind, self.maxvalue, self.handle = kind, maxvalue, 0
        self.name = None  # nothing for the resource tracker, a process, to forget
        self._value, self._changed = value, threading.Condition(threading.Lock())
        self._owner, self._depth = 0, 0

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take one; False when there was none in time."""
        me = threading.get_ident()
        with self._changed:
            if self.kind == RECURSIVE_MUTEX and self._depth and self._owner == me:
                self._depth += 1
                return True
            wait = timeout if block else 0.0
            if not self._changed.wait_for(lambda: self._value > 0, wait):
                return False
            self._value -= 1
            self._owner, self._depth = me, self._depth + 1
            return True

    def release(self) -> None:
        """Give one back; ValueError above the greatest value, AssertionError for another thread's mutex."""
        with self._changed:
            if self.kind == RECURSIVE_MUTEX:
                if not self._is_mine():
                    raise AssertionError("attempt to release recursive lock not owned by thread")
                self._depth -= 1
                if self._depth:
                    return
            elif self._value >= self.maxvalue:
                raise ValueError("semaphore or lock released too many times")
            else:
                self._depth -= 1
            self._value += 1
            self._changed.notify()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: Any) -> None:
        self.release()

    def _count(self) -> int:
        return self._depth

    def _is_mine(self) -> bool:
        return self._depth > 0 and self._owner == threading.get_ident()

    def _get_value(self) -> int:
        return self._value

    def _is_zero(self) -> bool:
        return self._value == 0

    def _after_fork(self) -> None:
        self._depth = 0
