"""Nobody waits for the dead: a rank killed, silent or failed ends the others, one that leaves does not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from acereason import lifeline
from acereason.lifeline import Lifeline
from commands import HERE


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("BEAT", 0.05), ("SILENCE", 1.0), ("GRACE", 0.1)):
        monkeypatch.setattr(lifeline, name, seconds)


class Star:
    """Rank 0 with a line to each of the others, in one process; `ends` are the sentences of those ended."""

    def __init__(self, world: int, mute: int = -1) -> None:
        pairs = [socket.socketpair() for _ in range(1, world)]
        self.ends: dict[int, str] = {}
        self.ended = threading.Condition()
        peers = {mine: number for number, (mine, _) in enumerate(pairs, 1)}
        self.theirs = {number: theirs for number, (_, theirs) in enumerate(pairs, 1)}
        self.lines = {0: Lifeline(0, peers, lambda said: self._end(0, said))}
        for number, theirs in self.theirs.items():
            if number != mute:
                self.lines[number] = Lifeline(number, {theirs: 0}, lambda said, n=number: self._end(n, said))

    def _end(self, rank: int, said: str) -> None:
        with self.ended:
            self.ends[rank] = said
            self.ended.notify_all()

    def wait(self, *wanted: int) -> None:
        with self.ended:
            assert self.ended.wait_for(lambda: set(self.ends) >= set(wanted), 30), self.ends


def test_a_rank_that_is_gone_ends_all_others() -> None:
    star = Star(3, mute=2)
    star.theirs.pop(2).close()
    star.wait(0, 1)
    assert all("rank 2 was lost" in said for said in star.ends.values())


def test_a_silent_rank_is_lost_and_one_that_says_it_lives_is_not() -> None:
    star = Star(3, mute=1)
    star.wait(0, 2)
    star.theirs[1].close()
    assert all("rank 1 was lost" in said for said in star.ends.values())


def test_a_rank_that_fails_says_so_and_is_ended_where_it_hangs() -> None:
    star = Star(3)
    star.lines[1].fail()
    star.wait(0, 1, 2)
    assert "rank 1 failed" in star.ends[1] and "rank 1 was lost" in star.ends[2]


def test_ranks_that_leave_in_any_order_end_nobody() -> None:
    star = Star(4)
    for number in (2, 0, 1, 3):
        star.lines[number].leave()
        time.sleep(0.02)
    time.sleep(1.5)  # longer than a silence
    assert not star.ends


def test_a_rank_killed_beside_one_that_makes_a_group() -> None:
    """Without the line rank 0 waits for the process group's hour."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "waiting_ranks.py"), "0.5"]
    told = [os.environ | where | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(2)]
    first, second = (subprocess.Popen(command, env=e, stderr=subprocess.PIPE, text=True) for e in told)
    second.communicate(timeout=120)
    assert second.returncode == -signal.SIGKILL
    said = first.communicate(timeout=60)[1]
    assert first.returncode == lifeline.STATUS and "rank 1 was lost" in said
