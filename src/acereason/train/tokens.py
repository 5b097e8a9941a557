"""SFT traces as token ids on the disk: tokenised once, read by every rank, never held in memory.

    tokens/made-of.json          what the ids depend on: traces, tokenizer, prompt format, settings
    tokens/part-00000.ids        int32, prompt and response of one example after the other
    tokens/part-00000.lengths    int32 [examples, 3]: tokens of the prompt, of the response, 1 where held out
    tokens/part-00000.json       what of the traces this part holds, what was set aside, hashes

A part is what begins in one stretch of `traces.jsonl`. Ranks share the parts, a part is whole when its last
file is there, and only parts that are missing are made after a kill. On the disk a token takes 4 bytes and an
example 12; in memory an example takes 24 bytes, and a token none: ids are mapped, copied and let go.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from acereason import ranks
from acereason.chat import final_part
from acereason.config import Sft
from acereason.curate import tasks
from acereason.draws import draw_seed
from acereason.errors import DataError, RunError, TrainingError
from acereason.files import file_hash, sync, write_atomic
from acereason.manifest import read_json
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response
from acereason.progress import Progress, Quiet

PART = 64 << 20  # bytes of traces
MADE_OF = "made-of.json"
Lengths = npt.NDArray[np.int32]
REASONS = {
    "empty": "empty, or nothing after the thinking",
    "cut": "cut off by the teacher's budget",
    "own_end": "with an end token of its own",
    "open_thinking": "without closed thinking",
    "too_long": "longer than the context",
}


class PartFacts(msgspec.Struct, frozen=True):
    """What one part is: its bytes of the traces, how many were read and kept, and what was set aside."""

    traces: tuple[int, int]
    read: int
    kept: int
    tokens: int
    set_aside: dict[str, int]
    hashes: dict[str, str]


class Tokens(Sequence[Example]):
    """The examples of some parts, read from the disk one by one. `lengths`: tokens of each [examples]."""

    def __init__(self, folder: Path, held_out: bool = False):
        files = sorted(folder.glob("part-*.ids"))
        tables = [np.fromfile(f.with_suffix(".lengths"), np.int32).reshape(-1, 3) for f in files]
        chosen = [table[:, 2] == held_out for table in tables]
        ends = [np.cumsum(table[:, 0] + table[:, 1], dtype=np.int64) for table in tables]
        starts = [end - table[:, 0] - table[:, 1] for end, table in zip(ends, tables, strict=True)]
        self._files = files
        self._file = np.repeat(np.arange(len(files), dtype=np.int32), [int(c.sum()) for c in chosen])
        self._start = np.concatenate([s[c] for s, c in zip(starts, chosen, strict=True)])
        self._table = np.concatenate([t[c, :2] for t, c in zip(tables, chosen, strict=True)])
        self.lengths = self._table.sum(1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, index: Any) -> Any:
        """One example; its place among all is its `index`."""
        place = (self._files[self._file[index]], "r", int(self._start[index]) * 4)
        prompt, response = self._table[index].tolist()
        mapped = np.memmap(place[0], np.int32, "r", place[2], (prompt + response,))
        ids = np.array(mapped)  # a copy, so that no page stays mapped
        return Example(ids[:prompt], ids[prompt:], int(index))


def prepare(
    folder: Path, data: Path, policy: Policy, settings: Sft, seed: int, threads: int, progress: Progress
) -> list[PartFacts]:
    """Tokenise what is not tokenised yet of the traces in `data` into `folder`, and check the rest.
    Collective.

    RunError: the ids are of something else; TrainingError: no trace is left to learn from."""
    if ranks.main():
        folder.mkdir(exist_ok=True)
        _check(folder, made_of(data, policy, settings, seed))
    ranks.barrier()
    size = (data / tasks.TRACES).stat().st_size
    parts = range(max(1, -(-size // PART)))
    with (progress if ranks.main() else Quiet()).task("tokenise", len(ranks.share(parts))) as advance:
        maker = _Maker(folder, data, policy, settings, seed, threads)
        for number in ranks.share(parts):
            maker.part(number)
            advance(1, "")
    ranks.barrier()
    made = [_read(folder, number) for number in parts]
    if not sum(part.kept for part in made):
        raise TrainingError(f"no trace is left to fine-tune on: {said(made)}. See sft.set_aside")
    return made


def made_of(data: Path, policy: Policy, settings: Sft, seed: int) -> dict[str, Any]:
    """What the ids depend on, in hashes and settings."""
    hashes = read_json(data / "hashes.json") if (data / "hashes.json").exists() else {}
    probe = Problem("probe", "math", "1 + 1 =", answer="2")
    example = policy.example(probe, Response("probe", 0, "2</think>\n\\boxed{2}"), 0)
    ids = [*map(int, example.prompt), -1, *map(int, example.response)]
    return {
        **{
            name: hashes.get(name, {}).get("sha256") or file_hash(data / name)
            for name in (tasks.SFT, tasks.TRACES)
        },
        "vocabulary": len(policy.tokenizer),
        "a prompt and its response": ids,
        "context": policy.context,
        "sft.set_aside": list(settings.set_aside),
        "sft.held_out": settings.held_out,
        "part": PART,
        "seed": seed if settings.held_out else None,
    }


def total(made: Sequence[PartFacts]) -> dict[str, Any]:
    """All parts together as a row of the funnel."""
    reasons: Counter[str] = Counter()
    for part in made:
        reasons.update(part.set_aside)
    read, kept = sum(p.read for p in made), sum(p.kept for p in made)
    return {"name": "sft traces", "before": read, "after": kept, "reasons": dict(reasons)}


def said(made: Sequence[PartFacts]) -> str:
    """How many traces are learned from, and what was set aside, in words."""
    row = total(made)
    aside = ", ".join(f"{count:,} {reason}" for reason, count in sorted(row["reasons"].items()))
    tokens = sum(part.tokens for part in made)
    text = f"{row['after']:,} of {row['before']:,} traces, {tokens:,} tokens"
    return f"{text}; set aside: {aside}" if aside else text


def fault(policy: Policy, response: Response, example: Example) -> str | None:
    """What is wrong with a trace, as a key of `REASONS`; None for a good one."""
    final = final_part(response.text)
    if not response.text.strip() or (final is not None and not final.strip()):
        return "empty"
    if response.finish == "length":
        return "cut"
    if any(end in response.text for end in _ends(policy)):
        return "own_end"
    if final is None:
        return "open_thinking"
    return "too_long" if len(example) > policy.context else None


def _ends(policy: Policy) -> list[str]:
    return [str(t) for t in policy.tokenizer.convert_ids_to_tokens(policy.end_ids)]


def _check(folder: Path, now: dict[str, Any]) -> None:
    """The note of what the ids are made of: written at the beginning, compared afterwards."""
    file = folder / MADE_OF
    if not file.exists():
        write_atomic(file, json.dumps(now, indent=1).encode())
        return
    began = read_json(file)
    changed = [name for name in now | began if began.get(name) != now.get(name)]
    if changed:
        raise RunError(
            f"{folder} holds ids made with other {', '.join(changed)} than now. Restore what the run began "
            "with, or delete the folder while SFT has not begun"
        )


def _read(folder: Path, number: int) -> PartFacts:
    """The note of a part. RunError when its files are not those that it tells of."""
    made = msgspec.json.decode((folder / f"part-{number:05d}.json").read_bytes(), type=PartFacts)
    sizes = {"ids": made.tokens * 4, "lengths": made.kept * 12}
    for suffix, size in sizes.items():
        file = folder / f"part-{number:05d}.{suffix}"
        if not file.exists() or file.stat().st_size != size:
            raise RunError(f"{file} is not as it was written; delete {folder} to have it made again")
    return made


class _Maker:
    """Makes parts."""

    def __init__(self, folder: Path, data: Path, policy: Policy, settings: Sft, seed: int, threads: int):
        self._folder, self._traces, self._policy = folder, data / tasks.TRACES, policy
        self._settings, self._seed, self._threads = settings, seed, threads
        self._data = data
        self._problems: Offsets | None = None
        self._held_out: set[str] = set()

    def part(self, number: int) -> None:
        """Make a part unless it is there and as it was written."""
        if self._whole(number):
            return
        if self._problems is None:
            self._problems = Offsets(self._data / tasks.SFT)
            order = sorted(self._problems.places, key=lambda i: draw_seed(self._seed, "sft held out", i))
            self._held_out = set(order[: self._settings.held_out])
        start, end = number * PART, (number + 1) * PART
        names = {suffix: self._folder / f"part-{number:05d}.{suffix}" for suffix in ("ids", "lengths")}
        aside: Counter[str] = Counter()
        read, lengths = 0, []
        with names["ids"].open("wb") as ids, ThreadPoolExecutor(self._threads) as pool:
            for prompt, response, held_out, reason in _ahead(pool, self._example, self._of(start, end)):
                read += 1
                if reason is not None:
                    aside[REASONS[reason]] += 1
                    continue
                ids.write(prompt.tobytes() + response.tobytes())
                lengths.append((len(prompt), len(response), held_out))
        table = np.array(lengths, np.int32).reshape(-1, 3)
        table.tofile(names["lengths"])
        for file in names.values():
            sync(file)
        hashes = {suffix: file_hash(file) for suffix, file in names.items()}
        tokens = int(table[:, :2].sum(dtype=np.int64))
        made = PartFacts((start, end), read, len(table), tokens, dict(aside), hashes)
        write_atomic(self._folder / f"part-{number:05d}.json", msgspec.json.encode(made))

    def _whole(self, number: int) -> bool:
        try:
            made = _read(self._folder, number)
        except (OSError, RunError, msgspec.DecodeError):
            return False
        part = self._folder / f"part-{number:05d}"
        return all(file_hash(part.with_suffix(f".{suffix}")) == h for suffix, h in made.hashes.items())

    def _of(self, start: int, end: int) -> Iterator[Response]:
        """The traces that begin in these bytes."""
        decoder = msgspec.json.Decoder(Response)
        with self._traces.open("rb") as file:
            file.seek(max(start - 1, 0))
            if start:
                file.readline()  # ends where the first line that begins here begins
            while file.tell() < end and (line := file.readline()):
                yield decoder.decode(line)

    def _example(self, response: Response) -> tuple[Lengths, Lengths, bool, str | None]:
        assert self._problems is not None
        example = self._policy.example(self._problems[response.problem_id], response, 0)
        reason = fault(self._policy, response, example)
        arrays = (np.asarray(example.prompt, np.int32), np.asarray(example.response, np.int32))
        held_out = response.problem_id in self._held_out
        return *arrays, held_out, reason if reason in self._settings.set_aside else None


def _ahead(pool: ThreadPoolExecutor, function: Any, items: Iterable[Any], many: int = 64) -> Iterator[Any]:
    """`pool.map` with a bounded number of results waiting."""
    waiting: list[Any] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == many:
            yield from pool.map(function, waiting)
            waiting = []
    yield from pool.map(function, waiting)


class Offsets:
    """The problems of a file by their id; in memory stays where each begins."""

    def __init__(self, path: Path):
        self._path, self._decoder = path, msgspec.json.Decoder(Problem)
        self.places: dict[str, int] = {}
        with path.open("rb") as file:
            for line in iter(partial(file.readline), b""):
                self.places[_Id.decode(line).id] = file.tell() - len(line)

    def __getitem__(self, id: str) -> Problem:
        if id not in self.places:
            raise DataError(f"{self._path} has no problem {id!r}, which a trace answers")
        with self._path.open("rb") as file:
            file.seek(self.places[id])
            return self._decoder.decode(file.readline())


class _OnlyId(msgspec.Struct):
    id: str


_Id = msgspec.json.Decoder(_OnlyId)
