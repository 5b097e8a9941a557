"""The whole of curation: sources in, SFT mixes, RL sets, funnel, reports, manifest and card out.

    gather ─▶ dedup ─▶ decontaminate ─┬─▶ responses (published, teacher) ─▶ judge ─▶ SFT mixes
                                      │                                       │
                                      └─▶ rules ─▶ sound tests ─▶ majority, difficulty, length
                                                                   ─▶ RL stages

Every arrow is a step of `steps.py`: done once, redone only when something that it depends on
changes, whole or absent after a kill. What is published therefore is the same to the byte however
often the run was killed.

    out/rl/STAGE.parquet                      problems of an RL stage
    out/sft/MIX.problems.parquet, MIX.responses.parquet
    out/reports/contamination.jsonl, rejected.jsonl, funnel.txt
    out/manifest.json, README.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from acereason.curate.adapters import PUBLISHED, generic_source, recognised_source
from acereason.curate.attach import (
    Counted,
    collect_answers,
    judge_answers,
    mean_tokens,
    read_counted,
)
from acereason.curate.bulk import decontaminate_file, dedup_file
from acereason.curate.decontaminate import Overlap, by_source
from acereason.curate.funnel import Funnel
from acereason.curate.publish import Origin, publish
from acereason.curate.rules import by_rules, sound_tests
from acereason.curate.select import by_difficulty, difficulty, length_balance, majority
from acereason.curate.settings import BenchmarkSettings, Curation, SourceSettings
from acereason.curate.sources import Rejected, Source, read_source
from acereason.curate.steps import Finished, Steps, file_key, key_of, only_one, sieve
from acereason.curate.teach import teach
from acereason.errors import ConfigError, DataError
from acereason.files import read_jsonl, replacing, write_atomic
from acereason.problems import Problem, Response, Verdict
from acereason.published import fields
from acereason.published.records import problems_in
from acereason.published.rows import commit_of, find_files, raw_rows

PROBLEMS, RESPONSES = "problems.jsonl", "responses.jsonl"


class LastAsked(msgspec.Struct, frozen=True):
    """What the teacher was last asked for in full, and how that went."""

    key: str
    funnel: Funnel


def curate(settings: Curation, out: Path, tell: Callable[[str], None] = lambda _: None) -> list[Funnel]:
    """Run what is not done yet and publish; returns the whole funnel. `tell` hears which step
    begins."""
    check(settings)
    with only_one(out):
        steps = Steps(out / "steps", tell)
        origins = _origins(settings)
        gathered = _gather(settings, steps, origins)
        unique = _dedup(settings, steps, gathered)
        clean = _decontaminate(settings, steps, unique, origins)
        ruled = _rules(settings, steps, clean)
        asked = _teach(settings, steps, ruled if settings.ask == "rl" else clean)
        answers = _answers(settings, steps, gathered, unique, clean, asked)
        chosen = _select(settings, steps, ruled, answers)
        lines = [
            funnel
            for done in (gathered, unique, clean, ruled, asked, answers, chosen)
            if done
            for funnel in done.funnels
        ]
        return publish(settings, out, clean, answers, chosen, [gathered, clean], lines, origins)


def check(settings: Curation) -> None:
    """ConfigError for settings that cannot be meant together."""
    if not settings.sources:
        raise ConfigError("a curation needs at least one source")
    if (settings.teacher is None) != (settings.protocol is None):
        raise ConfigError("a teacher needs a protocol, and a protocol a teacher: give both or none")
    if (settings.rl.majority or settings.sft.correct_only) and not settings.judge:
        raise ConfigError("`majority` and `correct_only` need `judge = true`")
    for kind, names in (
        ("stage", [stage.name for stage in settings.rl.stages]),
        ("mix", [mix.name for mix in settings.sft.mixes]),
        ("benchmark", [benchmark.name for benchmark in settings.benchmarks]),
    ):
        if len(set(names)) < len(names):
            raise ConfigError(f"every {kind} needs a name of its own, found {', '.join(names)}")
        if bad := [name for name in names if not name.replace("-", "").replace(".", "").isalnum()]:
            raise ConfigError(f"a {kind}'s name names files: letters, digits, - and ., not {bad[0]!r}")


def _source(settings: SourceSettings) -> Source | None:
    if settings.columns:
        generic = generic_source(settings.name, settings.columns)
        return msgspec.structs.replace(generic, revision=settings.revision)
    if settings.name == "problems":
        return None
    if settings.name not in PUBLISHED:
        if settings.path is not None:
            return recognised_source(settings.name)
        raise ConfigError(
            f"unknown source {settings.name!r}; known: {', '.join(sorted(PUBLISHED))}, problems; "
            "or give a path"
        )
    published = PUBLISHED[settings.name]
    return msgspec.structs.replace(published, revision=settings.revision or published.revision)


def _files(settings: SourceSettings) -> list[Path]:
    source = _source(settings)
    where = settings.path or (source.id if source and not settings.columns else None)
    if where is None:
        raise ConfigError(f"source {settings.name!r} needs a path")
    revision = settings.revision or (source.revision if source else None)
    files = find_files(where, source.files if source else "*", revision)
    return files + [Path(path) for path in settings.rejoin]


def _option(settings: SourceSettings) -> Any:
    if not settings.rejoin:
        return settings.option
    return {
        (str(row["dataset"]), str(row["split"]), str(row["index"])): str(row["question"])
        for path in settings.rejoin
        for _, row, *_ in raw_rows(Path(path))
        if row
    }


def items(
    settings: SourceSettings, aside: Callable[[Rejected], None]
) -> Iterator[tuple[Problem, list[Response]]]:
    source = _source(settings)
    if source is None:
        for path in _files(settings):
            for place, problem, reason in problems_in(path):
                if problem is None:
                    aside(Rejected(settings.name, path.name, int(place.split()[-1]) - 1, reason[:300], ""))
                else:
                    yield problem, []
        return
    where = settings.path or source.id
    yield from read_source(source, where, aside, _option(settings), settings.check_rows)


def _origins(settings: Curation) -> list[Origin]:
    """The files of every source and benchmark, hashed whole, and the commit of those from a hub."""
    named = [(s.name, _files(s)) for s in settings.sources]
    named += [(b.name, find_files(b.path, revision=b.revision)) for b in settings.benchmarks]
    return [
        Origin(name, commit_of(files), {path.name: file_key(path) for path in files}) for name, files in named
    ]


def _gather(settings: Curation, steps: Steps, origins: list[Origin]) -> Finished:
    def make(folder: Path) -> list[Funnel]:
        with (
            replacing(folder / PROBLEMS) as problems,
            replacing(folder / RESPONSES) as responses,
            replacing(folder / "rejected.jsonl") as rejected,
        ):
            return [_one_source(s, problems, responses, rejected) for s in settings.sources]

    keys = [list(origin.files.values()) for origin in origins[: len(settings.sources)]]
    return steps.run("gather", [settings.sources, keys], make)


def _one_source(settings: SourceSettings, problems: Any, responses: Any, rejected: Any) -> Funnel:
    reasons: dict[str, int] = {}

    def aside(row: Rejected) -> None:
        reason = row.reason.split(":")[0]
        reasons[reason] = reasons.get(reason, 0) + 1
        rejected.write(msgspec.json.encode(row) + b"\n")

    kept = 0
    for problem, answers in items(settings, aside):
        kept += 1
        problems.write(msgspec.json.encode(problem) + b"\n")
        if settings.traces:
            responses.write(b"".join(msgspec.json.encode(r) + b"\n" for r in answers))
    if not kept:
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "no row at all"
        raise DataError(f"source {settings.name!r}: expected rows that can be used, found none: {why}")
    return Funnel(f"source {settings.name}", kept + sum(reasons.values()), kept, reasons)


def _dedup(settings: Curation, steps: Steps, gathered: Finished) -> Finished:
    def make(folder: Path) -> list[Funnel]:
        return dedup_file(
            gathered / PROBLEMS, folder / PROBLEMS, settings.duplicates, settings.workers,
            folder / "merged.jsonl",
        )  # fmt: skip

    return steps.run("dedup", [gathered.key, settings.duplicates], make)


def questions(benchmark: BenchmarkSettings, column: str | None) -> Iterator[str]:
    """One column of a benchmark's files, or its questions whatever their column; rows without left out."""
    for file in find_files(benchmark.path, revision=benchmark.revision):
        for _, row, *_ in raw_rows(file):
            if row and column is None and (question := fields.question_of(fields.normal(row))):
                yield question
            elif row and column is not None and isinstance(row.get(column), str):
                yield row[column]


def _decontaminate(settings: Curation, steps: Steps, unique: Finished, origins: list[Origin]) -> Finished:
    rule = settings.decontamination

    def make(folder: Path) -> list[Funnel]:
        asked = {b.name: list(questions(b, b.column)) for b in settings.benchmarks}
        if empty := [name for name, texts in asked.items() if not texts]:
            raise DataError(f"benchmark {empty[0]}: no question in its rows; name their column by `column`")
        urls = [u for b in settings.benchmarks if b.url_column for u in questions(b, b.url_column)]
        report: list[Overlap] = []

        def source_rule(part: list[Problem]) -> tuple[list[Problem], Funnel]:
            kept, rows, funnel = by_source(part, urls, rule.released_until)
            report.extend(rows)
            return kept, funnel

        at = folder / "0.jsonl"
        unique_problems = read_jsonl(unique / PROBLEMS, Problem)
        funnels = [sieve(unique_problems, at, "decontaminate by source", source_rule)]
        reports = [folder / "report-0.jsonl"]
        with replacing(reports[0]) as out:
            out.writelines(msgspec.json.encode(row) + b"\n" for row in report)
        for number, (domain, n) in enumerate(_lengths(unique / PROBLEMS, rule), 1):
            target = folder / f"{number}.jsonl"
            reports.append(folder / f"report-{number}.jsonl")
            funnels.append(decontaminate_file(
                at, target, reports[-1], asked, n, rule.share, rule.stock, domain,
                settings.workers,
            ))  # fmt: skip
            at.unlink()
            at = target
        at.rename(folder / PROBLEMS)
        with replacing(folder / "contamination.jsonl") as out:
            out.writelines(path.read_bytes() for path in reports)
        for path in reports:
            path.unlink()
        return funnels

    keys = [list(origin.files.values()) for origin in origins[len(settings.sources) :]]
    return steps.run("decontaminate", [unique.key, settings.benchmarks, keys, rule], make)


def _lengths(path: Path, rule: Any) -> list[tuple[str, int]]:
    domains = sorted({problem.domain for problem in read_jsonl(path, Problem)})
    return [(d, rule.math if d == "math" else rule.code if d == "code" else rule.other) for d in domains]


def _rules(settings: Curation, steps: Steps, clean: Finished) -> Finished:
    rl = settings.rl

    def make(folder: Path) -> list[Funnel]:
        filtered = folder / ("ruled.jsonl" if rl.sound_tests else PROBLEMS)
        rules = partial(by_rules, math=rl.math, code=rl.code)
        funnels = [sieve(read_jsonl(clean / PROBLEMS, Problem), filtered, "rules", rules)]
        if rl.sound_tests:
            funnels.append(_sound(filtered, folder / PROBLEMS, settings.workers))
            filtered.unlink()
        return funnels

    return steps.run("rules", [clean.key, rl.math, rl.code, rl.sound_tests], make)


def _sound(source: Path, target: Path, workers: int) -> Funnel:
    from acereason.verify import Judge

    with Judge(workers) as judge:

        def run(problem: Problem, program: str) -> Verdict:
            return judge.submit_answer(problem, f"```python\n{program}\n```").result()

        def step(part: list[Problem]) -> tuple[list[Problem], Funnel]:
            return sound_tests(part, run)

        return sieve(read_jsonl(source, Problem), target, "sound tests", step)


def _teach(settings: Curation, steps: Steps, asked: Finished) -> Finished | None:
    """One folder per protocol: more samples or other prompts never ask again for what is there."""
    teacher, protocol = settings.teacher, settings.protocol
    if teacher is None or protocol is None:
        return None
    folder = steps.folder / f"teach-{key_of('teach', protocol)}"
    marker, key = folder / "done.json", key_of(asked.key, teacher.samples)
    if not marker.exists() or msgspec.json.decode(marker.read_bytes(), type=LastAsked).key != key:
        steps.tell("teach")
        marker.unlink(missing_ok=True)
        light = [
            msgspec.structs.replace(problem, tests=(), meta={})
            for problem in read_jsonl(asked / PROBLEMS, Problem)
        ]
        missing = teach(light, teacher, protocol, folder).refused
        total = len(light) * teacher.samples
        reasons = {"refused or failed": missing} if missing else {}
        done = LastAsked(key, Funnel("teacher", total, total - missing, reasons))
        write_atomic(marker, msgspec.json.encode(done))
    funnel = msgspec.json.decode(marker.read_bytes(), type=LastAsked).funnel
    return Finished(folder, file_key(folder / RESPONSES), [funnel])


def _answers(
    settings: Curation,
    steps: Steps,
    gathered: Finished,
    unique: Finished,
    clean: Finished,
    asked: Finished | None,
) -> Finished:
    def make(folder: Path) -> list[Funnel]:
        files = [gathered / RESPONSES] + ([asked / RESPONSES] if asked else [])
        funnel = collect_answers(files, unique / "merged.jsonl", clean / PROBLEMS, folder / RESPONSES)
        judge_answers(
            clean / PROBLEMS, folder / RESPONSES, folder / "counted.jsonl", settings.judge,
            settings.tokenizer, settings.characters_per_token, settings.workers,
            steps.folder / "verdicts.jsonl",
        )  # fmt: skip
        return [funnel]

    tokenizer = file_key(Path(settings.tokenizer)) if settings.tokenizer else None
    keys = [gathered.key, unique.key, clean.key, asked.key if asked else None]
    depends = [keys, settings.judge, tokenizer, settings.characters_per_token]
    return steps.run("answers", depends, make)


def _select(settings: Curation, steps: Steps, ruled: Finished, answers: Finished) -> Finished:
    """The RL prompts: judged, balanced, with their difficulty; the stages' sets are cut from
    them."""
    rl = settings.rl

    def make(folder: Path) -> list[Funnel]:
        counted = read_counted(answers / "counted.jsonl")
        lengths = mean_tokens(counted)
        names = iter(("a.jsonl", "b.jsonl", "c.jsonl"))
        at, funnels = ruled / PROBLEMS, list[Funnel]()
        for name, step in _selections(settings, counted, lengths):
            target = folder / next(names)
            funnels.append(sieve(read_jsonl(at, Problem), target, name, step))
            at = target
        at.rename(folder / PROBLEMS)
        for path in folder.glob("[abc].jsonl"):
            path.unlink()
        return funnels

    chosen = [rl.majority, rl.agreement, rl.difficulty, rl.unknown, rl.lengths, settings.seed]
    return steps.run("select", [ruled.key, answers.key, settings.judge, chosen], make)


def _selections(
    settings: Curation, counted: Mapping[str, list[Counted]], lengths: Mapping[str, float]
) -> Iterable[tuple[str, Callable[[list[Problem]], tuple[list[Problem], Funnel]]]]:
    rl = settings.rl
    verdicts = {name: [c.verdict for c in rows if c.verdict is not None] for name, rows in counted.items()}
    if rl.majority:
        attempts = {name: [(v.extracted, v) for v in judged] for name, judged in verdicts.items() if judged}
        yield "majority answer", lambda part: majority(part, attempts, rl.agreement)
    low, high = rl.difficulty
    yield (
        "difficulty",
        lambda part: by_difficulty(difficulty(part, verdicts), low, high, rl.unknown),
    )
    yield "length balance", lambda part: length_balance(part, lengths, rl.lengths, settings.seed)
