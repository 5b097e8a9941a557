"""How many programs a second the sandbox judges, as a paired ratio against LiveCodeBench's runner; and
how long 1,024 math answers take.

    python benchmarks/verify.py [--lcb PATH/TO/testing_util.py] [--pairs 5] [--gigabytes 2]

Without `--lcb` only our own side is measured. The file is LiveCodeBench's
`lcb_runner/evaluation/testing_util.py`, which is not part of this project; it is run as its
`check_correctness` does: a manager and a forked process for every program. The two sides take turns,
one core each, so that a busy machine slows both; the ratio is the median of the pairs. With
`--gigabytes` the calling process is made that large first, as a trainer is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from acereason.problems import Problem, Response, Test
from acereason.verify import Judge
from acereason.verify.code import Examiner

PROGRAM = "a, b = map(int, input().split())\nprint(a + b)\n"
Measured = Callable[[], float]


def problem(tests: int) -> Problem:
    """Given two integers, give their sum."""
    found = tuple(Test("stdin", f"{i} {i + 1}\n", f"{2 * i + 1}\n") for i in range(tests))
    return Problem("sum", "code", "", tests=found)


def ours(examiner: Examiner, tests: int, programs: int) -> float:
    """Programs a second through one zygote."""
    item = problem(tests)
    start = time.perf_counter()
    for number in range(programs):
        verdict = examiner.judge(item, f"{PROGRAM}# {number}")
        assert verdict.outcome == "correct", verdict
    return programs / (time.perf_counter() - start)


def _run(module: ModuleType, sample: dict[str, str], code: str, result: Any) -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    result.append(module.run_test(sample, test=code, timeout=6)[0])


def theirs(module: ModuleType, tests: int, programs: int) -> float:
    """Programs a second through LiveCodeBench's runner."""
    item = problem(tests)
    sample = {
        "input_output": json.dumps(
            {"inputs": [t.input for t in item.tests], "outputs": [t.output for t in item.tests]}
        )
    }
    context = multiprocessing.get_context("fork")
    start = time.perf_counter()
    for number in range(programs):
        with context.Manager() as manager:
            result = manager.list()
            arguments = (module, sample, f"{PROGRAM}# {number}", result)
            process = context.Process(target=_run, args=arguments)
            process.start()
            process.join()
            assert all(x is True for x in result[0]), list(result)
    return programs / (time.perf_counter() - start)


def load(path: Path) -> ModuleType:
    """LiveCodeBench's module."""
    spec = importlib.util.spec_from_file_location("lcb_testing_util", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def compare(module: ModuleType | None, tests: int, pairs: int, programs: tuple[int, int]) -> None:
    """Print both rates and the median ratio of the pairs."""
    examiner = Examiner()
    try:
        ours(examiner, tests, 5)
        rates = []
        for _ in range(pairs):
            other = theirs(module, tests, programs[1]) if module else float("nan")
            rates.append((ours(examiner, tests, programs[0]), other))
    finally:
        examiner.close()
    mine, other = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(a / b for a, b in rates)
    print(f"{tests:3} stdin tests: {mine:6.0f} programs/s, LiveCodeBench {other:6.1f}, ×{ratio:.1f}")


def mathematics(items: int = 1024, length: int = 80_000) -> None:
    """Typical answers at the end of long responses: three quarters integers, half of them right."""
    kinds = ["{}"] * 12 + ["\\frac{{{}}}{{7}}", "{}.5", "\\frac{{{}}}{{3}}", "x^2+{}x"]
    thinking = "so we try again " * (length // 16)
    pairs = []
    for number in range(items):
        template, value = kinds[number % 16], number * 7 % 997
        shown = template.format(value + number % 2)
        text = f"{thinking}</think> The answer is \\boxed{{{shown}}}."
        pairs.append((Problem(str(number), "math", "", answer=template.format(value)),
                      Response(str(number), 0, text)))  # fmt: skip
    with Judge(1) as judge:
        start = time.perf_counter()
        futures = [judge.submit(*pair) for pair in pairs]
        right = sum(future.result().reward or 0 for future in futures)
        seconds = time.perf_counter() - start
        undecided = judge.counters["undecided"]
    print(f"{items} math answers: {seconds:.3f} s, {right} right, {undecided} undecided")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--lcb", type=Path, help="LiveCodeBench's testing_util.py")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=0.0, help="size of the calling process")
    options = parser.parse_args()
    module = load(options.lcb) if options.lcb else None
    weight = bytearray(os.urandom(1 << 20) * int(options.gigabytes * 1024))
    print(f"calling process: {len(weight) / (1 << 30):.1f} GiB on top")
    mathematics()
    for tests in (1, 30):
        compare(module, tests, options.pairs, (100, 10 if options.gigabytes < 1 else 4))


if __name__ == "__main__":
    main()
