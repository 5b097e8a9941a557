"""The checks of a curation: its sources and benchmarks are there and hold rows that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from acereason.curate import pipeline
from acereason.curate.settings import BenchmarkSettings, Curation, SourceSettings
from acereason.errors import AceReasonError
from acereason.preflight.finding import Finding
from acereason.preflight.machine import unreachable

FIRST = 200  # items of a source


def findings(settings: Curation) -> list[Finding]:
    """What is wrong with a curation; the first rows of every file are read."""
    noted: list[Finding] = []
    try:
        pipeline.check(settings)
    except AceReasonError as error:
        noted.append(Finding("error", "curation", str(error)))
    for source in settings.sources:
        noted += _guarded(f"source {source.name}", _source(source))
    for benchmark in settings.benchmarks:
        noted += _guarded(f"benchmark {benchmark.name}", _benchmark(benchmark))
    for url in settings.teacher.urls if settings.teacher else ():
        if reason := unreachable(url):
            noted.append(Finding("error", "teacher", f"{url} does not answer: {reason}"))
    if not settings.benchmarks:
        noted.append(Finding("warning", "benchmarks", "none: the prompts are not decontaminated"))
    return noted


def _guarded(about: str, findings: Iterator[Finding]) -> list[Finding]:
    try:
        return list(findings)
    except AceReasonError as error:
        return [Finding("error", about, str(error))]


def _source(settings: SourceSettings) -> Iterator[Finding]:
    reasons: list[str] = []
    items = list(islice(pipeline.items(settings, lambda row: reasons.append(row.reason)), FIRST))
    about = f"source {settings.name}"
    if not items:
        yield Finding("error", about, "no row can be used" + (f": {reasons[0]}" if reasons else ""))
    elif reasons:
        yield Finding("warning", about, f"of the first rows {len(reasons)} are set aside: {reasons[0]}")
    else:
        yield Finding("note", about, f"the first {len(items)} rows can be used")


def _benchmark(settings: BenchmarkSettings) -> Iterator[Finding]:
    count = sum(1 for _ in pipeline.questions(settings, settings.column))
    yield Finding("note" if count else "error", f"benchmark {settings.name}", f"{count} questions")
