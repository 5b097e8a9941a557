"""The teacher: several responses per problem from OpenAI-compatible servers, resumed without loss.

    folder/protocol.json     what the responses depend on; another protocol is refused here
    folder/answers.jsonl     a line per response, appended as it arrives, named by a hash of all
                             that was sent
    folder/refused.jsonl     requests that the server would not answer; owed again on the next start
    folder/responses.jsonl   all responses in the order (sample, problem), written at the end

A response that has arrived is never asked for again; a torn last line is cut off and owed again. At
most `concurrency` requests are under way, each with a finite deadline. `Busy` servers are asked
again with growing pauses; after `breaker` failures in a row everything waits, and when nothing has
come for `patience` seconds the run stops with what it has.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from acereason.curate.journal import index_lines
from acereason.curate.wire import TeacherProtocol, completion, content_hash, payload, route
from acereason.draws import chance
from acereason.errors import ConfigError, RunError, SamplingError
from acereason.files import replacing, write_atomic
from acereason.problems import Problem, Response
from acereason.sample.servers.http import Busy, Garbled, Refused, client, post

Ask = tuple[Problem, int]


class Teacher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How responses are asked for. None of it changes a response, so all may change on resume.

    urls: base addresses such as http://host:8000/v1. deadline: seconds of one request, thinking
    included (32K tokens outlast many clients' 600). api_key: name of the environment variable that
    holds it."""

    urls: tuple[str, ...]
    samples: int = 1
    concurrency: int = 64
    deadline: float = 7200.0
    attempts: int = 8
    pause: float = 1.0
    breaker: int = 16
    patience: float = 1800.0
    api_key: str | None = None
    progress: bool = True


class AnswerLine(msgspec.Struct, frozen=True):
    """A line of answers.jsonl."""

    key: str
    response: Response


class Summary(msgspec.Struct, frozen=True):
    """What a run of the teacher did: responses there before, new ones, and requests refused."""

    found: int
    asked: int
    refused: int
    tokens: int
    seconds: float


class Breaker:
    """Failures in a row over all servers: after `limit` of them everyone waits, ever longer."""

    def __init__(self, limit: int, pause: float, patience: float) -> None:
        self.limit, self.pause, self.patience = limit, pause, patience
        self.failures = 0
        self.last_good = time.monotonic()
        self.closed_until = 0.0

    async def ready(self) -> None:
        while (wait := self.closed_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def good(self) -> None:
        self.failures, self.closed_until, self.last_good = 0, 0.0, time.monotonic()

    def bad(self, reason: str) -> None:
        self.failures += 1
        now = time.monotonic()
        if now - self.last_good > self.patience:
            raise SamplingError(
                f"no response for {self.patience:.0f} s; the last failure: {reason}. "
                "Mend the server and start again: nothing that arrived is lost."
            )
        if self.failures >= self.limit:
            rounds = min(self.failures // self.limit, 6)
            self.closed_until = now + min(self.pause * 2**rounds, 60.0)


def open_folder(folder: Path, protocol: TeacherProtocol) -> None:
    """Create the folder, or check that what lies in it was made by the same protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / "protocol.json", msgspec.json.format(msgspec.json.encode(protocol))
    if not path.exists():
        write_atomic(path, wanted)
    elif path.read_bytes() != wanted:
        raise RunError(
            f"{folder} holds responses of another protocol than asked for now; expected\n"
            f"{path.read_text()}\nfound\n{wanted.decode()}\nTake another folder or that protocol."
        )


def teach(problems: Sequence[Problem], teacher: Teacher, protocol: TeacherProtocol, folder: Path) -> Summary:
    """Ask for `samples` responses to every problem that does not have them yet. Blocks until
    done."""
    if not teacher.urls or teacher.samples < 1 or teacher.concurrency < 1:
        raise ConfigError("a teacher needs at least one url, one sample and one request at a time")
    open_folder(folder, protocol)
    with ExitStack() as stack:
        run = _Run(problems, teacher, protocol, folder, stack)
        start = time.monotonic()
        try:
            asyncio.run(run.all())
        except* SamplingError as group:
            raise group.exceptions[0] from None
        seconds = time.monotonic() - start
    refused = collect(problems, teacher.samples, protocol, folder)
    return Summary(run.found, run.arrived, refused, run.tokens, seconds)


def collect(problems: Sequence[Problem], samples: int, protocol: TeacherProtocol, folder: Path) -> int:
    """Write responses.jsonl in the order of problems and samples; returns how many are missing."""
    path, missing, decoder = folder / "answers.jsonl", 0, msgspec.json.Decoder(AnswerLine)
    places = index_lines(path)
    with replacing(folder / "responses.jsonl") as out, path.open("rb") as answers:
        for problem, sample in asks(problems, samples):
            place = places.get(content_hash(protocol, problem, sample))
            missing += place is None
            if place is not None:
                answers.seek(place)
                line = decoder.decode(answers.readline())
                out.write(msgspec.json.encode(line.response) + b"\n")
    return missing


def asks(problems: Sequence[Problem], samples: int) -> Iterator[Ask]:
    """Every sample of every problem; all first samples before the second ones, so that a run that
    is stopped early has many prompts rather than many responses."""
    for sample in range(samples):
        for problem in problems:
            yield problem, sample


class _Run:
    """The state of one run: what is owed, the open files, the counters."""

    def __init__(
        self, problems: Sequence[Problem], teacher: Teacher, protocol: TeacherProtocol, folder: Path,
        stack: ExitStack,
    ) -> None:  # fmt: skip
        self.teacher, self.protocol = teacher, protocol
        self.done = set(index_lines(folder / "answers.jsonl"))
        self.total = len(problems) * teacher.samples
        self.owed = (ask for ask in asks(problems, teacher.samples) if self.key(ask) not in self.done)
        self.found = sum(self.key(ask) in self.done for ask in asks(problems, teacher.samples))
        self.arrived = self.tokens = 0
        self.load = dict.fromkeys(teacher.urls, 0)
        self.breaker = Breaker(teacher.breaker, teacher.pause, teacher.patience)
        self.answers = stack.enter_context((folder / "answers.jsonl").open("ab", buffering=0))
        self.refused = stack.enter_context((folder / "refused.jsonl").open("wb", buffering=0))
        columns = (
            TextColumn("teacher"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} tokens/s"), TimeRemainingColumn(),
        )  # fmt: skip
        self.bar = stack.enter_context(Progress(*columns, disable=not teacher.progress))
        self.task = self.bar.add_task("", total=self.total, completed=self.found, rate=0.0)
        self.start = time.monotonic()

    def key(self, ask: Ask) -> str:
        return content_hash(self.protocol, *ask)

    async def all(self) -> None:
        key = os.environ.get(self.teacher.api_key or "", "")
        async with client(key) as connections, asyncio.TaskGroup() as group:
            for _ in range(min(self.teacher.concurrency, max(self.total - self.found, 1))):
                group.create_task(self.worker(connections))

    async def worker(self, connections: Any) -> None:
        for ask in self.owed:
            try:
                response = await self.persist(connections, ask)
            except (Refused, Garbled, Busy) as error:
                self.note(ask, error)
                continue
            line = msgspec.json.encode(AnswerLine(self.key(ask), response)) + b"\n"
            self.answers.write(line)  # one unbuffered write: whole or torn, never mixed
            self.arrived += 1
            self.tokens += response.meta.get("tokens") or 0
            rate = self.tokens / max(time.monotonic() - self.start, 1e-9)
            self.bar.update(self.task, advance=1, rate=rate)

    def note(self, ask: Ask, error: Exception) -> None:
        row = {"problem_id": ask[0].id, "sample": ask[1], "error": str(error)[:500]}
        self.refused.write(msgspec.json.encode(row) + b"\n")

    async def persist(self, connections: Any, ask: Ask) -> Response:
        """Ask until there is an answer, a refusal, or `attempts` are used up."""
        for attempt in range(1, self.teacher.attempts + 1):
            await self.breaker.ready()
            try:
                response = await self.once(connections, ask)
            except (Busy, Garbled) as error:
                if isinstance(error, Busy):
                    self.breaker.bad(str(error))
                if attempt == self.teacher.attempts:
                    raise
                await asyncio.sleep(self.wait(ask, attempt, getattr(error, "after", None)))
            except Refused:
                self.breaker.good()
                raise
            else:
                self.breaker.good()
                return response
        raise AssertionError("unreachable")

    def wait(self, ask: Ask, attempt: int, after: float | None) -> float:
        """Seconds before the next attempt: what the server asks for, or doubling with jitter."""
        if after is not None:
            return after
        jitter = 0.5 + chance(attempt, "wait", ask[0].id, ask[1])
        return float(min(self.teacher.pause * 2 ** (attempt - 1), 60.0) * jitter)

    async def once(self, connections: Any, ask: Ask) -> Response:
        url = min(self.load, key=self.load.__getitem__)
        self.load[url] += 1
        try:
            where = f"{url.rstrip('/')}/{route(self.protocol)}"
            body = await post(connections, where, payload(self.protocol, *ask), self.teacher.deadline)
        finally:
            self.load[url] -= 1
        return completion(self.protocol, *ask, body)
