"""Nobody waits for the dead: a rank killed, silent or failed ends the others, one that leaves does not."""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

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
                self.lines[number] = Lifeline(number, {theirs: 0}, lambda said, n=number: self._end(n, said))  # type: ignore[misc]

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


def connected(port: int, said: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.sendall(said)
    return made


def test_ranks_come_past_strangers_who_keep_quiet_and_in_pieces() -> None:
    told: queue.Queue[tuple[int, str]] = queue.Queue()
    found: list[dict[socket.socket, int]] = []
    first = threading.Thread(target=lambda: found.append(lifeline._gather(4, told.put)))
    first.start()
    port, token = told.get(timeout=30)
    strangers = [
        connected(port, said) for said in (b"", b"\n", b"GET / HTTP/1.1\r\n", b"x" * 99, b"\xff 1\n")
    ]
    strangers += [connected(port) for _ in range(20)]
    strangers += [connected(port, f"{token} {number:6d}\n".encode()) for number in (0, 4)]
    halved = connected(port, f"{token} ".encode())
    others = [lifeline._come(n, lambda _: (port, token), "127.0.0.1") for n in (1, 2)]
    halved.sendall(b"     3\nbye\n")
    assert halved.makefile("rb").readline() == lifeline.OK
    first.join(30)
    assert sorted(found[0].values()) == [1, 2, 3]
    (third,) = [connection for connection, number in found[0].items() if number == 3]
    assert third.recv(64) == b"bye\n"  # left for the line
    for connection in [*found[0], *strangers, halved, *(c for o in others for c in o)]:
        connection.close()


@pytest.mark.parametrize("closed", [True, False])
def test_a_line_that_nobody_answers_is_none(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    """The kernel accepts for a listener that closes, or never asks; rank 0 must not take it for a death."""
    monkeypatch.setattr(lifeline, "MEET", 30.0 if closed else 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where, wrong = (listener.getsockname()[1], "token"), list[Any]()

        def come() -> None:
            wrong.append(lifeline.hold(1, 2, lambda _: where, "127.0.0.1"))

        client = threading.Thread(target=come)
        client.start()
        if not closed:
            with listener.accept()[0] as late:
                assert late.makefile("rb").read() == b"token      1\nbye\n"
        else:
            select.select([listener], [], [], 30)
    client.join(30)
    assert wrong == [None]


def test_a_first_rank_that_cannot_listen_tells_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> socket.socket:
        raise OSError("no port is left")

    monkeypatch.setattr(lifeline, "_listener", fails)
    told: list[Any] = []
    assert lifeline.hold(0, 2, told.append, "127.0.0.1") is None and told == [None]
    assert lifeline.hold(1, 2, lambda _: None, "127.0.0.1") is None


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
