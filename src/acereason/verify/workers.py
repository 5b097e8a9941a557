"""Warmed, killable processes for the comparisons that the exact path leaves open.

Each is started by exec, never forked from the caller, loads math-verify once, and is killed and
replaced when one comparison takes longer than SECONDS, when it has grown past GROWN, or after
RECYCLE answers. The caller uses no signals, so any thread may ask.

SECONDS are of processor time, which an answer can be blamed for. WALL_SECONDS bound the wait on a busy
machine; a comparison that was not given its processor time by then has not been judged.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

SCRIPT = Path(__file__).with_name("math_worker.py")
SECONDS, WALL_SECONDS = 1.5, 2.5
START_SECONDS = 60.0
RECYCLE = 500
GROWN = 500 << 20  # bytes of resident memory
Answer = Literal["equal", "different", "unreadable", "timeout", "starved", "crashed", "died"]
CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)  # what an answer may do to the process


def available() -> bool:
    """Whether math-verify is installed."""
    return importlib.util.find_spec("math_verify") is not None


class MathWorker:
    """One process; used by one thread at a time. Starts at the first question; its successors load
    while nothing is asked."""

    script = SCRIPT

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._loaded = False
        self._answers = 0

    def ask(self, reference: str, answer: str, seconds: float = SECONDS, whole: bool = False) -> Answer:
        """Compare two boxed strings within `seconds` of processor time; `whole` reads them strictly, from
        end to end. Never raises for them. A process that ends meanwhile is replaced and asked again, once:
        "crashed" when the second one broke down too, "died" when it was ended from outside."""
        return self.put(json.dumps([reference, answer, whole]).encode() + b"\n", seconds)

    def put(self, question: bytes, seconds: float) -> Answer:
        """A line of JSON to the process, and what it replies; see `ask`."""
        for _ in range(2):
            reply = self._asked(question, seconds)
            if reply != "died":
                return reply
            status = self._replace()
        return "crashed" if status in CRASHES else "died"

    def _asked(self, question: bytes, seconds: float) -> Answer:
        channel = self._ready()
        deadline, reply = time.monotonic() + WALL_SECONDS / SECONDS * seconds, b""
        try:
            began = self._used()
            channel.sendall(question)
            while not reply.endswith(b"\n"):
                used = self._used() - began
                left = min(seconds - used, deadline - time.monotonic())
                if left <= 0:
                    self._replace()
                    return "timeout" if used >= seconds else "starved"
                received = self._line(channel, left)
                if received == b"" and self._over(channel):
                    return "died"
                reply += received
        except OSError:
            return "died"
        self._answers += 1
        if self._answers >= RECYCLE or self._resident() > GROWN:
            self._replace()
        answer: Answer = json.loads(reply)
        return answer

    def _used(self) -> float:
        """Seconds of processor time of the process; of wall time where the system does not tell."""
        if self._process is None or not sys.platform.startswith("linux"):
            return time.monotonic()
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def _over(self, channel: socket.socket) -> bool:
        """Whether the process has closed its end."""
        return self._wait(channel, 0.0) and not channel.recv(1, socket.MSG_PEEK)

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._channel is not None:
            self._channel.close()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._process = self._channel = None

    def _replace(self) -> int:
        """Another process in place of this one; how this one ended."""
        process = self._process
        self.close()
        self._start()
        return 0 if process is None else process.returncode

    def _start(self) -> socket.socket:
        """Start the process; it tells when it has loaded."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(self.script), str(theirs.fileno()), *sys.path],
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
    def _wait(channel: socket.socket, seconds: float) -> bool:
        poll = select.poll()  # `select.select` knows no descriptor above 1023
        poll.register(channel, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    @classmethod
    def _line(cls, channel: socket.socket, seconds: float) -> bytes:
        """What arrives up to the end of a line, or as much of it as came in time."""
        deadline, data = time.monotonic() + seconds, b""
        while not data.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not cls._wait(channel, left):
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
