"""Real files of other projects through the commands that a user would try: what docs/real-files.md promises.

The files are not part of this project; name the folder that holds them:

    python benchmarks/real_files.py ../shared/real

Every solution that a file itself gives is judged as a response to its problem and must be right; every
verdict that a file gives of a response must be ours. Exits with 1 and the difference when one is not.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from acereason.chat import END_THINK
from acereason.curate import pipeline
from acereason.curate.adapters import ColumnMap
from acereason.curate.settings import BenchmarkSettings, Curation, DecontaminationSettings, SourceSettings
from acereason.evaluate.benchmarks import catalogue, job
from acereason.evaluate.benchmarks.job import FromFile
from acereason.problems import Problem
from acereason.progress import Quiet
from acereason.published.records import read_problems
from acereason.published.rows import raw_rows
from acereason.verify.files import verify_file

Row = dict[str, Any]
FAULTS: list[str] = []
# verdicts in the file that are mistakes of its own: a reference "4:30p.." cut short, "10{,}000" read as text
THEIR_MISTAKES = 9


def told(file: str, command: str, found: str, wanted: str) -> None:
    """Print a line of the table; remember it when it is not what it should be."""
    print(f"{'ok ' if found == wanted else 'NOT'} {file}: {command}: {found}", flush=True)
    if found != wanted:
        FAULTS.append(f"{file}: expected {wanted}, found {found}")


def rows(path: Path) -> list[Row]:
    return [dict(read.row) for read in raw_rows(path) if read.row is not None]


def scored(loaded: catalogue.Loaded, texts: Iterable[str], folder: Path) -> str:
    """How many of the file's own solutions are right, by `evaluate --responses`."""
    answers = folder / f"{loaded.name}.jsonl"
    pairs = zip(loaded.problems, texts, strict=True)
    lines = [json.dumps({"problem_id": p.id, "text": f"{END_THINK}{text}"}) for p, text in pairs]
    answers.write_text("\n".join(lines) + "\n")
    found = job.run([loaded], FromFile(answers, True), folder / loaded.name, progress=Quiet())[0]
    return f"{sum(row[0] == '1' for row in found.right)} of {len(loaded.problems)} right"


def python(program: str) -> str:
    return f"```python\n{program}\n```"


def benchmarks(real: Path, folder: Path) -> None:
    """`evaluate -b NAME=FILE`, and `evaluate -p FILE` for what has no name."""
    named: list[tuple[str, str, Callable[[Row], str], str]] = [
        ("math500", "simplerl_math500.jsonl", lambda r: r["solution"], "500 of 500 right"),
        ("aime24", "rllm_aime24.json", lambda r: f"\\boxed{{{r['answer']}}}", "30 of 30 right"),
        ("humaneval", "humaneval.jsonl.gz", lambda r: python(r["prompt"] + r["canonical_solution"]),
         "164 of 164 right"),
        ("mbpp", "prime_mbpp399.json", lambda r: python(r["code"]), "399 of 399 right"),
        ("olympiadbench", "polaris_olympiad.parquet",
         lambda r: f"\\boxed{{{r['reward_model']['ground_truth'][0]}}}", "675 of 675 right"),
    ]  # fmt: skip
    for name, file, solution, wanted in named:
        loaded = catalogue.load(name, str(real / file))
        texts = [solution(row) for row in rows(real / file)]
        told(file, f"evaluate -b {name}={file}", scored(loaded, texts, folder), wanted)
    file = "rllm_leetcode_test200.json"
    (loaded,) = job.of_problems(real / file)
    texts = [python(row["solutions"]) for row in rows(real / file)]
    wanted = "200 of 200 right" if find_spec("sortedcontainers") else "199 of 200 right"
    told(file, f"evaluate -p {file}", scored(loaded, texts, folder), wanted)
    for file in ("humaneval.jsonl.gz", "prime_mbpp399.json", "polaris_olympiad.parquet"):
        told(file, f"evaluate -p {file}", f"{len(read_problems(real / file))} problems",
             f"{len(rows(real / file))} problems")  # fmt: skip


def outputs(real: Path, folder: Path) -> None:
    """`verify FILE` on other projects' responses with their verdicts."""
    for file, thinking, total, differ in (
        ("gsm8k_example_model_solutions.first600.jsonl", False, 2400, 0),
        ("qwen25math_math_cot_100.slim.jsonl", False, 800, THEIR_MISTAKES),
    ):
        counts = verify_file(real / file, folder / "verdicts.jsonl", thinking=thinking)
        found = f"{counts.get('agreed', 0)} of {total} verdicts agree"
        told(file, f"verify {file} --no-thinking", found, f"{total - differ} of {total} verdicts agree")
    file = "peers_math.jsonl"
    counts = verify_file(real / file, folder / "verdicts.jsonl")
    print(f"    {file}: verify {file}: {counts.get('agreed', 0)} agree, {counts.get('differed', 0)} differ")
    file = "math_test_answers.jsonl"
    golds = folder / "golds.jsonl"
    lines = [json.dumps(row | {"domain": "math", "response": f"{END_THINK}\\boxed{{{row['answer']}}}"})
             for row in rows(real / file)]  # fmt: skip
    golds.write_text("\n".join(lines))
    counts = verify_file(golds, folder / "verdicts.jsonl")
    told(file, "each answer in a box, by verify", f"{counts.get('correct', 0)} right", "5000 right")


def training(real: Path, folder: Path) -> None:
    """`curate` on a training file, kept apart from benchmarks by both rules."""
    file = "rllm_aime_train.json"
    for rule, benchmark, wanted in (
        ("evidence", "rllm_aime24.json", 0),
        ("evidence", "simplerl_math500.jsonl", 9),
        ("evidence", "polaris_olympiad.parquet", 0),
        ("paper", "rllm_aime24.json", None),
    ):
        settings = Curation(
            sources=(SourceSettings("aime", str(real / file)),),
            benchmarks=(BenchmarkSettings("held", str(real / benchmark)),),
            decontamination=DecontaminationSettings(rule=rule),  # type: ignore[arg-type]
            workers=1, format="jsonl",
        )  # fmt: skip
        out = folder / f"{rule}-{Path(benchmark).stem}"
        pipeline.curate(settings, out)
        report = (out / "reports" / "contamination.jsonl").read_text().splitlines()
        found = f"{len(report)} prompts share text with {benchmark}"
        command = f"curate, rule {rule!r}"
        if wanted is None:
            print(f"    {file}: {command}: {found}")
        else:
            told(file, command, found, f"{wanted} prompts share text with {benchmark}")
    source = SourceSettings("polaris", str(real / "polaris_olympiad.parquet"))
    named = SourceSettings(
        "math500", str(real / "simplerl_math500.jsonl"), columns=ColumnMap("problem", answer="answer")
    )
    for one in (source, named):
        items: list[Problem] = [problem for problem, _ in pipeline.items(one, lambda row: None)]
        count = len(rows(Path(str(one.path))))
        told(Path(str(one.path)).name, "curate", f"{len(items)} problems", f"{count} problems")


def main() -> int:
    real = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/real")
    if not real.is_dir():
        print(f"there is no folder {real}: name the folder of real files")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        for part in (benchmarks, outputs, training):
            part(real, Path(folder))
    print("\n".join(FAULTS) or "every file is taken as promised")
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
