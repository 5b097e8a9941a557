"""The caller's side of the sandbox: start a zygote, run a program's tests in it, read what came
back.

A `Zygote` serves one job at a time and belongs to one thread. Whatever goes wrong between the two
processes, or in the caller while a job runs, raises `Lost`: the zygote is then gone, and nothing has been
learned about the program. What a child wrote is read as bytes at places that were checked first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import select
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from acereason.errors import SandboxUnavailable
from acereason.verify.compare import CHUNK, Piece
from acereason.verify.sandbox.frames import FRAME

SCRIPT = Path(__file__).with_name("zygote.py")
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0  # within which a living zygote answers
PATIENCE = 5  # times its wall limit after which a child ends, however starved


class Lost(Exception):
    """The zygote died or stopped answering: an infrastructure fault."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one job: processor seconds per test, wall seconds per test, MiB, bytes of all output. Wall time is
    counted without the time that a program waited for a processor."""

    cpu: float = 6.0
    wall: float = 19.0
    memory: int = 1024
    output: int = 16 << 20

    def total(self, tests: int) -> float:
        """Wall seconds of all tests together: one may take the whole of its limit, the others what they
        may compute."""
        return self.wall + tests * self.cpu


class Frame(NamedTuple):
    """What the child says about one test; untrusted."""

    start: int
    end: int
    nanoseconds: int
    error: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended.

    killed   "" when it ended by itself; "cpu", "wall" or "judge" as the caller said; "wall", "starved",
             "threads" by the zygote
    status   exit status, or minus the signal
    wall     seconds, those of processor time, those of waiting for a processor
    output   the first 64 KiB of the output file
    """

    killed: str
    status: int
    wall: float
    cpu: float
    waited: float
    output: bytes = b""


class Time(NamedTuple):
    """Seconds since a child began: of wall time, of processor time, of waiting for a processor."""

    wall: float = 0.0
    cpu: float = 0.0
    waited: float = 0.0

    @property
    def awake(self) -> float:
        """Wall time that no other work can be blamed for."""
        return self.wall - self.waited


class _Packet(msgspec.Struct):
    """What the zygote says about a job: the time, and when the child has ended, how."""

    job: int
    wall: float
    cpu: float
    waited: float
    status: int | None = None
    killed: str = ""
    fault: str = ""


_packets = msgspec.json.Decoder(_Packet)
PACKET = 4096  # bytes, at most
SCM_CREDENTIALS = 2
_CREDENTIALS = struct.Struct("3i")  # process, user, group; stamped on a packet by the kernel


def _packages(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Where packages that programs may import lie: (directories to search, directories to read)."""
    search, readable = [], []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue
        for place in spec.submodule_search_locations:
            parent = Path(place).resolve().parent
            search.append(str(parent))
            readable += [str(parent / name), str(parent / f"{name}.libs")]
    return search, readable


class Zygote:
    """One zygote process. `packages` are loaded on top of the standard library."""

    def __init__(self, packages: Sequence[str] = (), namespaces: bool = True) -> None:
        if sys.platform != "linux":
            raise SandboxUnavailable(
                "running model-written programs needs Linux (seccomp and Landlock), found "
                f"{sys.platform}; run `acereason verify --serve` on a Linux machine and judge "
                "over HTTP"
            )
        search, readable = _packages(packages)
        options = {
            "path": search, "readable": readable, "modules": list(packages),
            "namespaces": namespaces,
        }  # fmt: skip
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._jobs = 0
        self._watch_channel()
        environment = {
            "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
            "MALLOC_ARENA_MAX": "1",  # one a thread would take 64 MiB each of what a program may map
            "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        executable = getattr(sys, "_base_executable", None) or sys.executable
        with theirs:
            self._process = subprocess.Popen(
                [executable, "-s", "-S", "-P", "-B", str(SCRIPT), str(theirs.fileno()),
                 json.dumps(options)],
                env=environment, pass_fds=[theirs.fileno()], cwd="/", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self.tier = self._greeting()

    def _greeting(self) -> str:
        if not self._readable(START_SECONDS):
            self.kill()
            raise SandboxUnavailable(f"the sandbox did not start within {START_SECONDS:.0f} s")
        hello, self._inside = self._packet()
        if not hello:
            status = self.kill()
            raise SandboxUnavailable(f"the sandbox process ended at its start with status {status}")
        greeting = json.loads(hello)
        if "missing" in greeting:
            self.kill()
            raise SandboxUnavailable(
                "this machine cannot isolate model-written programs; missing: "
                f"{greeting['missing']}. Judge on a machine that can, over HTTP: "
                "`acereason verify --serve` there"
            )
        return str(greeting["tier"])

    def _watch_channel(self) -> None:
        self._poll = select.poll()  # `select.select` knows no descriptor above 1023
        self._poll.register(self._channel, select.POLLIN)

    def _readable(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def _packet(self) -> tuple[bytes, int]:
        """One packet, and the process that sent it, from the kernel."""
        data, ancillary, _, _ = self._channel.recvmsg(PACKET, socket.CMSG_SPACE(_CREDENTIALS.size))
        senders = [_CREDENTIALS.unpack(rest)[0] for _, kind, rest in ancillary if kind == SCM_CREDENTIALS]
        return data, senders[0] if senders else 0

    @contextlib.contextmanager
    def started(
        self, job: bytes, tests: int, limits: Limits, total: float | None = None, file: int = 0
    ) -> Iterator[Child]:
        """A fresh child that runs this job. `total` is the limit of its wall time, `Limits.total` when
        absent; `file` the bytes that its inputs or frames take, if that is more than its output may.
        Whatever is raised inside ends the zygote, and comes out as Lost."""
        files: list[int] = []
        try:
            files.extend(os.memfd_create(name, os.MFD_CLOEXEC) for name in ("job", "output", "frames"))
            os.pwrite(files[0], job, 0)
            self._jobs += 1
            deadline = PATIENCE * (limits.total(tests) if total is None else total)
            order = {
                "job": self._jobs, "cpu": math.ceil(limits.cpu * tests) + 2, "deadline": deadline,
                "memory": (limits.memory << 20) + 3 * len(job), "file": max(limits.output, file),
            }  # fmt: skip
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))
            self._channel.sendmsg([json.dumps(order).encode()], [rights])
            child = Child(self, self._jobs, Answers(files[1], files[2], limits.output), deadline)
            yield child
            child.wait()
        except Exception as error:
            self.kill()
            raise Lost(f"the sandbox process was lost: {type(error).__name__}: {error}") from error
        except BaseException:
            self.kill()
            raise
        finally:
            for descriptor in files:
                os.close(descriptor)

    def run(self, job: bytes, tests: int, limits: Limits) -> Exit:
        """Run one job to its end, without looking at its answers. Raises Lost."""
        with self.started(job, tests, limits) as child:
            run = child.wait()
            return replace(run, output=child.answers.read(0, 1 << 16))

    def kill(self) -> int:
        """End the process and everything below it; returns its exit status."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return self._process.wait()

    close = kill


class Answers:
    """What a child wrote so far: untrusted, and it may still change it."""

    def __init__(self, output: int, frames: int, limit: int) -> None:
        self._output, self._frames, self._limit = output, frames, limit
        self._ahead, self._ahead_at = b"", 0

    @property
    def size(self) -> int:
        """Bytes of output, as many as count."""
        return min(os.fstat(self._output).st_size, self._limit)

    def read(self, start: int, count: int) -> bytes:
        """Bytes of output from a place within `size`; fewer at its end."""
        return os.pread(self._output, count, start)

    def read_ahead(self, start: int, end: int) -> None:
        """Read what the next answers take at once, if it is little."""
        self._ahead, self._ahead_at = self.read(start, min(end - start, CHUNK)), start

    def piece(self, start: int, end: int) -> bytes | Piece:
        """An answer: at once if it is small."""
        place = start - self._ahead_at
        if 0 <= place <= end - self._ahead_at <= len(self._ahead):
            return self._ahead[place : end - self._ahead_at]
        if end - start <= CHUNK:
            return self.read(start, end - start)
        return Piece(lambda place, count: self.read(start + place, count), end - start)

    def frames(self, first: int, end: int) -> list[Frame]:
        """What the child says about tests from `first` to before `end`, those of them that it speaks of."""
        end = min(end, os.fstat(self._frames).st_size // FRAME.size)
        data = os.pread(self._frames, max(0, end - first) * FRAME.size, first * FRAME.size)
        whole = memoryview(data)[: len(data) // FRAME.size * FRAME.size]
        return [
            Frame(start, end, used, error.rstrip(b"\0").decode("utf-8", "replace"))
            for start, end, used, error in FRAME.iter_unpack(whole)
        ]


class Child:
    """One program in its child, while it runs."""

    def __init__(self, zygote: Zygote, job: int, answers: Answers, deadline: float) -> None:
        self.answers = answers
        self._zygote, self._job = zygote, job
        self._deadline = time.monotonic() + deadline + ANSWER_SECONDS
        self._time = Time()
        self._run: Exit | None = None
        self._killed = ""

    def ended(self, seconds: float) -> bool:
        """Whether the child ended, within `seconds`."""
        return self._run is not None or (self._zygote._readable(seconds) and self._receive())

    def time(self) -> Time:
        """The child's clocks now, or what they showed last when it has just ended."""
        self._say(b"look")
        before = self._time
        while self._time is before and self._run is None:
            self._expect()
        return self._time

    def kill(self, reason: str) -> None:
        """End the child; its `Exit` says why."""
        self._killed = reason
        self._say(b"kill")

    def wait(self) -> Exit:
        """How it ended, once it has."""
        while self._run is None:
            self._expect()
        return self._run

    def _say(self, word: bytes) -> None:
        if self._run is None:
            self._zygote._channel.send(word)

    def _expect(self) -> None:
        if not self._zygote._readable(max(0.0, self._deadline - time.monotonic())):
            raise OSError("no answer in time")
        self._receive()

    def _receive(self) -> bool:
        """Take one packet; whether it is the report of this job. What another process or another job sent
        is nothing to this one."""
        data, sender = self._zygote._packet()
        if not data:
            raise OSError("it ended")
        packet = _packets.decode(data) if sender == self._zygote._inside else None
        if packet is None or packet.job != self._job:
            return False
        self._time = Time(packet.wall, packet.cpu, packet.waited)
        if packet.status is None:
            return False
        if packet.fault and not packet.killed:
            raise OSError(f"a child could not be confined: {packet.fault}")
        killed = self._killed if packet.killed == "judge" else packet.killed
        self._run = Exit(killed, packet.status, *self._time)
        return True


def job_bytes(code: str, inputs: Sequence[str], function: str | None, lenient: bool = False) -> bytes:
    """A job: a program, and for each test its standard input or its JSON list of arguments."""
    job: dict[str, Any] = {
        "code": code, "inputs": list(inputs), "function": function, "lenient": lenient,
    }  # fmt: skip
    return json.dumps(job).encode()
