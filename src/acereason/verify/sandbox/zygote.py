"""A small process that forks one confined child per program.

    judge ──(job, output, frames: descriptors)──▶ zygote ──fork──▶ child: confine, run, exit
          ◀──(how it ended, processor time)──────

It is started by exec with an empty environment, loads the modules that programs import, gives up
root, enters namespaces where it may, and then serves one job at a time over a sequenced-packet
socket. It holds no expected output and reads neither programs nor answers: only the kernel's clocks,
for the judge to decide by. Of its own it ends a child only past the job's deadline.

A child gets six descriptors and no other, so none of the zygote's. Every report bears the number of its
job, and the kernel stamps it with the process that sent it, so that nobody else can write one.
"""

from __future__ import annotations

import _sitebuiltins
import array
import builtins
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acereason.verify.sandbox import clocks, confine, filters, locks, runner
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import clocks
    import confine
    import filters
    import locks
    import runner

    del sys.path[0]

PRELOAD = """
array ast bisect cmath collections collections.abc contextlib copy ctypes dataclasses datetime
decimal enum fractions functools heapq io itertools json math numbers operator os queue random re
resource statistics string struct sys textwrap threading time traceback types typing
"""
# where the library cannot be read after root is given up, what is not loaded now never will be
REST = """
abc argparse asyncio base64 binascii bz2 calendar codecs colorsys concurrent.futures.thread csv difflib dis
email encodings.ascii encodings.idna encodings.latin_1 errno fcntl gc getpass glob graphlib gzip hashlib
hmac html importlib inspect ipaddress keyword linecache locale logging lzma mmap multiprocessing
multiprocessing.dummy multiprocessing.pool multiprocessing.queues multiprocessing.synchronize pathlib pickle
platform posixpath pprint sched secrets select selectors shlex shutil signal socket sqlite3 stat subprocess
tempfile timeit unicodedata unittest urllib.parse urllib.request uuid warnings wave weakref
xml.etree.ElementTree zlib zoneinfo
"""
KILL, LOOK = b"kill", b"look"
THREADS = 512  # of one child
SPARE_THREADS = 4096  # beyond those of the whole system, where the limit counts other work of the user too
DESCRIPTORS = 32  # that the zygote and a child need
COUNT_SECONDS = 0.05  # how often threads are counted there
# 3 to 6 are free for a job's descriptors; the child keeps up to 7
CHILDS = [runner.JOB, runner.OUTPUT, runner.FRAMES, runner.INPUT]
RULES, CHANNEL, PROC, TOLD = range(runner.BEGUN + 1, runner.BEGUN + 5)


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
    use_what_is_allowed()
    del sys.path[len(sys.path) - len(options["path"]) :]


def use_what_is_allowed() -> None:
    """Let the library take ways that the confinement allows: locks without files, `poll`."""
    with contextlib.suppress(ImportError):
        importlib.import_module("_multiprocessing").SemLock = locks.SemLock  # type: ignore[attr-defined]
    if "selectors" in sys.modules:
        sys.modules["selectors"].DefaultSelector = sys.modules["selectors"].PollSelector  # type: ignore[attr-defined]


def run_child(descriptors: list[int], order: dict[str, Any], setup: dict[str, Any]) -> None:
    """In the forked child: confine it, in this order, then run the program. Does not return."""
    try:
        confine.die_with_parent()
        given = [*descriptors, os.memfd_create("input")]
        if given != CHILDS:
            raise OSError(f"expected descriptors {CHILDS}, found {given}")
        confine.close_from(RULES + 1)
        confine.limit_child(order["cpu"], setup["mapped"] + order["memory"], order["file"])
        if setup["counted"]:
            confine.limit_threads(threads_alive() + SPARE_THREADS)
        confine.restrict_self(RULES)
        confine.install_filter(setup["filter"])
    except BaseException as error:
        runner.tell(f"{type(error).__name__}: {error}")
        os._exit(71)
    runner.child(setup["names"])


def threads_alive() -> int:
    """Of the whole system."""
    with open("/proc/loadavg") as file:
        return int(file.read().split()[3].split("/")[1])


class Supervision:
    """One child from its fork to its report."""

    def __init__(
        self, channel: socket.socket, pid: int, order: dict[str, Any], setup: dict[str, Any]
    ) -> None:
        self.channel, self.pid, self.order, self.setup = channel, pid, order, setup
        self.handle = os.pidfd_open(pid)
        self.clocks = clocks.Clocks(pid, self.handle, PROC)
        self.deadline = time.monotonic() + order["deadline"]

    def killed(self) -> str:
        """Wait for the child. "" when it ended by itself, else why it has to be killed."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        poll.register(self.channel, select.POLLIN)
        while True:
            left = self.deadline - time.monotonic()
            pause = min(left, COUNT_SECONDS) if self.setup["counted"] else left
            ready = dict(poll.poll(max(0.0, pause) * 1000))
            if self.handle in ready:
                return ""
            reason = self._asked() if self.channel.fileno() in ready else self._overrun(left)
            if reason:
                return reason

    def _asked(self) -> str:
        message = self.channel.recv(len(KILL))
        if message != LOOK:
            return "judge" if message else "gone"
        with contextlib.suppress(OSError):  # it is just ending
            wall, used, waited = self.clocks.look()
            self.say(wall=wall, cpu=used, waited=waited)
        return ""

    def _overrun(self, left: float) -> str:
        with contextlib.suppress(OSError):
            if self.setup["counted"] and self.clocks.threads() > THREADS:
                return "threads"
            if left <= 0:
                wall, _, waited = self.clocks.look()
                return "starved" if waited > wall / 2 else "wall"
        return ""

    def report(self) -> None:
        """Wait, kill if need be, and tell the judge how the child ended."""
        killed = self.killed()
        if killed:
            os.kill(self.pid, signal.SIGKILL)
        wall = time.monotonic() - self.clocks.started
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.handle)
        if killed == "gone":
            sys.exit(0)
        used = usage.ru_utime + usage.ru_stime
        fault = told()
        self.say(killed=killed, status=os.waitstatus_to_exitcode(status), cpu=used, wall=wall,
                 waited=min(self.clocks.waited, wall), fault=fault)  # fmt: skip

    def say(self, **what: Any) -> None:
        """Send the judge a packet about this job."""
        self.channel.send(json.dumps({"job": self.order["job"], **what}).encode())


def told() -> str:
    """What a child that has ended said before its program: nothing wrong (""), or what failed in our own
    part. The program itself cannot take back what stands in the pipe, and has no way to write there."""
    try:
        words = os.read(TOLD, 4096)
    except BlockingIOError:
        return "it ended before the program began"
    return "" if words == runner.READY else words.decode("utf-8", "replace")


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
        if message in (KILL, LOOK):  # it crossed the report of the job it meant
            continue
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % sized.itemsize])
        order = json.loads(message)
        pid = os.fork()
        if pid == 0:
            run_child(list(descriptors), order, setup)
        Supervision(channel, pid, order, setup).report()
        for descriptor in descriptors:
            os.close(descriptor)


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
    begun = os.pipe()
    os.set_blocking(begun[0], False)
    confine.keep_only([begun[1], setup["rules"], channel.detach(), setup["proc"], begun[0]], runner.BEGUN)
    channel = socket.socket(fileno=CHANNEL)
    channel.send(json.dumps({"tier": setup["tier"]}).encode())
    serve(channel, setup)


def move_in(options: dict[str, Any]) -> dict[str, Any]:
    """Enter namespaces, load modules, change the root directory, drop root, prepare the
    confinement."""
    confine.need_descriptors(DESCRIPTORS)
    instructions = filters.build()
    if instructions is None:
        raise OSError(f"no seccomp table for {os.uname().machine}")
    if confine.landlock_version() < 1:
        raise OSError("Landlock (kernel 5.13 or newer, and enabled)")
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    user, host_root = confine.own_user(os.getpid()), confine.is_host_root()
    isolated = options["namespaces"] and confine.unshare()
    if isolated:
        inside = os.fork()
        if inside:
            _, status = os.waitpid(inside, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    load(options, everything=not isolated and os.geteuid() == 0)
    mapped = mapped_bytes()
    readable = confine.readable_paths(options["readable"])
    if isolated:
        confine.change_root(readable)
    own = isolated or (os.geteuid() == 0 and user is not None)
    confine.drop_root(user, host_root)
    if isolated:
        confine.die_with_parent()
    ctypes.CDLL(None).prctl(confine.PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.chdir("/")
    confine.no_new_privileges()
    confine.limit_kind(THREADS if own else None)
    return {
        "tier": "namespaces" if isolated else "no namespaces",
        "rules": confine.landlock_rules(readable),
        "filter": instructions,
        "mapped": mapped,
        "counted": not own,
        "proc": proc,
        "names": runner.prelude_names(),
    }


if __name__ == "__main__":
    main()
