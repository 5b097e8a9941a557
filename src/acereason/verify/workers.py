"""Warmed, killable processes for the comparisons that the exact path leaves open.

Each is started by exec, never forked from the caller, loads math-verify once, and is killed and
replaced when one comparison takes longer than SECONDS, when it has grown past GROWN, or after
RECYCLE answers. The caller uses no signals, so any thread may ask.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

SCRIPT = Path(__file__).with_name("math_worker.py")
SECONDS = 1.5  # with a process that has to start, an answer still takes less than 3
START_SECONDS = 60.0
RECYCLE = 500
GROWN = 500 << 20  # bytes of resident memory
Answer = Literal["equal", "different", "unreadable", "timeout", "died"]


def available() -> bool:
    """Whether math-verify is installed."""
    return importlib.util.find_spec("math_verify") is not None


class MathWorker:
    """One process; used by one thread at a time. Starts at the first question; its successors load
    while nothing is asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._loaded = False
        self._answers = 0

    def ask(self, reference: str, answer: str, seconds: float = SECONDS, whole: bool = False) -> Answer:
        """Compare two boxed strings within `seconds` of wall time; `whole` reads them strictly, from
        end to end. Never raises for them."""
        channel = self._ready()
        question = json.dumps([reference, answer, whole]).encode() + b"\n"
        try:
            channel.sendall(question)
            reply = self._line(channel, seconds)
        except OSError:
            reply = b""
        if not reply.endswith(b"\n"):
            late = self._process is not None and self._process.poll() is None
            self._replace()
            return "timeout" if late else "died"
        self._answers += 1
        if self._answers >= RECYCLE or self._resident() > GROWN:
            self._replace()
        found: Answer = json.loads(reply)
        return found

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._channel is not None:
            self._channel.close()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._process = self._channel = None

    def _replace(self) -> None:
        self.close()
        self._start()

    def _start(self) -> socket.socket:
        """Start the process; it tells when it has loaded."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(SCRIPT), str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._loaded, self._answers = False, 0
        return self._channel

    def _ready(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        channel = self._channel or self._start()
        if not self._loaded and self._line(channel, START_SECONDS) != b'"ready"\n':
            self.close()
            raise OSError("math-verify did not start")
        self._loaded = True
        return channel

    @staticmethod
    def _line(channel: socket.socket, seconds: float) -> bytes:
        """What arrives up to the end of a line, or as much of it as came in time."""
        deadline, data = time.monotonic() + seconds, b""
        while not data.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([channel], [], [], left)[0]:
                break
            received = channel.recv(4096)
            if not received:
                break
            data += received
        return data

    def _resident(self) -> int:
        if self._process is None or not sys.platform.startswith("linux"):
            return 0
        try:
            fields = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        except OSError:
            return 0
        return int(fields[1]) * 4096
