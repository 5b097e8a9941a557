"""A small process that forks one confined child per program.

    judge ──(job, output, frames: descriptors)──▶ zygote ──fork──▶ child: confine, run, exit
          ◀──(how it ended, processor time)──────

It is started by exec with an empty environment, loads the modules that programs import, gives up
root, enters namespaces where it may, and then serves one job at a time over a sequenced-packet
socket. It holds no expected output and reads neither programs nor answers: only clocks.

Time: a test may use `cpu` seconds of processor time, read from the kernel's clock of the child. The
wall clock only backs that up: past `wall` seconds a child that used next to nothing in the last
half of them is asleep and is killed; one that is merely starved by other work goes on, up to five
times that.
"""

from __future__ import annotations

import _sitebuiltins
import array
import builtins
import contextlib
import ctypes
import gc
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acereason.verify.sandbox import confine, filters, runner
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import confine
    import filters
    import runner

    del sys.path[0]

PRELOAD = """
array ast bisect cmath collections collections.abc contextlib copy ctypes dataclasses datetime
decimal enum fractions functools heapq io itertools json math numbers operator os queue random re
resource statistics string struct sys textwrap threading time traceback types typing
"""
# where the library cannot be read after root is given up, what is not loaded now never will be
REST = """
abc argparse asyncio base64 binascii bz2 calendar codecs colorsys csv difflib dis email
encodings.ascii encodings.idna encodings.latin_1 errno fcntl gc getpass glob gzip hashlib hmac html
importlib inspect ipaddress keyword linecache locale logging lzma mmap multiprocessing pathlib pickle
platform posixpath pprint sched secrets select selectors shlex shutil signal socket sqlite3 stat
subprocess tempfile timeit unicodedata unittest urllib.parse urllib.request uuid warnings wave weakref
xml.etree.ElementTree zlib zoneinfo
"""
KILL = b"kill"
ASLEEP = 0.002  # share of a processor below which a child counts as asleep
PATIENCE = 5  # times the wall time that a starved child is given


def preload(modules: list[str]) -> None:
    """Import what exists; programs then find it loaded."""
    for name in modules:
        with contextlib.suppress(ImportError):
            __import__(name)


def load(options: dict[str, Any], everything: bool) -> None:
    """Everything that programs shall find loaded."""
    sys.path.extend(options["path"])
    preload(PRELOAD.split())
    if everything:
        preload(REST.split())
    for name in ("exit", "quit"):  # what the module `site` would add
        setattr(builtins, name, _sitebuiltins.Quitter(name, "end of file"))
    preload(options["modules"])
    del sys.path[len(sys.path) - len(options["path"]) :]


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used, from the kernel."""
    return time.clock_gettime((~pid << 3) | 2)


class Watch:
    """How long the current test of a child has run, on both clocks."""

    def __init__(self, pid: int, frames: int, job: dict[str, Any]) -> None:
        self.pid, self.cpu, self.wall = pid, job["cpu"], job["wall"]
        self.page = mmap.mmap(frames, runner.PAGE, prot=mmap.PROT_READ)
        self.test, self.started = -1, time.monotonic()
        self.seen, self.seen_cpu = self.started, 0.0

    def overrun(self) -> tuple[str, float]:
        """("", seconds until it is worth looking again) or (which limit was passed, 0)."""
        now, used = time.monotonic(), processor_time(self.pid)
        test, began = struct.unpack_from("<qq", self.page)
        if test != self.test:
            self.test, self.started, self.seen, self.seen_cpu = test, now, now, used
        in_test = used - min(max(began / 1e9, 0.0), used)
        if in_test >= self.cpu:
            return "cpu", 0.0
        if now - self.seen >= self.wall / 2:
            asleep = used - self.seen_cpu < ASLEEP * (now - self.seen)
            self.seen, self.seen_cpu = now, used
            waited = now - self.started
            if waited >= PATIENCE * self.wall or (asleep and waited >= self.wall * 0.99):
                return "wall", 0.0
        return "", max(0.002, min(self.cpu - in_test, self.seen + self.wall / 2 - now))


def run_child(descriptors: list[int], job: dict[str, Any], setup: dict[str, Any]) -> None:
    """In the forked child: confine it, in this order, then run the program. Does not return."""
    try:
        confine.die_with_parent()
        job_file, output, frames = (os.dup2(fd, 61 + i) for i, fd in enumerate(descriptors))
        rules = os.dup2(setup["rules"], 60)
        saved_input = os.dup2(os.memfd_create("input"), 59)
        null = os.open("/dev/null", os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(null, target)
        os.closerange(3, 59)
        confine.limit_resources(
            int(job["cpu"] * job["tests"]) + 2, setup["mapped"] + (job["memory"] << 20),
            job["output"], setup["processes"],
        )  # fmt: skip
        confine.restrict_self(rules)
        confine.install_filter(setup["filter"])
    except BaseException:
        os._exit(71)
    runner.child(job_file, output, frames, saved_input, setup["names"])


def supervise(channel: socket.socket, pid: int, frames: int, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a child, kill it when it overruns or the judge says so, and report how it ended."""
    watch = Watch(pid, frames, job)
    handle = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(channel, select.POLLIN)
    killed, pause = "", watch.cpu
    while not killed:
        ready = dict(poll.poll(pause * 1000))
        if handle in ready:
            break
        if channel.fileno() in ready:
            killed = "judge" if channel.recv(len(KILL)) else "gone"
        else:
            killed, pause = watch.overrun()
    if killed:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    os.close(handle)
    watch.page.close()
    if killed == "gone":
        sys.exit(0)
    used = usage.ru_utime + usage.ru_stime
    return {"killed": killed, "status": os.waitstatus_to_exitcode(status), "cpu": used}


def serve(channel: socket.socket, setup: dict[str, Any]) -> None:
    """Answer jobs until the judge closes its end."""
    sized = array.array("i")
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        message, ancillary, _, _ = channel.recvmsg(4096, socket.CMSG_SPACE(3 * sized.itemsize))
        if not message:
            return
        if message == KILL:  # it crossed the report of the job it meant
            continue
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % sized.itemsize])
        job = json.loads(message)
        pid = os.fork()
        if pid == 0:
            run_child(list(descriptors), job, setup)
        report = supervise(channel, pid, descriptors[2], job)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(json.dumps(report).encode())


def mapped_bytes() -> int:
    """Address space that this process already uses, which a child inherits."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """`zygote.py DESCRIPTOR OPTIONS`: move in, say hello (or what is missing), serve."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    try:
        setup = move_in(options)
    except Exception as error:
        channel.send(json.dumps({"missing": f"{type(error).__name__}: {error}"}).encode())
        return
    channel.send(json.dumps({"tier": setup["tier"], "pid": os.getpid()}).encode())
    serve(channel, setup)


def move_in(options: dict[str, Any]) -> dict[str, Any]:
    """Enter namespaces, load modules, change the root directory, drop root, prepare the
    confinement."""
    instructions = filters.build()
    if instructions is None:
        raise OSError(f"no seccomp table for {os.uname().machine}")
    if confine.landlock_version() < 1:
        raise OSError("Landlock (kernel 5.13 or newer, and enabled)")
    isolated = options["namespaces"] and confine.unshare()
    if isolated:
        inside = os.fork()
        if inside:
            _, status = os.waitpid(inside, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    load(options, everything=not isolated and os.geteuid() == 0)
    mapped = mapped_bytes()
    readable = confine.readable_paths(options["readable"])
    can_switch, host_root = confine.knows(confine.NOBODY), confine.is_host_root()
    if isolated:
        confine.change_root(readable)
    restricted = os.geteuid() == 0 or isolated
    confine.drop_root(can_switch, host_root)
    if isolated:
        confine.die_with_parent()
    ctypes.CDLL(None).prctl(confine.PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.chdir("/")
    confine.no_new_privileges()
    return {
        "tier": "namespaces" if isolated else "no namespaces",
        "rules": confine.landlock_rules(readable),
        "filter": instructions,
        "mapped": mapped,
        "processes": 512 if restricted else None,
        "names": runner.prelude_names(),
    }


if __name__ == "__main__":
    main()
