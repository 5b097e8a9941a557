"""Taking away what a model-written program does not need: Linux calls through ctypes.

The zygote gives up root and, where the kernel allows, moves into its own user, process, mount,
network and IPC namespaces with a root directory that holds the interpreter and nothing else. Each
child then sets resource limits, restricts itself with Landlock to reading the interpreter's
directories, and installs the seccomp filter. `no_new_privs` is set once, in the zygote, and
inherited.

Limits that the kernel counts per user bind only where nobody else is that user: started as root, every
zygote becomes a user of its own; in a user namespace of its own it is one; elsewhere the zygote counts its
children's threads itself.

Kernel holes reachable through the calls that stay allowed are not covered; nor are timing channels.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import struct
import sys
from typing import Any

NOBODY = 65534
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 1, 38, 4
NEW_NAMESPACES = 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # mnt pid net ipc uts
NEW_USER = 0x10000000
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4
NUMBERS = {"x86_64": {"pivot_root": 155, "seccomp": 317, "capset": 126},
           "aarch64": {"pivot_root": 41, "seccomp": 277, "capset": 91}}  # fmt: skip
CLOSE_RANGE, LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 436, 444, 445, 446
OWN_USERS = 2_000_000_000  # beyond the ranges that distributions and container engines hand out
READ_FILE, READ_DIR = 4, 8
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
SYSTEM_PATHS = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
)

MOUNT_POINTS = ("/tmp", "/mnt", "/media", "/srv", "/var/tmp", "/run", "/opt", "/home")

libc = ctypes.CDLL(None, use_errno=True)
_number = NUMBERS.get(os.uname().machine, NUMBERS["x86_64"])


class KernelRefused(OSError):
    """The kernel refused a step of the confinement; the message names the step."""


def _call(name: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise KernelRefused(error, f"{name}: {os.strerror(error)}")
    return result


def _syscall(name: str, number: int, *arguments: Any) -> int:
    widened = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _call(name, libc.syscall(ctypes.c_long(number), *widened))


def _prctl(name: str, option: int, value: int) -> None:
    _call(name, libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def no_new_privileges() -> None:
    """No program that is ever executed below gains privileges. Precondition of Landlock and
    seccomp."""
    _prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    """Be killed when the thread that forked this process ends. Cleared by a change of uid."""
    _prctl("pdeathsig", PR_SET_PDEATHSIG, signal.SIGKILL)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    result = libc.mount(
        source.encode(),
        target.encode(),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if data is None else data.encode(),
    )
    _call(f"mount {target}", result)


def need_descriptors(least: int) -> None:
    """Raise the limit of open descriptors to at least this; OSError where it cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < least:
        if hard != resource.RLIM_INFINITY and hard < least:
            raise OSError(f"{least} open descriptors (`ulimit -n` says {hard})")
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))


def keep_only(descriptors: list[int], first: int) -> None:
    """Renumber these descriptors to `first`, … and close every other one from 3 on, whatever its number."""
    end = first + len(descriptors)
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, end) for descriptor in descriptors]
    for number, descriptor in enumerate(aside, first):
        os.dup2(descriptor, number, inheritable=False)
    close_from(end)
    if first > 3:
        _syscall("close_range", CLOSE_RANGE, 3, first - 1, 0)


def close_from(first: int) -> None:
    """Close every descriptor from this number on."""
    _syscall("close_range", CLOSE_RANGE, first, 0xFFFFFFFF, 0)


def _known_users() -> list[tuple[int, int]]:
    with open("/proc/self/uid_map") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return [(first, first + count) for first, _, count in ranges]


def knows(uid: int) -> bool:
    """Whether this user namespace knows a uid; rootless containers often know only their root."""
    return any(first <= uid < end for first, end in _known_users())


def own_user(process: int) -> int | None:
    """A uid that only the sandbox of this process uses; None where no other than its own is known."""
    if knows(OWN_USERS + process):
        return OWN_USERS + process
    first, end = max(_known_users(), key=lambda known: known[1] - known[0])
    return (
        end - 1 - process % ((end - first) // 2) if end - first > 1000 else NOBODY if knows(NOBODY) else None
    )


def is_host_root() -> bool:
    """Whether this process is root outside of every container too."""
    with open("/proc/self/uid_map") as file:
        return os.geteuid() == 0 and file.read().split()[1] == "0"


def unshare() -> bool:
    """Enter new namespaces; the next child forked is process 1 there. False where it is
    forbidden."""
    uid, gid = os.geteuid(), os.getegid()
    new_user = uid != 0 or not knows(NOBODY)
    if libc.unshare(NEW_NAMESPACES | (NEW_USER if new_user else 0)) < 0:
        return False
    if new_user:
        for file, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {uid} 1"),
            ("gid_map", f"{NOBODY} {gid} 1"),
        ):
            with open(f"/proc/self/{file}", "w") as handle:
                handle.write(text)
    return True


def change_root(readable: list[str]) -> None:
    """Make a root directory in which only `readable` and four devices exist, all read-only."""
    sources = [*readable, *DEVICES]
    new = next(at for at in MOUNT_POINTS if os.path.isdir(at) and not _hides(at, sources))
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", new, "tmpfs", MS_NOSUID, "size=1m,mode=755")
    for path in sources:
        _bind(path, new + path)
    os.chdir(new)
    _syscall("pivot_root", _number["pivot_root"], ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    _call("umount", libc.umount2(b".", MNT_DETACH))
    os.chdir("/")
    _mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)


def _hides(mount_point: str, paths: list[str]) -> bool:
    return any(path.startswith(mount_point + "/") for path in paths)


def _bind(source: str, target: str) -> None:
    if os.path.islink(source):  # /lib -> usr/lib: keep the link, its target is on the list too
        os.symlink(os.readlink(source), target)
        return
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if os.path.isdir(source):
        os.makedirs(target, mode=0o755, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(source, target, None, MS_BIND | MS_REC)


def drop_root(user: int | None, host_root: bool) -> None:
    """Become the unprivileged `user` without groups or capabilities; checked, not assumed. The root of
    a container that knows no other user cannot switch; outside it is an ordinary user."""
    if os.geteuid() == 0 and user is not None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(user, user, user)
    header = struct.pack("<Ii", 0x20080522, 0)
    _syscall("capset", _number["capset"], ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)))
    if host_root and os.getuid() == 0:
        raise KernelRefused(1, "setuid: still root")


def landlock_version() -> int:
    """The Landlock ABI of this kernel; 0 without Landlock."""
    return max(0, int(libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def landlock_rules(readable: list[str]) -> int:
    """A ruleset descriptor that allows reading below `readable` and nothing else: no writing, no
    making, no executing, and where the kernel can tell no TCP and no signals to the outside."""
    version = landlock_version()
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attributes = struct.pack("<QQQ", handled, 3, 3)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _syscall("landlock_create_ruleset", LANDLOCK_CREATE,
                     ctypes.c_char_p(attributes), size, 0)  # fmt: skip
    for path in [*readable, *DEVICES]:
        if os.path.exists(path):
            _allow_reading(rules, path)
    return rules


def _allow_reading(rules: int, path: str) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    access = READ_FILE | READ_DIR if os.path.isdir(path) else READ_FILE
    rule = struct.pack("<Qi", access, descriptor)
    _syscall("landlock_add_rule", LANDLOCK_ADD, rules, 1, ctypes.c_char_p(rule), 0)
    os.close(descriptor)


def restrict_self(rules: int) -> None:
    """Apply the Landlock ruleset to this process and close it."""
    _syscall("landlock_restrict_self", LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install_filter(instructions: bytes) -> None:
    """Install the seccomp filter. From here on the process cannot undo anything above."""
    program = _Program(len(instructions) // 8, instructions)
    _syscall("seccomp", _number["seccomp"], SECCOMP_SET_MODE_FILTER,
             SECCOMP_FILTER_FLAG_SPEC_ALLOW, ctypes.byref(program))  # fmt: skip


def _limit(kind: int, soft: int, hard: int) -> None:
    if soft < 0:  # which would mean without end
        raise ValueError(f"a limit of {soft}")
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def limit_kind(threads: int | None) -> None:
    """What every child shall inherit: no core files, 64 descriptors, 64 MiB of main stack, and where it is
    said here the threads of its user."""
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_NOFILE, 64, 64)
    ceiling = resource.getrlimit(resource.RLIMIT_STACK)[1]
    _limit(resource.RLIMIT_STACK, 64 << 20, ceiling)
    if threads is not None:
        limit_threads(threads)


def limit_threads(threads: int) -> None:
    """How many threads the user of this process may have."""
    _limit(resource.RLIMIT_NPROC, threads, threads)


def limit_child(cpu: int, memory: int, file: int) -> None:
    """Limits of one child: processor seconds, bytes of address space with what the zygote already maps,
    bytes of one file."""
    _limit(resource.RLIMIT_CPU, cpu, cpu + 1)
    _limit(resource.RLIMIT_AS, memory, memory)
    _limit(resource.RLIMIT_FSIZE, file, file)


def readable_paths(extra: list[str]) -> list[str]:
    """What the interpreter needs to read: its standard library, its shared libraries, and
    `extra`."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = [os.path.join(base, sys.platlibdir, version) for base in {sys.base_prefix, sys.base_exec_prefix}]
    paths += [*SYSTEM_PATHS, *extra]
    with open("/proc/self/maps") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if ".so" in line}
    paths += sorted(os.path.dirname(path) for path in mapped if path.startswith("/"))
    chosen: list[str] = []
    for path in paths:
        inside = any(path.startswith(parent + "/") for parent in chosen)
        if os.path.exists(path) and path not in chosen and not inside:
            chosen.append(path)
    return chosen
