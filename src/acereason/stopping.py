"""Ending on request. A cluster that takes a machine back sends SIGTERM and, some time later, SIGKILL.

    with stopping.on_sigterm():     # from now on SIGTERM is a request
        ...
        if stopping.asked(): ...    # looked at where nothing would be lost

A run writes a checkpoint at the end of the step that it is in, leaves with `Preempted`, and its process ends
with the status `STATUS`. A second SIGTERM ends it at once, as SIGKILL would: back to the last checkpoint.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STATUS = 75  # EX_TEMPFAIL of sysexits.h: not done, try again
_asked = threading.Event()


class Preempted(Exception):
    """The run was asked to stop, and has: it goes on with --resume."""


@contextmanager
def on_sigterm() -> Iterator[None]:
    """Take SIGTERM as a request to stop, in the main thread."""
    _asked.clear()
    before = signal.signal(signal.SIGTERM, _ask)
    try:
        yield
    except Preempted:
        before = signal.SIG_IGN  # this rank's own signal may come while it leaves
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked.is_set()


def _ask(number: int, frame: Any) -> None:
    if _asked.is_set():
        os._exit(STATUS)
    _asked.set()
