"""The prompts and traces of a run: procedural tasks through the file steps of `pipeline`, or files.


    generate ─▶ dedup_file ─▶ decontaminate_file against the held-out questions ─▶ split ─▶ teach

What was dropped for its overlap, and with what, stands in `contamination-DOMAIN.jsonl`. Near-duplicates stay:
families make questions that differ in a word on purpose.

Training prompts, development and test questions come from separate seeds and never share a
question. SFT prompts come first in hashed order, RL prompts are the next ones, so RL asks what SFT
has not seen.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from acereason.config import Curate, Tasks
from acereason.curate.bulk import decontaminate_file, dedup_file
from acereason.curate.funnel import Funnel
from acereason.curate.own import read_files, write_reports
from acereason.draws import draw_seed
from acereason.errors import DataError
from acereason.files import Records, read_jsonl, write_jsonl
from acereason.problems import Problem, Response
from acereason.procedural import generate, teach
from acereason.procedural.family import without_thinking

Record = TypeVar("Record", bound=Problem | Response, covariant=True)
SFT, RL, HELD_OUT, TRACES = "sft.jsonl", "rl.jsonl", "held_out.jsonl", "traces.jsonl"
FILES = (HELD_OUT, RL, SFT, TRACES)  # of a run's data folder; what else lies there are reports


class Walked(Protocol[Record]):
    """Records to walk through, as often as needed: a list, or a file."""

    def __iter__(self) -> Iterator[Record]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Data:
    """What a run learns from and is measured on. `traces` answer the problems of `sft`; both may be longer
    than the memory, and are walked through."""

    sft: Walked[Problem]
    traces: Walked[Response]
    rl: list[Problem]
    held_out: list[Problem]


def make(settings: Curate, seed: int, folder: Path) -> tuple[Data, list[Funnel]]:
    """Curate what the recipe asks for; reports go into `folder`. Deterministic in (settings, seed)."""
    if settings.files is not None:
        data, funnels = _from_files(settings, folder)
        return _shared(data, settings, seed), funnels
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_domain(name, tasks, settings, seed, folder) for name, tasks in sorted(settings.tasks.items())]
    sft = _shuffled([p for part in parts for p in part[0].sft], seed)
    traces = [
        _trace(problem, number, settings.tasks[problem.domain], seed)
        for problem in sft
        for number in range(settings.responses_per_prompt)
    ]
    rl = [p for part in parts for p in part[0].rl]
    held_out = [p for part in parts for p in part[0].held_out]
    return Data(sft, traces, rl, held_out), [f for part in parts for f in part[1]]


def _from_files(settings: Curate, folder: Path) -> tuple[Data, list[Funnel]]:
    assert settings.files is not None
    own = read_files(settings.files, settings)
    write_reports(own, folder)
    return Data(own.sft, own.traces, own.rl, own.held_out), own.funnels


def _shared(data: Data, settings: Curate, seed: int) -> Data:
    """The share of the SFT prompts that is learned from, with at most so many traces of each."""
    most = settings.files.responses if settings.files else None
    if settings.sft_share == 1 and most is None:
        return data
    ids = _in_hashed_order((p.id for p in data.sft), seed)
    ids = ids[: _part(len(ids), settings)]
    return replace(data, sft=Chosen(data.sft, ids), traces=Chosen(data.traces, ids, most))


class Chosen(Generic[Record]):
    """The records that are, or answer, the problems of these ids, at most so many of each."""

    def __init__(self, records: Walked[Record], ids: Sequence[str], most: int | None = None):
        self._records, self._ids, self._most = records, ids, most

    def __iter__(self) -> Iterator[Record]:
        left = dict.fromkeys(self._ids, self._most or sys.maxsize)
        for record in self._records:
            id = record.id if isinstance(record, Problem) else record.problem_id
            if left.get(id, 0):
                left[id] -= 1
                yield record

    def __len__(self) -> int:
        return sum(1 for _ in self)


def of_stage(problems: Sequence[Problem], stage: str) -> list[Problem]:
    """The RL problems that a stage may ask: all, unless each stage has a file of its own."""
    return [p for p in problems if stage in p.meta.get("stages", (stage,))]


def _domain(
    domain: str, tasks: Tasks, settings: Curate, seed: int, folder: Path
) -> tuple[Data, list[Funnel]]:
    levels = {name: _levels(tasks, name) for name in tasks.families}
    held_out = generate(tasks.families, levels, tasks.held_out, seed, settings.split)
    questions = {p.question for p in held_out}
    wanted = tasks.sft_prompts + tasks.rl_prompts
    problems = generate(tasks.families, levels, wanted, seed, "train", exclude=questions)
    kept, funnels = _cleaned(problems, questions, domain, settings, folder)
    if len(kept) <= tasks.sft_prompts:
        raise DataError(
            f"{domain}: {wanted} prompts were made, {len(kept)} are left after dedup and decontamination, "
            f"and SFT takes {tasks.sft_prompts}: none would be left for RL. Raise rl_prompts"
        )
    kept = _shuffled(kept, seed)
    learned = kept[: _part(tasks.sft_prompts, settings)]
    return Data(learned, [], kept[tasks.sft_prompts :], held_out), funnels


def _part(prompts: int, settings: Curate) -> int:
    """How many of the SFT prompts are learned from."""
    return max(1, round(settings.sft_share * prompts))


def _levels(tasks: Tasks, family: str) -> range:
    low, high = tasks.levels.get(family, (tasks.min_level, tasks.max_level))
    return range(low, high + 1)


def _cleaned(
    problems: Sequence[Problem], questions: set[str], domain: str, settings: Curate, folder: Path
) -> tuple[list[Problem], list[Funnel]]:
    """Without exact duplicates, and without what overlaps with the held-out questions."""
    made, unique, clean = (folder / f".{domain}-{name}.jsonl" for name in ("made", "unique", "clean"))
    write_jsonl(made, problems)
    funnels = dedup_file(made, unique, threshold=None)
    funnels.append(
        decontaminate_file(
            unique,
            clean,
            folder / f"contamination-{domain}.jsonl",
            {settings.split: sorted(questions)},
            settings.ngram_code if domain == "code" else settings.ngram,
            settings.overlap_share or 0.0,
        )
    )
    kept = list(read_jsonl(clean, Problem))
    for file in (made, unique, clean):
        file.unlink()
    return kept, funnels


def _trace(problem: Problem, number: int, settings: Tasks, seed: int) -> Response:
    rng = random.Random(draw_seed(seed, "teacher", problem.id, number))
    taught = teach(problem, rng, rng.random() < settings.wrong_share)
    text = without_thinking(taught.text) if rng.random() < settings.direct_share else taught.text
    return msgspec.structs.replace(taught, sample=number, text=text)


def _shuffled(problems: Iterable[Problem], seed: int) -> list[Problem]:
    return sorted(problems, key=lambda p: draw_seed(seed, "order", p.id))


def _in_hashed_order(ids: Iterable[str], seed: int) -> list[str]:
    return sorted(ids, key=lambda i: draw_seed(seed, "order", i))


def write(data: Data, folder: Path) -> None:
    """Write the four files of a run's data folder; DataError names a trace without its problem."""
    for name, records in zip((SFT, TRACES, RL, HELD_OUT), _parts(data), strict=True):
        write_jsonl(folder / name, records)


def read(folder: Path) -> Data:
    """Read what `write` wrote; SFT problems and traces stay in their files."""
    return Data(
        Records(folder / SFT, Problem),
        Records(folder / TRACES, Response),
        list(read_jsonl(folder / RL, Problem)),
        list(read_jsonl(folder / HELD_OUT, Problem)),
    )


def _parts(data: Data) -> tuple[Iterable[object], ...]:
    return data.sft, _answering(data), data.rl, data.held_out


def _answering(data: Data) -> Iterator[Response]:
    """The traces; DataError for one without its problem."""
    known = {p.id for p in data.sft}
    for number, trace in enumerate(data.traces, 1):
        if trace.problem_id not in known:
            raise DataError(f"{TRACES}: trace {number} answers {trace.problem_id}, which is not in {SFT}")
        yield trace


def by_id(problems: Iterable[Problem]) -> Mapping[str, Problem]:
    """Problems by their id."""
    return {p.id: p for p in problems}
