"""An evaluation from beginning to end: benchmarks, a source of answers, a folder, scores.

The source is a model in this process, servers, or a file of generations. Benchmarks are done one after
another; a score is written as soon as its benchmark is complete, and a benchmark that is not complete has
none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from acereason.errors import ConfigError
from acereason.evaluate.benchmarks import collect, scores
from acereason.evaluate.benchmarks.catalogue import Loaded, load
from acereason.evaluate.benchmarks.plot import pass_at_k
from acereason.evaluate.benchmarks.store import AnswerProtocol, Store, folder_of, keys
from acereason.evaluate.summary import by_domain
from acereason.files import write_atomic
from acereason.policy import hub
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.progress import Progress
from acereason.published import assertions
from acereason.published.records import read_problems
from acereason.sample.protocol import Sampler, check_how
from acereason.verify import Judge

SAMPLED = 1 << 16  # bytes at the begin, middle and end of a weights file that go into its fingerprint


class FromModel(NamedTuple):
    """A model that answers. `protocol` is what its responses depend on."""

    policy: Policy
    sampler: Sampler
    protocol: AnswerProtocol


class FromFile(NamedTuple):
    """Generations made elsewhere."""

    path: Path
    thinking: bool


def named(text: str, check_rows: bool = True) -> list[Loaded]:
    """Benchmarks by a list such as "aime24,lcb_v5=/data/lcb,mine=/data/mine.jsonl"."""
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    benchmarks = [load(name.strip(), where.strip() or None, check_rows) for name, _, where in parts]
    if not benchmarks or len({b.name for b in benchmarks}) < len(benchmarks):
        raise ConfigError(f"expected different benchmarks separated by commas, found {text!r}")
    return benchmarks


def of_problems(path: Path) -> list[Loaded]:
    """A file of problems, as one benchmark a domain."""
    parts = by_domain(read_problems(path))
    if asserted := parts.pop(assertions.DOMAIN, None):  # programs too, whose tests are written another way
        parts["code"] = [*parts.get("code", []), *asserted]
    return [Loaded(name, name, 8, part, f"{len(part)} questions of {path}") for name, part in parts.items()]


def fingerprint(model: str) -> str:
    """What tells the weights of a folder from others of the same name: names, sizes, and three places of each
    file, quick, and different after any training. Of a hub's model its commit; "" where there is neither."""
    digest = hashlib.blake2b(digest_size=8)
    files = sorted(Path(model).expanduser().glob("*.safetensors"))
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - SAMPLED)):
                file.seek(start)
                digest.update(file.read(SAMPLED))
    return digest.hexdigest() if files else hub.commit(model) or ""


def run(
    benchmarks: Sequence[Loaded],
    source: FromModel | FromFile,
    folder: Path,
    *,
    k: int | None = None,
    judges: int = 2,
    mode: str | None = None,
    progress: Progress,
) -> list[scores.Score]:
    """Answer, judge and score every benchmark; k None: each benchmark's own, or for generations made
    elsewhere as many as its first question has."""
    name = source.protocol.model if isinstance(source, FromModel) else source.path.name
    ready = [_ready(loaded, benchmarks, source, k) for loaded in benchmarks]  # before a folder is made
    scored = []
    for loaded, samples in zip(benchmarks, ready, strict=True):
        progress.say(f"{loaded.title}: {loaded.about}")
        with Judge(judges, mode or loaded.mode) as judge:
            facts, number = _facts(loaded, source, folder, k, judge, progress, samples)
        scored.append(scores.score(loaded, facts, number))
        scores.write(folder, scored[-1:], name)
        curves = {s.title: s.pass_at_k for s in scores.read(folder)}
        write_atomic(folder / "pass_at_k.svg", pass_at_k(curves, f"pass@k of {name}, %").encode())
    return scored


Samples = dict[str, list[int]]  # of a file of generations, to be graded


def _ready(loaded: Loaded, all_of: Sequence[Loaded], source: FromModel | FromFile, k: int | None) -> Samples:
    """What is to be graded of a file. DataError, SamplingError: what was asked for cannot be done."""
    if isinstance(source, FromModel):
        asked = source.protocol
        check_how(asked.budget, asked.temperature, asked.top_p)
        collect.prompts_of(source.policy, loaded.problems, source.protocol.budget)
        return {}
    others = {problem.id for other in all_of for problem in other.problems}
    return collect.counted(source.path, loaded.problems, k, others)


def _facts(
    loaded: Loaded, source: FromModel | FromFile, folder: Path, k: int | None, judge: Judge,
    progress: Progress, graded: Samples,
) -> tuple[collect.Facts, int]:  # fmt: skip
    """What is known of every sample, and how many samples a question should have."""
    suffix = "" if judge.mode == loaded.mode else f"-{judge.mode}"
    if isinstance(source, FromFile):
        protocol = AnswerProtocol(str(source.path), "file", weights="" if source.thinking else "no thinking")
        with Store(folder_of(folder, protocol), loaded.name, suffix) as store:
            facts = collect.grade(source.path, judge, loaded.problems, store, source.thinking, graded)
        return facts, max(map(len, facts))
    samples = k or loaded.k
    policy, sampler, protocol = source
    with Store(folder_of(folder, protocol), loaded.name, suffix) as store:
        total = samples * len(loaded.problems)
        done = _done(policy, loaded.problems, samples, protocol, store)
        with progress.task(loaded.name, total, done) as advance:
            facts = collect.collect(
                policy, sampler, judge, loaded.problems, samples, protocol, store, _rated(advance)
            )
    return facts, samples


def _done(
    policy: Policy, problems: Iterable[Problem], samples: int, protocol: AnswerProtocol, store: Store
) -> int:
    if not store.facts:
        return 0
    names = (key for p in problems for key in keys(protocol, policy.prompt_ids(p), p, samples))
    return sum(name in store.facts for name in names)


def _rated(advance: Callable[[int, str], None]) -> Callable[[int], None]:
    """Advance by one response, with the tokens per second so far."""
    begun, tokens = time.monotonic(), 0

    def on_answer(number: int) -> None:
        nonlocal tokens
        tokens += number
        advance(1, f"{tokens / max(time.monotonic() - begun, 1e-9):,.0f} tokens/s")

    return on_answer
