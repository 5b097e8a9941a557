"""The caller's side of the sandbox: start a zygote, run a program's tests in it, read what came
back.

A `Zygote` serves one job at a time and belongs to one thread. Whatever goes wrong between the two
processes raises `Lost`: the zygote is then gone, and nothing has been learned about the program.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from acereason.errors import SandboxUnavailable

PAGE = 4096
SCRIPT = Path(__file__).with_name("zygote.py")
START_SECONDS = 60.0


class Lost(Exception):
    """The zygote died or stopped answering: an infrastructure fault."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one job: processor seconds per test, wall seconds per test, MiB, bytes of all output."""

    cpu: float = 6.0
    wall: float = 19.0
    memory: int = 1024
    output: int = 16 << 20


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """What the child says about one test; untrusted."""

    test: int
    start: int
    end: int
    nanoseconds: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """How a child ended, and what it left behind.

    killed   "" when it ended by itself, else "cpu", "wall" or "judge"
    status   exit status, or minus the signal
    cpu      processor seconds, from the kernel
    frames   of the tests that ended
    output   everything written to the output file
    """

    killed: str
    status: int
    cpu: float
    frames: tuple[Frame, ...]
    output: bytes


class _Report(msgspec.Struct):
    killed: str
    status: int
    cpu: float


_frames = msgspec.json.Decoder(Frame)
_reports = msgspec.json.Decoder(_Report)


def read_frames(descriptor: int, limit: int = 1 << 20) -> tuple[Frame, ...]:
    """The well-formed frames at the start of a frames file; the rest is ignored."""
    frames: list[Frame] = []
    for line in os.pread(descriptor, limit, PAGE).split(b"\n")[:-1]:
        try:
            frames.append(_frames.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
    return tuple(frames)


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
        environment = {
            "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
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
        if not select.select([self._channel], [], [], START_SECONDS)[0]:
            self.kill()
            raise SandboxUnavailable(f"the sandbox did not start within {START_SECONDS:.0f} s")
        hello = self._channel.recv(65536)
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

    def run(
        self,
        job: bytes,
        tests: int,
        limits: Limits,
        give_up: Callable[[tuple[Frame, ...], int], bool] | None = None,
    ) -> Run:
        """Run one job in a fresh child. `give_up(frames so far, output file)` is asked now and then
        while it runs; True kills the child. Raises Lost."""
        files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("job", "output", "frames")]
        try:
            os.pwrite(files[0], job, 0)
            os.ftruncate(files[2], PAGE)
            order = {
                "cpu": limits.cpu, "wall": limits.wall, "memory": limits.memory,
                "output": limits.output, "tests": tests,
            }  # fmt: skip
            report = self._ask(json.dumps(order).encode(), files, tests, limits, give_up)
            size = min(os.fstat(files[1]).st_size, limits.output)
            return Run(report.killed, report.status, report.cpu, read_frames(files[2]),
                       os.pread(files[1], size, 0))  # fmt: skip
        except (OSError, msgspec.DecodeError) as error:
            self.kill()
            raise Lost(f"the sandbox process was lost: {error}") from error
        finally:
            for file in files:
                os.close(file)

    def _ask(
        self,
        order: bytes,
        files: list[int],
        tests: int,
        limits: Limits,
        give_up: Callable[[tuple[Frame, ...], int], bool] | None,
    ) -> _Report:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))
        self._channel.sendmsg([order], [rights])
        deadline = time.monotonic() + 6 * limits.wall * tests + 10
        pause = 0.02
        while not select.select([self._channel], [], [], pause)[0]:
            pause = min(2 * pause, 0.25)
            if give_up is not None and give_up(read_frames(files[2]), files[1]):
                self._channel.send(b"kill")
                give_up = None
            if time.monotonic() > deadline:
                raise OSError("no answer in time")
        return _reports.decode(self._channel.recv(4096))

    def kill(self) -> int:
        """End the process and everything below it; returns its exit status."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return self._process.wait()

    close = kill


def job_bytes(code: str, inputs: Sequence[str], function: str | None, lenient: bool = False) -> bytes:
    """A job: a program, and for each test its standard input or its JSON list of arguments."""
    job: dict[str, Any] = {
        "code": code, "inputs": list(inputs), "function": function, "lenient": lenient,
    }  # fmt: skip
    return json.dumps(job).encode()
