"""The seccomp filter: which system calls a model-written program may make, as a classic BPF
program.

An allow-list. What is not on it fails with EPERM; a call under a foreign ABI (i386, x32) kills the
process. Threads may be created that share everything with their program, processes may not; files may
be opened for reading only; limits may be read, and only the stack limit set; signals cannot be sent at
all. Sockets exist only as a stream pair with two nameless ends, which `asyncio` wakes itself with: bytes
in, bytes out, no addresses, no descriptors, no out-of-band data. x86-64 and arm64 have tables; the arm64
one has not been run by the authors and relies on the self-test.
"""

from __future__ import annotations

import platform
import struct

KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
EPERM, EACCES, ENOTTY, ENOSYS = 1, 13, 25, 38
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

CLONE_SHARED = 0x00050F00  # VM FS FILES SIGHAND THREAD SYSVSEM: all that a POSIX thread shares
CLONE_NEW_ANYTHING = 0x7E020000 | 0x00000080
OPEN_WRITES = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000 | 0o20000000
RLIMIT_STACK = 3
FCNTL_ALLOWED = (0, 1, 2, 3, 4, 1030)  # duplicate, descriptor flags, status flags
IOCTL_ALLOWED = (0x5401, 0x5413, 0x5421, 0x5451)  # is it a terminal, its size, non-blocking, close on exec
AF_UNIX, SOCK_STREAM, SOCK_KIND = 1, 1, 0xF
MESSAGE_FLAGS = 0x4040  # do not wait, no signal

# name: (x86-64, arm64); None where the architecture has no such call
CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "access": (21, None),
    "pipe": (22, None), "select": (23, None), "sched_yield": (24, 124), "mremap": (25, 216),
    "msync": (26, 227), "mincore": (27, 232), "madvise": (28, 233), "dup": (32, 23),
    "dup2": (33, None), "pause": (34, None), "nanosleep": (35, 101), "getitimer": (36, 102),
    "alarm": (37, None), "setitimer": (38, 103), "getpid": (39, 172), "exit": (60, 93),
    "uname": (63, 160), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46),
    "getdents": (78, None), "getcwd": (79, 17), "readlink": (89, None), "umask": (95, 166),
    "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, None),
    "getgroups": (115, 158), "getpgid": (121, 155), "getsid": (124, 156),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "sigaltstack": (131, 132),
    "fstatfs": (138, 44), "getpriority": (140, 141), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "arch_prctl": (158, None), "gettid": (186, 178),
    "time": (201, None), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "getdents64": (217, 61), "set_tid_address": (218, 96), "restart_syscall": (219, 128),
    "fadvise64": (221, 223), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "newfstatat": (262, 79),
    "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69),
    "getsockname": (51, 204), "getcpu": (309, 168),
    "getrandom": (318, 278), "membarrier": (324, 283), "statx": (332, 291),
    "rseq": (334, 293), "faccessat2": (439, 439),
}  # fmt: skip
CONDITIONAL = {
    "clone": (56, 220), "clone3": (435, 435), "openat": (257, 56), "prlimit64": (302, 261),
    "fcntl": (72, 25), "ioctl": (16, 29), "socketpair": (53, 199), "sendto": (44, 206),
    "recvfrom": (45, 207),
}  # fmt: skip

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN, AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _argument(number: int, high: bool = False) -> bytes:
    """Load half of a system call argument (little endian: the low half comes first)."""
    return _instruction(LOAD, 16 + 8 * number + 4 * high)


def _verdict(action: int) -> bytes:
    return _instruction(RETURN, action)


def _when(number: int, body: bytes) -> bytes:
    """Run `body`, which always returns, when the loaded call number is `number`."""
    return _instruction(EQUAL, number, 0, len(body) // 8) + body


def _one_of(values: tuple[int, ...], otherwise: int) -> bytes:
    tests = b"".join(_when(value, _verdict(ALLOW)) for value in values)
    return tests + _verdict(ERRNO | otherwise)


def _clone() -> bytes:
    """A thread that shares everything, in no new namespace. One with a table of descriptors of its own, say,
    would multiply what a program may hold."""
    return (
        _argument(0)
        + _instruction(ANY_BIT, CLONE_NEW_ANYTHING & 0xFFFFFFFF, 3, 0)
        + _instruction(AND, CLONE_SHARED)
        + _instruction(EQUAL, CLONE_SHARED, 0, 1)
        + _verdict(ALLOW)
        + _verdict(ERRNO | EPERM)
    )


def _socketpair() -> bytes:
    """Two connected ends of a local stream, as `socket.socketpair()` asks for."""
    stream = (
        _argument(1) + _instruction(AND, SOCK_KIND) + _when(SOCK_STREAM, _verdict(ALLOW))
        + _verdict(ERRNO | EPERM)
    )  # fmt: skip
    return _argument(0) + _when(AF_UNIX, stream) + _verdict(ERRNO | EPERM)


def _message() -> bytes:
    """`send` and `recv`: no address, and no flags but those that say whether to wait."""
    plain = (
        _argument(3) + _instruction(ANY_BIT, 0xFFFFFFFF ^ MESSAGE_FLAGS, 1, 0) + _verdict(ALLOW)
        + _verdict(ERRNO | EPERM)
    )  # fmt: skip
    low, high = _argument(4), _argument(4, high=True)
    no_address = high + _instruction(EQUAL, 0, 0, len(plain) // 8) + plain
    return low + _instruction(EQUAL, 0, 0, len(no_address) // 8) + no_address + _verdict(ERRNO | EPERM)


def _openat() -> bytes:
    refuse_writes = _instruction(ANY_BIT, OPEN_WRITES, 1, 0) + _verdict(ALLOW)
    return _argument(2) + refuse_writes + _verdict(ERRNO | EACCES)


def _prlimit() -> bytes:
    """Of this process only; reading any limit, setting the stack's (competitors raise it)."""
    read_only = (
        _argument(2) + _instruction(EQUAL, 0, 0, 3) + _argument(2, high=True)
        + _instruction(EQUAL, 0, 0, 1) + _verdict(ALLOW)
    )  # fmt: skip
    stack = _argument(1) + _when(RLIMIT_STACK, _verdict(ALLOW))
    own = read_only + stack + _verdict(ERRNO | EPERM)
    return _argument(0) + _instruction(EQUAL, 0, 0, len(own) // 8) + own + _verdict(ERRNO | EPERM)


def build(machine: str | None = None) -> bytes | None:
    """The filter for this architecture as `struct sock_filter[]`; None when there is no table for
    it."""
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        return None
    column = 0 if machine == "x86_64" else 1
    program = _instruction(LOAD, 4)
    program += _instruction(EQUAL, ARCHITECTURES[machine], 1, 0) + _verdict(KILL_PROCESS)
    program += _instruction(LOAD, 0)
    if machine == "x86_64":
        program += _instruction(AT_LEAST, X32_BIT, 0, 1) + _verdict(KILL_PROCESS)
    for numbers in CALLS.values():
        number = numbers[column]
        if number is not None:
            program += _when(number, _verdict(ALLOW))
    bodies = {
        "clone": _clone(),
        "clone3": _verdict(ERRNO | ENOSYS),
        "openat": _openat(),
        "prlimit64": _prlimit(),
        "fcntl": _argument(1) + _one_of(FCNTL_ALLOWED, EPERM),
        "ioctl": _argument(1) + _one_of(IOCTL_ALLOWED, ENOTTY),
        "socketpair": _socketpair(),
        "sendto": _message(),
        "recvfrom": _message(),
    }
    for name, body in bodies.items():
        program += _when(CONDITIONAL[name][column], body)
    return program + _verdict(ERRNO | EPERM)
