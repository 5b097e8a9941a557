"""`acereason evaluate` and `compare`, as a user calls them but without a new process for each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import evaluate_tools as tools
from acereason.cli import main
from acereason.files import write_jsonl
from acereason.policy.model import load_model, load_tokenizer
from acereason.policy.policy import Policy
from acereason.problems import Problem, Test


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.make_model(tmp_path_factory.mktemp("model"))


@dataclass
class Shown:
    """What a command left: its exit status and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Shown]


@pytest.fixture
def acereason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> Shown:
        monkeypatch.setattr(sys, "argv", ["acereason", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Shown(int(ended.value.code or 0), *capsys.readouterr())

    return call


def aime(path: Path) -> Path:
    rows = [
        {"id": i, "problem": f"Say a digit, {i % 6}.", "solution": "", "answer": "007", "url": "", "year": ""}
        for i in range(30)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


COMMON = ("--budget", "16", "--format", "plain")


def test_a_benchmark_embedded_and_served_and_their_comparison(
    acereason: Run, folder: Path, tmp_path: Path
) -> None:
    file, here, there = aime(tmp_path / "aime.jsonl"), tmp_path / "here", tmp_path / "there"
    shown = acereason("evaluate", folder, "-b", f"aime24={file}", "-k", "4", *COMMON, "-o", here)
    assert shown.returncode == 0, shown.stderr
    assert "AIME24" in shown.stdout and "30 questions" in shown.stderr and "tokens/s" in shown.stderr
    assert {"results.json", "results.md", "pass_at_k.svg", "protocol.json"} <= {
        p.name for p in here.iterdir()
    }
    fake = tools.Fake(load_tokenizer(folder), 128)
    with tools.serving(fake) as url:
        served = acereason(
            "evaluate", url, "--tokenizer", folder, "-b", f"aime24={file}", "-k", "4", *COMMON, "-o", there,
            "--json",
        )  # fmt: skip
    assert served.returncode == 0, served.stderr
    score = json.loads(served.stdout)["aime24"]
    assert (score["n"], score["k"]) == (30, 4) and "ids" not in score
    compared = acereason("compare", here, there, "--json", "--plot", tmp_path / "both.svg")
    row = json.loads(compared.stdout)[0]
    assert row["n"] == 30 and row["low"] <= row["mean"] <= row["high"]
    assert row["after"] - row["before"] == pytest.approx(row["mean"])
    assert "AIME24 there" in (tmp_path / "both.svg").read_text()


def test_a_model_is_asked_as_its_folder_says(
    acereason: Run, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own"
    Policy(load_model(folder), load_tokenizer(folder), "plain").save(own)
    problems, out = tmp_path / "problems.jsonl", tmp_path / "out"
    write_jsonl(problems, tools.PROBLEMS)
    asked = ("evaluate", own, "-p", problems, "--budget", "16", "-k", "4")
    shown = acereason(*asked, "-o", out, "--json")
    assert shown.returncode == 0 and "prompt format" not in shown.stderr, shown.stderr
    assert json.loads((out / "protocol.json").read_text())["format"] == "plain"
    assert json.loads(shown.stdout)["math"]["mean"] > 0.1
    assert not caplog.records
    (tmp_path / "other.json").write_text('{"name": "other", "user": "Q: ", "math": "{question}"}')
    other = acereason(*asked, "--format", tmp_path / "other.json", "--json")
    assert json.loads(other.stdout)["math"]["mean"] < json.loads(shown.stdout)["math"]["mean"]
    assert "was trained with the prompt format 'plain' and is asked with 'other'" in caplog.text
    caplog.clear()
    old = acereason(*asked, "--format", "chatml-1.0")
    assert old.returncode == 2 and "use 'deepseek-r1'" in " ".join(old.stderr.split())
    found = acereason("calibrate", own, "-p", problems, "--budget", "16", "-n", "6", "--target", "0.4")
    assert "context" not in found.stderr and not caplog.records  # ChatML would not fit


def test_generations_made_elsewhere_are_graded(acereason: Run, tmp_path: Path) -> None:
    problems, made = tmp_path / "problems.jsonl", tmp_path / "made.jsonl"
    write_jsonl(problems, tools.PROBLEMS[:2])
    texts = ["7", "\\frac{14}{2}", "8", "7"]
    rows: list[dict[str, Any]]
    rows = [{"problem_id": f"p{i % 2}", "text": f"so</think>\\boxed{{{t}}}"} for i, t in enumerate(texts)]
    rows += [{"problem_id": f"p{i}", "text": "cut", "finish": "length", "tokens": 9} for i in range(2)]
    made.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = acereason("evaluate", "--responses", made, "-p", problems, "--json")
    assert shown.returncode == 0, shown.stderr
    score = json.loads(shown.stdout)["math"]
    assert (score["n"], score["k"], score["mean"]) == (2, 3, 0.5)
    assert score["truncated"] == score["no_answer"] == pytest.approx(1 / 3)
    made.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    short = acereason("evaluate", "--responses", made, "-p", problems)
    said = " ".join(short.stderr.split())
    assert short.returncode == 2 and "1 samples missing ('p1' has 2); give -k 2" in said
    first = acereason("evaluate", "--responses", made, "-p", problems, "-k", "2", "--json")
    assert json.loads(first.stdout)["math"]["k"] == 2
    many = acereason("evaluate", "--responses", made, "-p", problems, "-k", "4", "-o", tmp_path / "no")
    assert many.returncode == 2 and not (tmp_path / "no").exists()
    made.write_text(json.dumps({"problem_id": "p9", "text": "?"}) + "\n")
    strange = acereason("evaluate", "--responses", made, "-p", problems)
    assert strange.returncode == 2 and "'p9', which is not among the problems" in " ".join(
        strange.stderr.split()
    )
    write_jsonl(problems, tools.PROBLEMS[:1])
    made.write_text(json.dumps({"problem_id": "p0", "response": "It is \\boxed{7}."}) + "\n")
    bare = acereason("evaluate", "--responses", made, "-p", problems, "--no-thinking", "--json")
    assert json.loads(bare.stdout)["math"]["mean"] == 1.0


def test_what_was_refused_leaves_no_folder(acereason: Run, folder: Path, tmp_path: Path) -> None:
    problems, out = tmp_path / "problems.jsonl", tmp_path / "out"
    write_jsonl(problems, tools.PROBLEMS)
    asked = ["evaluate", folder, "-p", problems, "--format", "plain", "-o", out]
    batch = ["generate", folder, problems, "-o", out]
    for words, option, value, said in (
        (asked, "--budget", "5000", "lower --budget"),
        (asked, "--temperature", "-1", "the temperature is -1"),
        (asked, "--top-p", "2", "top_p is 2"),
        (batch, "--temperature", "inf", "the temperature is inf"),
        (batch, "--top-p", "0", "top_p is 0"),
    ):
        shown = acereason(*words, "--budget", "8", option, value)
        assert shown.returncode == 2 and said in shown.stderr and not out.exists()


def test_generations_of_two_domains_in_one_file(acereason: Run, tmp_path: Path) -> None:
    problems, made = tmp_path / "problems.jsonl", tmp_path / "made.jsonl"
    code = Problem("c", "code", "?", tests=(Test("stdin", "1", "1"),))
    write_jsonl(problems, [*tools.PROBLEMS[:2], code])
    rows = [{"problem_id": f"p{i}", "text": "</think>\\boxed{7}"} for i in range(2)]
    rows += [{"problem_id": "c", "text": "</think>\n```python\nprint(input())\n```"}] * 3
    write_jsonl(made, rows)
    shown = acereason("evaluate", "--responses", made, "-p", problems, "--json")
    assert shown.returncode == 0, shown.stderr
    assert {name: (s["n"], s["k"]) for name, s in json.loads(shown.stdout).items()} == {
        "math": (2, 1),
        "code": (1, 3),
    }


def test_runs_are_compared_on_the_questions_in_common(acereason: Run, tmp_path: Path) -> None:
    for name, ids in (("a", "pqrs"), ("b", "qrst")):
        run = tmp_path / name
        (run / "evaluations").mkdir(parents=True)
        (run / "recipe.json").write_text(json.dumps({"stage": [{"name": "one"}, {"name": "two"}]}))
        for stage, right in (("sft", False), ("one", name == "b")):
            kept = {"math": {"ids": list(ids), "right": [[right, None, True]] * 4}}
            (run / "evaluations" / f"{stage}.json").write_text(json.dumps(kept))
    shown = acereason("compare", tmp_path / "a", tmp_path / "b", "--json")
    (row,) = json.loads(shown.stdout)
    assert (row["n"], row["left_out"], row["before"], row["after"]) == (3, 2, 0.5, 1.0)
    none = acereason("compare", tmp_path / "a", tmp_path / "b", "--plot", tmp_path / "x.svg")
    assert none.returncode == 2 and "no curve to draw" in none.stderr
    sft = acereason("compare", tmp_path / "b" / "evaluations" / "sft.json", tmp_path / "b")
    assert sft.returncode == 0 and "+50.0" in sft.stdout
    (tmp_path / "b" / "evaluations" / "one.json").write_text("{")
    broken = acereason("compare", tmp_path / "a", tmp_path / "b")
    assert broken.returncode == 2 and "no stage's evaluation" in " ".join(broken.stderr.split())


@pytest.mark.parametrize("verb", ["report", "view", "plot", "compare"])
def test_what_is_no_run_is_refused(acereason: Run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.txt").write_text("years")
    more = [tmp_path / "thesis"] if verb == "compare" else []
    shown = acereason(verb, tmp_path / "thesis", *more)
    assert shown.returncode == 2 and "thesis" in shown.stderr and "Traceback" not in shown.stderr
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["text.txt"]
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "metrics.jsonl").write_text("")
    if verb == "report":
        assert "a folder of runs: " in " ".join(acereason(verb, tmp_path / "runs").stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "give a model or servers to ask, or --responses"),
        (["evaluate", "m", "-b", "aime24", "-p", "x"], "give --benchmarks or --problems"),
        (["evaluate", "http://127.0.0.1:9", "-b", "aime24"], "needs --tokenizer"),
        (["evaluate", "http://127.0.0.1:9", "-b", "aime24", "--tokenizer", "x"], "is no server that answers"),
        (["evaluate", "--responses", "nowhere", "-b", "amie24"], "unknown benchmark 'amie24'; known: aime24"),
        (["evaluate", "m", "-b", "aime24", "--format", "chatml"], "unknown prompt format 'chatml'"),
        (["compare", "/nowhere", "/nowhere"], "holds no finished evaluation"),
    ],
)
def test_errors_are_clear_and_short(acereason: Run, arguments: list[str], message: str) -> None:
    shown = acereason(*arguments)
    assert shown.returncode == 2
    assert message in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr
