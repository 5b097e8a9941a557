"""Responses of all origins as one file: attached to the problems that stayed, counted, judged.

A response to a problem that was merged into another follows it; equal responses to one problem are
one. Token counts are the server's where it gave them, else a tokenizer's, else characters divided
by a constant.

Verdicts go into a journal under a hash of the problem's tests or answer and of the response, as they
come: a run that was killed, or one with more responses or other sources, judges only what is new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path

import msgspec

from acereason.chat import END_THINK
from acereason.curate.funnel import Funnel
from acereason.curate.journal import index_lines
from acereason.curate.steps import VERSION
from acereason.files import read_jsonl, replacing
from acereason.problems import Problem, Response, Verdict

WINDOW = 4096  # responses that wait for their verdict


class Counted(msgspec.Struct, frozen=True):
    """What selection needs of a response, without its text."""

    problem_id: str
    sample: int
    tokens: float
    finished: bool
    verdict: Verdict | None = None


def collect_answers(files: Sequence[Path], merged: Path, problems: Path, target: Path) -> Funnel:
    """Write the responses whose problem stayed, under the id of the problem that stayed."""
    follow = dict(read_jsonl(merged, tuple[str, str]))
    alive = {problem.id for problem in read_jsonl(problems, Problem)}
    seen: set[bytes] = set()
    taken: set[tuple[str, int]] = set()
    before = kept = 0
    reasons = {"problem dropped": 0, "equal response": 0}
    with replacing(target) as out:
        for response in _all(files):
            before += 1
            name = follow.get(response.problem_id, response.problem_id)
            if name not in alive:
                reasons["problem dropped"] += 1
                continue
            mark = blake2b(
                f"{name}\x1f{response.text}".encode("utf-8", "surrogatepass"), digest_size=12
            ).digest()
            if mark in seen:
                reasons["equal response"] += 1
                continue
            seen.add(mark)
            kept += 1
            sample = response.sample
            while (name, sample) in taken:  # two sets may number their responses alike
                sample += 1
            taken.add((name, sample))
            moved = msgspec.structs.replace(response, problem_id=name, sample=sample)
            out.write(msgspec.json.encode(moved) + b"\n")
    return Funnel("responses", before, kept, {k: v for k, v in reasons.items() if v})


def _all(files: Iterable[Path]) -> Iterator[Response]:
    for file in files:
        yield from read_jsonl(file, Response)


def token_counter(tokenizer: str | None, characters: float) -> Callable[[Response], float]:
    """How many tokens a response has."""
    if tokenizer is None:
        return lambda r: r.meta.get("tokens") or len(r.tokens) or len(r.text) / characters
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(tokenizer)
    return lambda r: r.meta.get("tokens") or len(r.tokens) or len(made.encode(r.text).ids)


def judge_answers(
    problems: Path,
    responses: Path,
    target: Path,
    judge: bool,
    tokenizer: str | None,
    characters: float,
    workers: int,
    journal: Path,
) -> None:
    """Write a `Counted` for every response, in order, with its verdict if `judge`. What `journal`
    holds is not judged again."""
    count = token_counter(tokenizer, characters)
    with ExitStack() as stack:
        out = stack.enter_context(replacing(target))
        verdicts = _nothing(responses)
        if judge:
            verdicts = stack.enter_context(_Judged(problems, responses, workers, journal))
        for response, verdict in verdicts:
            whole = response.finish == "stop" and END_THINK in response.text
            row = Counted(response.problem_id, response.sample, count(response), whole, verdict)
            out.write(msgspec.json.encode(row) + b"\n")


def _nothing(responses: Path) -> Iterator[tuple[Response, Verdict | None]]:
    return ((response, None) for response in read_jsonl(responses, Response))


class JournalLine(msgspec.Struct, frozen=True):
    """A line of the journal."""

    key: str
    verdict: Verdict


class _Judged:
    """Responses with their verdicts in the order of the file, a bounded number of them under
    way."""

    def __init__(self, problems: Path, responses: Path, workers: int, journal: Path) -> None:
        from acereason.verify import Judge

        self.problems = {p.id: (p, _digest(p)) for p in read_jsonl(problems, Problem)}
        self.responses, self.judge = responses, Judge(workers)
        self.places = index_lines(journal)
        self.journal = journal.open("ab", buffering=0)
        self.kept = journal.open("rb")

    def __enter__(self) -> Iterator[tuple[Response, Verdict | None]]:
        return self.all()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.judge.close(abandon=kind is not None)
        self.journal.close()
        self.kept.close()

    def all(self) -> Iterator[tuple[Response, Verdict | None]]:
        waiting: deque[tuple[Response, str, Future[Verdict] | None]] = deque()
        for response in read_jsonl(self.responses, Response):
            problem, digest = self.problems[response.problem_id]
            key = _key(digest, response)
            fresh = key not in self.places
            waiting.append((response, key, self.judge.submit(problem, response) if fresh else None))
            if len(waiting) >= WINDOW:
                yield self.first(*waiting.popleft())
        while waiting:
            yield self.first(*waiting.popleft())

    def first(self, response: Response, key: str, future: Future[Verdict] | None) -> tuple[Response, Verdict]:
        """A response with its verdict, from the journal or just made; without the seconds that it
        took, which differ from run to run, and without what was printed. What the machine could not
        judge is not kept."""
        if future is None:
            self.kept.seek(self.places[key])
            return response, msgspec.json.decode(self.kept.readline(), type=JournalLine).verdict
        verdict = msgspec.structs.replace(future.result(), seconds=0.0, failed=())
        if verdict.outcome != "unjudged":
            self.journal.write(msgspec.json.encode(JournalLine(key, verdict)) + b"\n")
        return response, verdict


def _digest(problem: Problem) -> bytes:
    """A hash of what a verdict depends on, the response apart."""
    limits = (problem.time_limit, problem.memory_limit)
    judged = (problem.domain, problem.question, problem.answer, problem.tests, problem.function, limits)
    return blake2b(msgspec.json.encode((VERSION, judged, problem.meta)), digest_size=16).digest()


def _key(digest: bytes, response: Response) -> str:
    said = f"{response.finish}\x1f{response.text}".encode("utf-8", "surrogatepass")
    return blake2b(digest + said, digest_size=12).hexdigest()


def read_counted(path: Path) -> dict[str, list[Counted]]:
    """What was counted, by problem."""
    out: dict[str, list[Counted]] = {}
    for row in read_jsonl(path, Counted):
        out.setdefault(row.problem_id, []).append(row)
    return out


def mean_tokens(counted: Mapping[str, Sequence[Counted]]) -> dict[str, float]:
    """The teacher's mean length of every problem, in tokens."""
    return {name: sum(c.tokens for c in rows) / len(rows) for name, rows in counted.items()}
