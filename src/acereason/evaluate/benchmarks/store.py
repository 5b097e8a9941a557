"""What was answered so far, on the disk: appended as it comes, found again by content.

    protocol.json           what every response depends on; another one is refused with the difference
    responses-NAME.jsonl    {key, problem_id, sample, text, tokens, finish}, one line when a response ends
    verdicts-NAME.jsonl     {key, outcome, reward, extracted, detail, failed}, one line when it is judged

`key` is a hash of the protocol, the prompt's token ids, the problem's id and the number of the sample, so a
changed question is asked again and the rest is not. A line is one unbuffered write to a file that one
process holds: after a kill at most the last line is torn, and it is cut off. What could not be judged is not
written: it is owed again. In memory stay some numbers per sample, and short
answers, never a response.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from acereason.errors import DataError, RunError
from acereason.files import own, write_atomic
from acereason.problems import FailedTest, Finish, Problem, Verdict
from acereason.runs import disk_errors
from acereason.verify.answers.votes import LONGEST


class AnswerProtocol(msgspec.Struct, frozen=True):
    """What the responses depend on besides their prompts. `weights` tells checkpoints of one name apart."""

    model: str
    sampler: str
    weights: str = ""
    format: str = "chatml-1.1"
    temperature: float = 0.6
    top_p: float = 0.95
    budget: int = 32_768
    seed: int = 1

    def key(self, prompt: Sequence[int], problem: str, sample: int) -> str:
        """What names one sample."""
        body = msgspec.json.encode([self, list(prompt), problem, sample])
        return hashlib.blake2b(body, digest_size=12).hexdigest()


class Reply(msgspec.Struct, frozen=True):
    """One response. `tokens`: their number, the end token included."""

    key: str
    problem_id: str
    sample: int
    text: str
    tokens: int
    finish: Finish


class Judged(msgspec.Struct, frozen=True, omit_defaults=True):
    """One verdict; never "unjudged"."""

    key: str
    outcome: str
    reward: int
    extracted: str | None = None
    detail: str = ""
    failed: tuple[FailedTest, ...] = ()


class _Header(msgspec.Struct, frozen=True):
    key: str
    tokens: int
    finish: Finish


@dataclass(slots=True)
class Fact:
    """What estimates need of one sample. `answer` is what it votes for: a short extracted answer itself, the
    hash of a long one."""

    tokens: int
    truncated: bool
    outcome: str | None = None
    answer: str | None = None

    @property
    def right(self) -> bool | None:
        return None if self.outcome is None else self.outcome == "correct"


Record = TypeVar("Record")


def folder_of(path: Path, protocol: AnswerProtocol) -> Path:
    """The folder, made for this protocol or begun with it; RunError with the difference."""
    file = path / "protocol.json"
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_atomic(file, json.dumps(msgspec.to_builtins(protocol), indent=2).encode() + b"\n")
            return path
    try:
        began = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    now = msgspec.to_builtins(protocol)
    changed = [f"{n}: {began.get(n)!r} → {now.get(n)!r}" for n in now | began if began.get(n) != now.get(n)]
    if changed:
        raise RunError(
            f"{path} was begun with another protocol, and responses of two must not be mixed; it differs in "
            f"{'; '.join(changed)}. Ask as it was begun, or choose another --out"
        )
    return path


class Store:
    """The answers to one benchmark in a folder; use as a context manager. Verdicts of another judge are
    kept apart by `judged`."""

    def __init__(self, folder: Path, name: str, judged: str = "") -> None:
        self.folder = folder
        self.replies = folder / f"responses-{name}.jsonl"
        self.verdicts = folder / f"verdicts-{name}{judged}.jsonl"
        self.facts: dict[str, Fact] = {}
        self._open = ExitStack()

    def __enter__(self) -> Store:
        with ExitStack() as opened:
            with disk_errors(self.folder):
                self._files = [self._append_to(path, opened) for path in (self.replies, self.verdicts)]
            for header in _lines(self.replies, _Header):
                self.facts[header.key] = Fact(header.tokens, header.finish == "length")
            for judged in _lines(self.verdicts, Judged):
                self._mark(judged)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @staticmethod
    def _append_to(path: Path, opened: ExitStack) -> Any:
        file = opened.enter_context(path.open("ab+", buffering=0))
        own(file, path)
        file.truncate(_whole(file))
        return file

    def add(self, reply: Reply) -> None:
        """Keep a response."""
        self._write(0, reply)
        self.facts[reply.key] = Fact(reply.tokens, reply.finish == "length")

    def judge(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict; an "unjudged" one is not kept."""
        if verdict.reward is not None:
            judged = Judged(
                key, verdict.outcome, verdict.reward, verdict.extracted, verdict.detail, verdict.failed
            )
            self._write(1, judged)
            self._mark(judged)

    def owed(self) -> Iterator[Reply]:
        """Responses that are there and not judged."""
        if any(fact.outcome is None for fact in self.facts.values()):
            for reply in _lines(self.replies, Reply):
                if self.facts[reply.key].outcome is None:
                    yield reply

    def _write(self, file: int, record: object) -> None:
        line = msgspec.json.encode(record) + b"\n"
        with disk_errors(self.folder):
            written = self._files[file].write(line)
            if written != len(line):
                raise OSError(28, "no space left on device")

    def _mark(self, judged: Judged) -> None:
        fact = self.facts.get(judged.key)
        if fact is not None:
            fact.outcome, fact.answer = judged.outcome, vote(judged)


def vote(judged: Judged) -> str | None:
    """What a sample votes for; None when it has no answer."""
    if judged.outcome in ("no_answer", "timeout") or judged.extracted is None:
        return None
    if len(judged.extracted) <= LONGEST:
        return sys.intern(judged.extracted)  # most samples of a question say the same
    return hashlib.blake2b(judged.extracted.encode("utf-8", "replace"), digest_size=8).hexdigest()


def keys(protocol: AnswerProtocol, prompt: Sequence[int], problem: Problem, samples: int) -> list[str]:
    """The keys of a problem's samples."""
    return [protocol.key(prompt, problem.id, sample) for sample in range(samples)]


def _whole(file: Any) -> int:
    """Bytes up to the end of the last whole line."""
    size = file.seek(0, os.SEEK_END)
    while size:
        start = max(0, size - (1 << 16))
        file.seek(start)
        last_end = file.read(size - start).rfind(b"\n")
        if last_end >= 0:
            return int(start + last_end + 1)
        size = start
    return 0


def _lines(path: Path, kind: type[Record]) -> Iterator[Record]:
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{path}, line {number}: expected a {kind.__name__}, {error}") from error
