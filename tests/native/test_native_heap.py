"""The C library's heap: freed blocks wait for reuse, and are given back when told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from acereason.native import heap

PROGRAM = """
import ctypes
from acereason.native import heap

def resident():
    with open("/proc/self/statm") as opened:
        return int(opened.read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use(blocks, size):
    held = [libc.malloc(size) for _ in range(blocks)]
    for block in held:
        libc.memset(block, 1, size)
    for block in held:
        libc.free(block)

print(heap.keep())
before = resident()
use(64, 1 << 20)
kept = resident() - before
heap.give_back()
given = resident() - before
use(2, 64 << 20)
print(kept >> 20, given >> 20, (resident() - before) >> 20)
"""


@pytest.mark.skipif(heap._library() is None, reason="the C library is not glibc's")
def test_small_blocks_wait_until_they_are_given_back_and_large_ones_do_not() -> None:
    run = [sys.executable, "-c", PROGRAM]
    said = subprocess.run(run, capture_output=True, text=True, env={"PYTHONPATH": "src"}, check=True).stdout
    possible, numbers = said.splitlines()
    kept, given, large = map(int, numbers.split())
    assert possible == "True"
    assert kept >= 60 and given <= 8 and large <= 8


@pytest.mark.skipif(heap._library() is None, reason="the C library is not glibc's")
def test_what_the_environment_says_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not heap.keep()


HEAPS = """
import ctypes, sys, tempfile, threading
from acereason.native import heap
if sys.argv[1] == "share":
    assert heap.share()
wait, libc = threading.Barrier(9), ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def work():
    libc.malloc(4000)
    wait.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[one.start() for one in threads]
wait.wait()
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
with tempfile.NamedTemporaryFile() as told:
    file = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(told.read().count(b"<heap "))
"""


@pytest.mark.skipif(heap._library() is None, reason="the C library is not glibc's")
def test_threads_share_two_heaps_where_they_are_told_to() -> None:
    def heaps(how: str) -> int:
        command = [sys.executable, "-c", HEAPS, how]
        said = subprocess.run(command, env={"PYTHONPATH": "src"}, capture_output=True, text=True, check=True)
        return int(said.stdout)

    assert heaps("share") <= 2 < heaps("leave")
