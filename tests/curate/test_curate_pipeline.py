"""The pipeline: what comes out, what is not redone, and that being killed changes no byte."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from acereason.curate.bulk import decontaminate_file, dedup_file
from acereason.curate.decontaminate import Boilerplate, decontaminate
from acereason.curate.dedup import exact, near
from acereason.curate.funnel import Funnel
from acereason.curate.pipeline import check, curate
from acereason.curate.settings import BenchmarkSettings, Curation, SourceSettings
from acereason.curate.stream import in_order
from acereason.curate.tables import read_table, write_table
from acereason.errors import ConfigError, DataError, RunError, need
from acereason.files import read_jsonl, write_jsonl
from acereason.problems import Problem, Response, Test
from acereason.verify import Judge

pytest.importorskip("pyarrow")
LIST = "farmer garden bottle river letter engine window market purple train violin orange tower"
WORDS = LIST.split()


def prompts(count: int, seed: int = 0) -> list[str]:
    """Questions with exact and near duplicates, template instances, and two leaked ones."""
    state = random.Random(seed)
    out = []
    for i in range(count):
        text = " ".join(state.choices(WORDS, k=60)) + f" What is {i} + {state.randrange(9)}?"
        out += [text] if i % 10 else [text, text.replace("?", " ?"), text.replace("river", "stream", 1)]
        out.append(f"What is {i} + {i}, if {i} is a number?")
    return [*out, f"Now tell me: {leak(3)}", leak(4)]


def leak(i: int) -> str:
    return f"Benchmark question {i} asks how many purple violins fit in the orange tower of size {i}."


def build(folder: Path, count: int = 60) -> Curation:
    """A curation over files made here: prompts with answers and responses, some of them bad
    rows."""
    folder.mkdir(parents=True, exist_ok=True)
    state = random.Random(1)
    rows: list[dict[str, str | None]] = []
    for text in prompts(count):
        for k in range(3):
            right = state.random() < 0.6
            said = f"<think>\n{'so ' * state.randrange(20)}{k}</think>\n\\boxed{{{1 if right else 2}}}"
            rows.append({"q": text, "a": "1", "r": said})
    rows[5] = {"q": None, "a": "1", "r": "x"}
    lines = [json.dumps(row) for row in rows]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n{broken\n")
    questions = [json.dumps({"problem": leak(i)}) for i in range(9)]
    (folder / "bench.jsonl").write_text("\n".join(questions) + "\n")
    return msgspec.convert(
        {
            "sources": [
                {
                    "name": "mine", "path": str(folder / "train.jsonl"),
                    "columns": {"question": "q", "answer": "a", "response": "r"},
                }
            ],
            "benchmarks": [{"name": "bench", "path": str(folder / "bench.jsonl")}],
            "judge": True, "seed": 3, "workers": 1,
            "sft": {"mixes": [
                {"name": "v1", "prompts": 20, "per_prompt": 1},
                {"name": "v2", "prompts": 40, "per_prompt": 2},
            ]},
            "rl": {"stages": [
                {"name": "all"}, {"name": "hard", "difficulty": [0.5, None], "limit": 9},
            ]},
        },
        Curation,
    )  # fmt: skip


def tree(folder: Path) -> dict[str, str]:
    """A hash of every published file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "steps" not in path.parts and path.name != ".lock"
    }


def test_what_comes_out(tmp_path: Path) -> None:
    settings = build(tmp_path / "in")
    funnel = {line.name: line for line in curate(settings, tmp_path / "out")}
    out = tmp_path / "out"
    assert funnel["source mine"].before - funnel["source mine"].after == 2
    assert funnel["dedup near"].reasons == {"near-duplicate": 6}
    assert funnel["decontaminate math"].reasons == {"bench: 9-gram": 1, "bench: equal": 1}
    report = [json.loads(x) for x in (out / "reports/contamination.jsonl").read_text().splitlines()]
    assert {row["question"] for row in report} == {leak(3), leak(4)}
    assert len((out / "reports/rejected.jsonl").read_text().splitlines()) == 2
    small = list(read_table(out / "sft/v1.responses.parquet", Response))
    large = list(read_table(out / "sft/v2.responses.parquet", Response))
    assert len(small) == 20 and {(r.problem_id, r.sample) for r in small} <= {
        (r.problem_id, r.sample) for r in large
    }
    assert {r.problem_id for r in small} == {
        p.id for p in read_table(out / "sft/v1.problems.parquet", Problem)
    }
    hard = list(read_table(out / "rl/hard.parquet", Problem))
    assert len(hard) == 9 and all(p.difficulty is not None and p.difficulty >= 0.5 for p in hard)
    everything = list(read_table(out / "rl/all.parquet", Problem))
    attempts = {p.meta["attempts"] for p in everything}
    assert len(everything) == 120 and max(attempts) > 3  # merged prompts bring their responses
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["files"]["rl/hard.parquet"]["rows"] == 9
    assert manifest["mixes"]["v1"]["prompts"] == 20
    assert "bench" in (out / "README.md").read_text()


def test_unchanged_steps_are_not_redone(tmp_path: Path) -> None:
    settings, told = build(tmp_path / "in", 12), list[str]()
    small = msgspec.convert({"mixes": [{"name": "v1", "prompts": 5}]}, type(settings.sft))
    settings = msgspec.structs.replace(settings, sft=small)
    first = curate(settings, tmp_path / "out", told.append)
    assert told == ["gather", "dedup", "decontaminate", "rules", "answers", "select"]
    before = tree(tmp_path / "out")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    told.clear()
    assert curate(settings, tmp_path / "out", told.append) == first
    assert told == [] and tree(tmp_path / "out") == before
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    harder = msgspec.structs.replace(settings.rl, difficulty=(0.1, 1.0))
    curate(msgspec.structs.replace(settings, rl=harder), tmp_path / "out", told.append)
    assert told == ["select"]
    told.clear()
    with (tmp_path / "in" / "bench.jsonl").open("a") as file:
        file.write(json.dumps({"problem": leak(77)}) + "\n")
    curate(settings, tmp_path / "out", told.append)
    assert told == ["decontaminate", "rules", "answers", "select"]


def test_what_was_judged_is_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed within the judging, only what is not in the journal is judged; so too for new responses."""
    settings, out = build(tmp_path / "in", 20), tmp_path / "out"
    curate(settings, out)
    before, journal = tree(out), out / "steps" / "verdicts.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    journal.write_bytes(b"".join(lines[:half]) + lines[half][:20])
    for folder in [*out.glob("steps/answers-*"), *out.glob("steps/select-*")]:
        shutil.rmtree(folder)
    (out / "manifest.json").unlink()
    judged: list[str] = []
    submit = Judge.submit

    def noted(judge: Judge, problem: Problem, response: Response) -> Any:
        judged.append(response.text)
        return submit(judge, problem, response)

    monkeypatch.setattr(Judge, "submit", noted)
    curate(settings, out)
    assert len(judged) == len(lines) - half and tree(out) == before
    assert sorted(journal.read_bytes().splitlines(keepends=True)) == sorted(lines)
    judged.clear()
    with (tmp_path / "in" / "train.jsonl").open("a") as file:
        row = {"q": prompts(20)[-3], "a": "1", "r": "another</think> \\boxed{1}"}
        file.write(json.dumps(row) + "\n")
    curate(settings, out)
    assert judged == ["another</think> \\boxed{1}"]


SCRIPT = """
import sys
from pathlib import Path
import msgspec
from acereason.curate.pipeline import check, curate
from acereason.curate.settings import BenchmarkSettings, Curation, SourceSettings
curate(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Curation), Path(sys.argv[2]))
"""


def test_killed_at_any_moment_the_bytes_are_the_same(tmp_path: Path) -> None:
    settings = build(tmp_path / "in", 150)
    (tmp_path / "settings.json").write_bytes(msgspec.json.encode(settings))
    curate(settings, tmp_path / "whole")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "settings.json"), str(tmp_path / "cut")]
    state, kills = random.Random(2), 0
    for attempt in range(30):
        process = subprocess.Popen(command)
        while not list((tmp_path / "cut").glob("steps/.*")) and process.poll() is None:
            time.sleep(0.002)
        if attempt < 8:
            time.sleep(state.random() * 0.15)
            process.send_signal(signal.SIGKILL)
        if process.wait(120) == 0:
            break
        kills += process.returncode == -signal.SIGKILL
        assert process.returncode == -signal.SIGKILL
    assert kills >= 3
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    from acereason.curate.steps import only_one

    with only_one(tmp_path / "out"), pytest.raises(RunError, match="in use"):
        curate(build(tmp_path / "in", 3), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": []}, "at least one source"),
        ({"sources": [{"name": "numina"}]}, "unknown source 'numina'; known: acereason-1.1-sft"),
        ({"sources": [{"name": "x", "columns": {"question": "q"}}]}, "needs a path"),
        ({"protocol": {"model": "m"}}, "a teacher needs a protocol"),
        ({"judge": False, "sft": {"correct_only": True}}, "need `judge = true`"),
        ({"rl": {"stages": [{"name": "a"}, {"name": "a"}]}}, "a name of its own"),
        ({"sft": {"mixes": [{"name": "../a"}]}}, "names files"),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: Path, change: Any, message: str) -> None:
    settings = msgspec.to_builtins(build(tmp_path / "in", 2)) | change
    with pytest.raises(ConfigError, match=message):
        curate(msgspec.convert(settings, Curation), tmp_path / "out")


def test_a_benchmark_without_questions_is_an_error(tmp_path: Path) -> None:
    settings = msgspec.to_builtins(build(tmp_path / "in", 2))
    settings["benchmarks"][0]["column"] = "question"
    with pytest.raises(DataError, match="no question in its rows"):
        curate(msgspec.convert(settings, Curation), tmp_path / "out")


def test_own_records_as_a_source_and_jsonl_out(tmp_path: Path) -> None:
    dot = (Test("stdin", "", "."),)
    problems = [Problem(f"p{i}", "code", f"Print {i} dots.", tests=dot) for i in range(5)]
    write_jsonl(tmp_path / "mine.jsonl", problems)
    wanted = {
        "sources": [{"name": "problems", "path": str(tmp_path / "mine.jsonl")}],
        "format": "jsonl", "rl": {"stages": [{"name": "s", "domain": "code"}]},
    }  # fmt: skip
    curate(msgspec.convert(wanted, Curation), tmp_path / "out")
    assert list(read_jsonl(tmp_path / "out/rl/s.jsonl", Problem)) == problems


@pytest.mark.parametrize("workers", [1, 2])
def test_files_are_decided_as_lists_are(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acereason.curate.bulk.FEW", 0)
    questions = prompts(300 if workers == 1 else 30)
    problems = [Problem(str(i), "math", q, "1" if i % 3 else None) for i, q in enumerate(questions)]
    write_jsonl(tmp_path / "in.jsonl", problems)
    merged = tmp_path / "merged.jsonl"
    funnels = dedup_file(tmp_path / "in.jsonl", tmp_path / "unique.jsonl", 0.8, workers, merged)
    once, first = exact(problems)
    unique, second = near(once, 0.8)
    assert list(read_jsonl(tmp_path / "unique.jsonl", Problem)) == unique
    assert funnels == [first, second]
    pairs = list(read_jsonl(merged, tuple[str, str]))
    left = {p.id for p in unique}
    assert {a for a, _ in pairs} == {p.id for p in problems} - left and {b for _, b in pairs} <= left
    modes: list[dict[str, Any]] = [{}, {"min_share": 0.5, "boilerplate": Boilerplate(0.0, 3)}]
    for mode in modes:
        kept, report, funnel = decontaminate(unique, {"b": [leak(i) for i in range(9)]}, 9, **mode)
        written = decontaminate_file(
            tmp_path / "unique.jsonl", tmp_path / "clean.jsonl", tmp_path / "report.jsonl",
            {"b": [leak(i) for i in range(9)]}, 9, workers=workers, **mode,
        )  # fmt: skip
        assert list(read_jsonl(tmp_path / "clean.jsonl", Problem)) == kept
        rows = (tmp_path / "report.jsonl").read_text().splitlines()
        assert written == funnel and len(rows) == len(report)


def test_only_the_domain_asked_for_is_decontaminated(tmp_path: Path) -> None:
    problems = [Problem("a", "math", leak(1)), Problem("b", "code", leak(1))]
    write_jsonl(tmp_path / "in.jsonl", problems)
    line = decontaminate_file(
        tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "r.jsonl", {"b": [leak(1)]}, 14,
        domain="code",
    )  # fmt: skip
    assert line == Funnel("decontaminate code", 2, 1, {"b: equal": 1})
    assert [p.id for p in read_jsonl(tmp_path / "out.jsonl", Problem)] == ["a"]


def test_a_file_cut_off_in_a_line_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"id": "a", "domain": "math", "question": "x"}\n{"id"')
    with pytest.raises(DataError, match="the last line has no end"):
        dedup_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    (tmp_path / "in.jsonl").write_bytes(b'{"id": "a", "domain": "math"}\n')
    with pytest.raises(DataError, match="expected problems, Object missing required field"):
        dedup_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_in_order_keeps_order() -> None:
    assert list(in_order(abs, range(-50, 0), 1)) == list(in_order(abs, range(-50, 0), 2))


def test_tables_return_what_was_written(tmp_path: Path) -> None:
    problems = [
        Problem("a", "math", "q", "1", difficulty=0.5, meta={"x": [1, {"y": None}]}),
        Problem("b", "code", "é", tests=(Test("stdin", "1", "2"),), time_limit=2.0, memory_limit=64),
    ]
    assert write_table(tmp_path / "p.parquet", problems * 3000, Problem) == 6000
    assert list(read_table(tmp_path / "p.parquet", Problem)) == problems * 3000
    responses = [Response("a", 2**31, "x</think>y", finish="length", meta={"tokens": 3})]
    write_table(tmp_path / "r.parquet", responses, Response)
    assert list(read_table(tmp_path / "r.parquet", Response)) == responses
    with pytest.raises(DataError, match="missing"):
        list(read_table(tmp_path / "r.parquet", Problem))


ORPHANS = """
import sys, time
from acereason.curate.stream import in_order
if __name__ == "__main__":
    print("started", flush=True)
    list(in_order(time.sleep, [0.01] * 100_000, 2))
"""


def _alive(group: int) -> list[str]:
    found = subprocess.run(["ps", "-o", "pid=", "-g", str(group)], capture_output=True, text=True)
    return found.stdout.split()


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(ORPHANS)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    for _ in range(1000):
        if len(_alive(process.pid)) >= 3:
            break
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(1000):
        if not _alive(process.pid):
            return
        time.sleep(0.02)
    pytest.fail(f"workers live on: {_alive(process.pid)}")


def test_a_missing_library_names_the_extra() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'acereason\[data\]'"):
        need("pyarrow_that_is_not_there", "data")


def test_the_documented_example_can_be_meant() -> None:
    text = (Path(__file__).parents[2] / "docs" / "curation.md").read_text()
    example = text.split("```toml\n")[1].split("```")[0]
    settings = tomllib.loads(example)
    assert settings.pop("kind") == "curation"
    check(msgspec.convert(settings, Curation))


def test_a_name_and_a_path_are_enough(tmp_path: Path) -> None:
    """Columns are recognised, what stays is published, and leaks are reported with their evidence."""
    questions = [
        f"A shop sells {n} pens and {n + 3} books. How many things does it sell?" for n in range(20, 30)
    ]
    rows = [{"Problem": q, "solution": f"So \\boxed{{{i}}}."} for i, q in enumerate(questions)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "held.json").write_text(json.dumps([{"question": questions[3]}]))
    settings = Curation(
        sources=(SourceSettings("mine", str(tmp_path / "rows.json")),),
        benchmarks=(BenchmarkSettings("held", str(tmp_path / "held.json")),), workers=1, format="jsonl",
    )  # fmt: skip
    curate(settings, tmp_path / "out")
    kept = [json.loads(line) for line in (tmp_path / "out/rl/all.jsonl").read_text().splitlines()]
    assert [p["answer"] for p in kept] == [str(i) for i in range(10) if i != 3]
    (report,) = (tmp_path / "out/reports/contamination.jsonl").read_text().splitlines()
    assert json.loads(report)["question"] == questions[3] and json.loads(report)["share"] == 1.0


def test_an_empty_result_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"title": "x"}, {"title": "y"}]))
    source = SourceSettings("mine", str(tmp_path / "rows.json"))
    with pytest.raises(
        DataError, match=r"expected rows that can be used, found none: 2 no question in the columns"
    ):
        curate(Curation(sources=(source,), workers=1), tmp_path / "out")
    (tmp_path / "rows.json").write_text(json.dumps([{"question": "What is this about?", "anwser": 1}]))
    with pytest.raises(DataError, match=r"stage 'all' has no prompts"):
        curate(Curation(sources=(source,), workers=1), tmp_path / "out")
