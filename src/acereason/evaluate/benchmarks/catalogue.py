"""The paper's benchmarks: where they are, what their files must hold, and how they are asked.

    load("aime24")                      from the hub
    load("lcb_v5", "/data/lcb")         from a folder of files, or one file: JSON Lines, JSON, Parquet, CSV
    load("mine", "/data/mine.jsonl")    any file of problems (`published.records`)

Columns and numbers of rows are pinned: other ones are an error that says the difference, for a score on
another set of questions has another meaning. Every benchmark is asked at T 0.6, top-p 0.95 and a budget of
32,768 tokens, `k` times a question (arXiv 2506.13284, section 4; recipe of 1.0 for the windows' numbers).

LiveCodeBench versions are windows of contest dates, the first day included and the last not; "v6" is also
used for both windows together by others, so window and number are always shown. Its known unsound items
(several right answers, interactive, wrong tests) stay in; the score without them is given beside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from acereason.errors import ConfigError, DataError
from acereason.evaluate.benchmarks import formats
from acereason.evaluate.benchmarks.formats import Row
from acereason.problems import Problem
from acereason.published.records import read_problems
from acereason.published.rows import find_files, raw_rows

# https://github.com/LiveCodeBench/LiveCodeBench/blob/main/ERRATA.md: question ids, and titles of LeetCode's
UNSOUND = frozenset(
    """
abc311_c abc326_d abc327_b abc333_e abc343_e abc362_c arc185_c abc343_a abc337_e abc355_e abc350_c arc189_a
find-words-containing-character find-the-peaks generate-binary-strings-without-adjacent-zeros
apply-operations-to-make-string-empty most-frequent-ids
    """.split()  # noqa: SIM905
)
LCB = "livecodebench/code_generation_lite"


class PublishedLayout(NamedTuple):
    """A published file: its hub id (or repository), its columns, and how a row becomes a problem."""

    id: str
    columns: frozenset[str]
    adapt: Callable[[Row], Problem]
    optional: frozenset[str] = frozenset()
    rows: int | None = None  # where this file has another number than the benchmark
    open: bool = False  # whether other columns are of no concern


class Benchmark(NamedTuple):
    """rows: of the benchmark, after the window. window: first day, and the day after the last."""

    name: str
    title: str
    rows: int | None
    k: int
    layouts: tuple[PublishedLayout, ...]
    window: tuple[str, str] | None = None
    files: str = "*"
    mode: str = "strict"


class Loaded(NamedTuple):
    """A benchmark's problems, and one line that says what they are."""

    name: str
    title: str
    k: int
    problems: list[Problem]
    about: str
    mode: str = "strict"
    unsound: frozenset[str] = frozenset()

    @property
    def clusters(self) -> list[str] | None:
        """Each question's contest, where questions share contests."""
        contests = [str(p.meta.get("contest_id") or "") for p in self.problems]
        return contests if all(contests) and len(set(contests)) >= 10 else None


def _layout(id: str, columns: str, adapt: Callable[[Row], Problem], optional: str = "") -> PublishedLayout:
    return PublishedLayout(id, frozenset(columns.split()), adapt, frozenset(optional.split()))


def _arena(name: str, id: str) -> PublishedLayout:
    return _layout(id, "problem_idx problem answer problem_type", partial(formats.math_arena, name), "source")


_CODE = _layout(
    LCB,
    "question_title question_content platform question_id contest_id contest_date starter_code difficulty "
    "public_test_cases private_test_cases metadata",
    formats.livecodebench,
)
BENCHMARKS: Mapping[str, Benchmark] = {
    b.name: b
    for b in [
        Benchmark("aime24", "AIME24", 30, 64, (
            _layout("HuggingFaceH4/aime_2024", "id problem solution answer url year", formats.aime_2024),
            _layout("math-ai/aime24", "id problem solution url", formats.aime24),
            _layout("agentica-project/rllm",
                    "problem solution answer year aime_number problem_number difficulty",
                    partial(formats.aime_files, "aime24")),
        )),
        Benchmark("aime25", "AIME25", 30, 64, (
            _layout("math-ai/aime25", "problem answer id", partial(formats.aime_numbers, "aime25")),
            _layout("opencompass/AIME2025", "question answer", formats.aime2025),
        )),
        Benchmark("hmmt25", "HMMT Feb-25", 30, 64, (_arena("hmmt25", "MathArena/hmmt_feb_2025"),)),
        Benchmark("brumo25", "BRUMO-25", 30, 64, (_arena("brumo25", "MathArena/brumo_2025"),)),
        Benchmark("aime26", "AIME26", 30, 64, (
            _layout("MathArena/aime_2026", "problem_idx problem answer",
                    partial(formats.math_arena, "aime26"), "problem_type source"),
            _layout("math-ai/aime26", "problem answer id", partial(formats.aime_numbers, "aime26")),
        )),
        Benchmark("gsm8k", "GSM8K", 1319, 1, (
            _layout("openai/gsm8k", "question answer", formats.gsm8k),
        ), files="main/test*"),
        Benchmark("math", "MATH", 5000, 1, (
            _layout("EleutherAI/hendrycks_math", "problem level type solution", formats.hendrycks),
        ), files="*test*"),
        Benchmark("amc23", "AMC23", 40, 64, (
            _layout("math-ai/amc23", "id question answer url", formats.amc23),
        )),
        Benchmark("minerva", "Minerva", 272, 4, (
            _layout("math-ai/minervamath", "question answer", formats.minerva),
            _layout("svc-huggingface/minerva-math", "problem solution type idx", formats.minerva_solutions),
        )),
        Benchmark("olympiadbench", "OlympiadBench", 674, 4, (
            _layout("math-ai/olympiadbench", "id question final_answer subfield", formats.olympiad)
            ._replace(open=True),
            _layout("ChenxinAn-fdu/POLARIS", "data_source prompt ability reward_model extra_info",
                    partial(formats.verl, "olympiadbench"))._replace(rows=675),
        )),
        Benchmark("gpqa_diamond", "GPQA-diamond", 198, 16, (
            PublishedLayout("Idavidrein/gpqa", frozenset(("Question", *formats.GPQA_OPTIONS)), formats.gpqa,
                   open=True),
        ), files="*diamond*"),
        Benchmark("mmlu_pro", "MMLU-Pro", 12_032, 1, (
            _layout("TIGER-Lab/MMLU-Pro",
                    "question_id question options answer answer_index category", formats.mmlu_pro,
                    "cot_content src"),
        ), files="test*"),
        Benchmark("humaneval", "HumanEval", 164, 4, (
            _layout("openai/openai_humaneval", "task_id prompt canonical_solution entry_point test",
                    formats.humaneval),
        )),
        Benchmark("mbpp", "MBPP", 257, 4, (
            _layout("google-research-datasets/mbpp",
                    "source_file task_id prompt code test_imports test_list", formats.mbpp),
            _layout("PRIME-RL/PRIME", "source_file task_id prompt code test_imports test_list instruction",
                    formats.mbpp)._replace(rows=399),
        ), files="sanitized/test*"),
        Benchmark("math500", "MATH-500", 500, 4, (
            _layout("HuggingFaceH4/MATH-500", "problem solution answer subject level unique_id",
                    formats.math500),
        )),
        Benchmark("lcb_v5", "LiveCodeBench v5", 279, 8, (_CODE,), ("2024-08-01", "2025-02-01"),
                  "test*.jsonl", "lcb"),
        Benchmark("lcb_v6", "LiveCodeBench v6", 175, 8, (_CODE,), ("2025-02-01", "2025-05-01"),
                  "test*.jsonl", "lcb"),
        Benchmark("humaneval_plus", "HumanEval+", 164, 4, (
            _layout("evalplus/humanevalplus", "task_id prompt canonical_solution entry_point test",
                    formats.humaneval_plus),
        )),
        Benchmark("mbpp_plus", "MBPP+", 378, 4, (
            _layout("evalplus/mbppplus", "task_id code prompt source_file test_imports test_list test",
                    formats.mbpp_plus),
        )),
    ]
}  # fmt: skip


def load(name: str, where: str | None = None, check_rows: bool = True) -> Loaded:
    """A benchmark by its name, from the hub or from `where`; or one's own problems from `where`.

    check_rows False accepts another number of questions, which `about` then says.
    DataError: other columns or another number of rows; ConfigError: a name that is not known."""
    benchmark = BENCHMARKS.get(name) or _window(name)
    if benchmark is None:
        return own(name, where)
    problems, layout = _read(benchmark, where or benchmark.layouts[0].id)
    if layout.rows is not None:
        benchmark = benchmark._replace(rows=layout.rows)
    ids = {problem.id for problem in problems}
    if len(ids) < len(problems):
        raise DataError(f"{name}: expected {len(problems)} different questions, found {len(ids)}, some twice")
    if check_rows and benchmark.rows is not None and len(problems) != benchmark.rows:
        raise DataError(_wrong_number(benchmark, problems, where))
    unsound = frozenset(p.id for p in problems if _unsound(p))
    return Loaded(
        name,
        benchmark.title,
        benchmark.k,
        problems,
        _about(benchmark, problems, unsound),
        benchmark.mode,
        unsound,
    )


def _window(name: str) -> Benchmark | None:
    """LiveCodeBench by any window of contest dates: lcb_FIRST_AFTER, the last day not included."""
    dates = re.fullmatch(r"lcb_(\d{4}-\d\d-\d\d)_(\d{4}-\d\d-\d\d)", name)
    if dates is None:
        return None
    if dates[1] >= dates[2]:
        raise ConfigError(f"{name}: expected the first day before the day after the last")
    window = (dates[1], dates[2])
    return Benchmark(
        name, f"LiveCodeBench {' – '.join(window)}", None, 8, (_CODE,), window, "test*.jsonl", "lcb"
    )


def own(name: str, where: str | None) -> Loaded:
    """Problems of one's own, eight samples each."""
    if where is None:
        raise ConfigError(
            f"unknown benchmark {name!r}; known: {', '.join(BENCHMARKS)}, lcb_FIRST_AFTER for another window "
            "of LiveCodeBench, e.g. lcb_2024-10-01_2025-02-01. Problems of your own: NAME=FILE"
        )
    problems = read_problems(where)
    return Loaded(name, name, 8, problems, f"{len(problems)} questions of {where}")


def _read(benchmark: Benchmark, where: str) -> tuple[list[Problem], PublishedLayout]:
    """The problems, and the layout of the last file."""
    problems: list[Problem] = []
    layout = benchmark.layouts[0]
    for path in find_files(where, benchmark.files):
        part = list(_problems(benchmark, path))
        problems += [problem for problem, _ in part]
        layout = part[-1][1] if part else layout
    if not problems:
        raise DataError(f"{where}: expected questions of {benchmark.title}, found none")
    return problems, layout


def _problems(benchmark: Benchmark, path: Path) -> Iterator[tuple[Problem, PublishedLayout]]:
    layout: PublishedLayout | None = None
    for _, row, reason, _, place in raw_rows(path):
        if row is None:
            raise DataError(f"{path}, {place}: {reason}")
        layout = layout or _fitting(benchmark, set(row), path)
        if _outside(benchmark, row):
            continue
        try:
            yield layout.adapt(row), layout
        except (DataError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            kind = "" if isinstance(error, DataError) else f"{type(error).__name__} "
            raise DataError(f"{path}, {place}: {kind}{error}") from error


def _outside(benchmark: Benchmark, row: Row) -> bool:
    if benchmark.window is None:
        return False
    first, after = benchmark.window
    return not first <= str(row["contest_date"])[:10] < after


def _fitting(benchmark: Benchmark, columns: set[str], path: Path) -> PublishedLayout:
    """The layout whose columns these are; DataError with the difference from the nearest."""
    for layout in benchmark.layouts:
        if layout.columns <= columns and (layout.open or columns <= layout.columns | layout.optional):
            return layout
    nearest = min(benchmark.layouts, key=lambda layout: len(layout.columns ^ columns))
    missing, extra = nearest.columns - columns, columns - nearest.columns - nearest.optional
    raise DataError(
        f"{path}: not the columns of {benchmark.title} ({nearest.id})"
        + (f"; missing: {', '.join(sorted(missing))}" if missing else "")
        + (f"; unexpected: {', '.join(sorted(extra))}" if extra else "")
        + f"; expected: {', '.join(sorted(nearest.columns))}"
    )


def _wrong_number(benchmark: Benchmark, problems: list[Problem], where: str | None) -> str:
    dates = sorted(p.released for p in problems if p.released)
    window, shown = "", ""
    if benchmark.window:
        window = f" with contests from {benchmark.window[0]} to before {benchmark.window[1]}"
        shown = f", dated {dates[0]} to {dates[-1]}" if dates else ""
    return (
        f"{where or benchmark.layouts[0].id}: expected the {benchmark.rows} questions of {benchmark.title}"
        f"{window}, found {len(problems)} ({len(problems) - (benchmark.rows or 0):+}){shown}. Give all files "
        "of the benchmark in its published revision, or accept another number (--any-count)"
    )


def _unsound(problem: Problem) -> bool:
    title = str(problem.meta.get("question_title", "")).lower().replace(" ", "-")
    return problem.source == "livecodebench" and bool({problem.id, title} & UNSOUND)


def _about(benchmark: Benchmark, problems: list[Problem], unsound: frozenset[str]) -> str:
    parts = [f"{len(problems)} questions"]
    if benchmark.rows is not None and len(problems) != benchmark.rows:
        parts[0] += f" instead of {benchmark.rows}"
    if benchmark.window:
        dates = sorted(p.released for p in problems if p.released)
        span = f" (found {dates[0]} … {dates[-1]})" if dates else ""
        parts.append(f"contests {benchmark.window[0]} ≤ date < {benchmark.window[1]}{span}")
    if unsound:
        parts.append(f"{len(unsound)} known to be unsound")
    return ", ".join(parts)
