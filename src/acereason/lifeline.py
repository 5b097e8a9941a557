"""A line between the ranks of a run that breaks when one of them dies, so that none waits for the dead.

A rank that dies is not seen everywhere: a collective of others, a group that is being made (as by the first
checkpoint of a sharded model) or a thread that the process waits for at its end go on until the process
group's timeout, an hour. Every rank therefore keeps a connection to rank 0 and says that it lives.

    each `BEAT`                  a line that says so
    closed without a goodbye     a process died, or ended with an error: lost at once
    silent for `SILENCE`         a host is gone, or the network: lost
    lost                         rank 0 tells all; each has `GRACE` to end by its own error, then it is ended

`torchrun` and `srun --kill-on-bad-exit` do the same for what they started; this is for every other start, and
for hosts that say nothing any more.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)
BEAT, SILENCE, GRACE = 5.0, 300.0, 120.0  # seconds
MEET = 60.0  # seconds for all ranks to come to rank 0
HELLO, OK = 40, b"ok\n"  # bytes of a rank's first line, "<token> <rank>", and rank 0's answer
STATUS = 1
Agreed = Callable[[Any], Any]


class Peer:
    """A rank at the other end: when it was heard last, and what came of its line so far."""

    def __init__(self, rank: int) -> None:
        self.rank, self.heard, self.rest = rank, time.monotonic(), b""

    def lines(self, data: bytes) -> list[str]:
        """The whole lines in what came."""
        self.heard = time.monotonic()
        *whole, self.rest = (self.rest + data).split(b"\n")
        return [line.decode("ascii", "replace") for line in whole]


class Lifeline:
    """Over connections to `peers` (socket: rank). `end` is called with a sentence when all time is over."""

    def __init__(self, rank: int, peers: dict[socket.socket, int], end: Callable[[str], None]) -> None:
        self.rank, self._end = rank, end
        self._peers = {connection: Peer(number) for connection, number in peers.items()}
        self._selector = selectors.DefaultSelector()
        for connection in peers:
            self._selector.register(connection, selectors.EVENT_READ)
        self._left, self._lost = threading.Event(), list[int]()
        threading.Thread(target=self._watch, daemon=True, name="lifeline").start()

    def leave(self) -> None:
        """Say goodbye: this rank is done."""
        self._say("bye")
        self._left.set()

    def fail(self) -> None:
        """Say that this rank ends with an error; it is ended where it does not by itself."""
        self._lost.append(self.rank)

    def _watch(self) -> None:
        try:
            self._listen()
        finally:
            for connection in list(self._peers):
                self._part(connection)
            self._selector.close()

    def _listen(self) -> None:
        beat = 0.0
        while self._peers and not self._left.is_set() and not self._lost:
            for key, _ in self._selector.select(BEAT / 2):
                self._hear(key.fileobj)
            if time.monotonic() >= beat:
                self._say("")
                beat = time.monotonic() + BEAT
            silent = time.monotonic() - SILENCE
            self._lost += [peer.rank for peer in self._peers.values() if peer.heard < silent]
        if self._lost:
            self._say(f"lost {self._lost[0]}")
            if not self._left.wait(GRACE):
                self._end(self._sentence(self._lost[0]))

    def _hear(self, connection: Any) -> None:
        peer = self._peers[connection]
        try:
            data = connection.recv(4096)
        except OSError:
            data = b""
        for line in peer.lines(data):
            if line == "bye":
                self._part(connection)
                return
            if line.startswith("lost "):
                self._lost.append(int(line[5:]))
        if not data:
            self._lost.append(peer.rank)
            self._part(connection)

    def _part(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._peers.pop(connection)
        connection.close()

    def _say(self, line: str) -> None:
        for connection in list(self._peers):
            with contextlib.suppress(OSError):  # what is closed is read as closed
                connection.sendall(f"{line}\n".encode())

    def _sentence(self, lost: int) -> str:
        if lost == self.rank:
            return f"rank {lost} failed {GRACE:.0f} s ago and did not come to an end; it is ended"
        return (
            f"rank {lost} was lost: its process died, or its host has been silent for {SILENCE:.0f} s. "
            f"Rank {self.rank} still waited {GRACE:.0f} s later, and is ended. The run goes on with --resume"
        )


def hold(rank: int, world: int, agreed: Agreed, host: str) -> Lifeline | None:
    """This rank's line. Collective: `agreed` gives every rank what rank 0 puts in, and rank 0 is reached at
    `host`. None, with a warning, where it cannot be reached."""
    try:
        return Lifeline(rank, _come(rank, agreed, host) if rank else _gather(world, agreed), _ended)
    except OSError as error:
        log.warning("rank %d has no lifeline to rank 0 at %s: %s", rank, host, error)
        return None


def _gather(world: int, agreed: Agreed) -> dict[socket.socket, int]:
    """Rank 0: the connections of all who come in time."""
    try:
        listener = _listener()
    except OSError:
        agreed(None)  # the others wait for it
        raise
    token = secrets.token_hex(16)
    with listener:
        agreed((listener.getsockname()[1], token))
        found = _welcomed(listener, token, world)
    if missing := set(range(1, world)) - set(found.values()):
        log.warning("ranks %s have no lifeline: they did not come within %.0f s", sorted(missing), MEET)
    return found


def _welcomed(listener: socket.socket, token: str, world: int) -> dict[socket.socket, int]:
    """Who came and was told so. Nobody is waited for alone: strangers may say nothing, or half a line."""
    until, found, coming = time.monotonic() + MEET, dict[socket.socket, int](), dict[socket.socket, bytes]()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while len(found) < world - 1 and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                connection: Any = key.fileobj
                if connection is listener:
                    _let_in(listener, selector, coming)
                elif not (said := _read(connection, coming[connection])).endswith(b"\n"):
                    coming[connection] = said
                else:
                    selector.unregister(connection)
                    del coming[connection]
                    number = _number(said, token)
                    if 0 < number < world and number not in found.values() and _greeted(connection):
                        found[connection] = number
                    else:
                        connection.close()
    for connection in coming:
        connection.close()
    return found


def _let_in(
    listener: socket.socket, selector: selectors.BaseSelector, coming: dict[socket.socket, bytes]
) -> None:
    with contextlib.suppress(OSError):  # it went away meanwhile
        connection = listener.accept()[0]
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        coming[connection] = b""


def _read(connection: socket.socket, said: bytes) -> bytes:
    """What a connection said until now, and no byte of what comes after its first line. A line that is
    too long, or not to be finished, ends here."""
    try:
        more = connection.recv(HELLO - len(said))
    except BlockingIOError:
        return said
    except OSError:
        more = b""
    return said + more if more and (len(said) + len(more) < HELLO or more.endswith(b"\n")) else b"\n"


def _number(said: bytes, token: str) -> int:
    """The rank that a line with the token names; 0: none."""
    name, _, number = said.rstrip(b"\n").partition(b" ")
    known = hmac.compare_digest(name, token.encode()) and number.strip().isdigit()
    return int(number) if known else 0


def _greeted(connection: socket.socket) -> bool:
    """Whether the other end could be told that its line is held."""
    connection.settimeout(5.0)
    with contextlib.suppress(OSError):
        connection.sendall(OK)
        return True
    return False


def _listener() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=256, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=256)


def _come(rank: int, agreed: Agreed, host: str) -> dict[socket.socket, int]:
    where = agreed(None)
    if where is None:
        raise OSError("rank 0 cannot listen")
    connection = socket.create_connection((host, where[0]), MEET)
    try:
        connection.settimeout(2 * MEET)  # by then rank 0 has answered, or has hung up
        connection.sendall(f"{where[1]} {rank:6d}\n".encode())
        said = b""
        while len(said) < len(OK):  # a line that the kernel took may be held by nobody
            if not (more := connection.recv(len(OK) - len(said))):
                raise ConnectionError("it hung up")
            said += more
        if said != OK:
            raise ConnectionError(f"it answered {said!r}")
    except OSError:
        with contextlib.suppress(OSError):
            connection.sendall(b"bye\n")  # should it answer yet
        connection.close()
        raise
    connection.settimeout(5.0)
    return {connection: 0}


def _ended(sentence: str) -> None:
    """End the process from a thread: its main thread waits where nothing can wake it."""
    sys.stderr.write(f"error: {sentence}\n")
    sys.stderr.flush()
    os._exit(STATUS)
