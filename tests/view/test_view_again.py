"""Judging again what stands in a run that may be a stranger's, still be read, or be changed meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from acereason import registry
from acereason.chat import boxed_answer
from acereason.problems import Verdict
from acereason.registry import Domain
from acereason.view import again
from acereason.view.runs_folder import RunsFolder
from acereason.view.server import application
from view_run import lines

SIX = "</think>\\boxed{6}"


def run_of(folder: Path, **more: Any) -> Path:
    """A run whose problems p0 … p4 all have two answers "6"; the file of its problems."""
    problems = [
        {"id": f"p{i}", "domain": "math", "question": f"6 + 0 · {i}?", "answer": "6", **more}
        for i in range(5)
    ]
    rows = [
        {"problem_id": f"p{i}", "sample": n, "text": SIX, "outcome": "correct"}
        for i in range(5)
        for n in range(2)
    ]
    for name in ("responses", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("")
    (folder / "recipe.json").write_text("{}")
    (folder / "responses" / "math-000001.jsonl").write_text(lines(rows))
    data = folder / "data" / "rl.jsonl"
    data.write_text(lines(problems))
    return data


def judged(folder: Path, problem: str = "p4", samples: int = 1) -> tuple[int, Any]:
    """Status and answer of a server of its own over the run `folder`."""
    client = TestClient(
        application(folder.parent), base_url="http://127.0.0.1", raise_server_exceptions=False
    )
    return asked(client, folder.name, problem, samples)


def asked(client: TestClient, run: str, problem: str = "p4", samples: int = 1) -> tuple[int, Any]:
    which = [{"file": "math-000001", "problem": problem, "sample": n} for n in range(samples)]
    answer = client.post("/api/judge", json={"run": run, "responses": which})
    return answer.status_code, answer.json()


def own(name: str, extract: Any = boxed_answer) -> Domain:
    return Domain(name, lambda p: p.question, extract, lambda p, a, t: Verdict("correct", 1))


def test_a_module_that_a_run_names_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nD = 1\n")
    for place, name in enumerate(("stranger:D", ":", "..:x", "stranger:")):
        run_of(tmp_path / f"r{place}", domain=name)
        status, found = judged(tmp_path / f"r{place}")
        assert status == 200 and found["verdicts"][0]["outcome"] == "unjudged"
        assert "is not imported" in found["verdicts"][0]["detail"]
    assert not (tmp_path / "ran").exists()
    monkeypatch.setitem(registry._registered, "stranger:D", own("stranger:D"))
    assert judged(tmp_path / "r0")[1]["verdicts"][0]["outcome"] == "correct"


@pytest.mark.parametrize(
    "error", [TypeError("odd"), ValueError("odd"), KeyError("odd"), RecursionError("odd")]
)
def test_what_a_domain_cannot_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def extract(_: str) -> str:
        raise error

    monkeypatch.setitem(registry._registered, "odd", own("odd", extract))
    run_of(tmp_path / "r", domain="odd")
    status, found = judged(tmp_path / "r")
    assert status == 200 and found["verdicts"][0]["outcome"] == "unjudged"
    assert found["verdicts"][0]["detail"].startswith(type(error).__name__)


def test_problems_are_read_in_slices_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "PATIENCE", 0.0)
    run_of(tmp_path / "r")
    client = TestClient(application(tmp_path), base_url="http://127.0.0.1")
    answers = [asked(client, "r")[1] for _ in range(8)]
    assert answers[0]["waiting"] == 1 and answers[0]["verdicts"][0]["detail"] == "still being read"
    assert answers[-1]["waiting"] == 0 and answers[-1]["verdicts"][0]["outcome"] == "correct"


def test_answers_share_a_problem_until_its_file_changes(tmp_path: Path) -> None:
    data = run_of(tmp_path / "r")
    run, judge = RunsFolder(tmp_path).get("r"), again.Again()
    assert run is not None
    run.index.advance()
    run.desk.problems.advance()

    def found() -> list[Any]:
        made = [judge._found(run, again.Which("math-000001", "p4", n), True) for n in (0, 1)]
        assert made[0][1] is made[1][1] and made[0][0] != made[1][0]
        return made

    def outcomes() -> set[str]:
        which = tuple(again.Which("math-000001", "p4", n) for n in (0, 1))
        return {row["outcome"] for row in judge.of(run, again.Question("r", which))["verdicts"]}

    before = found()
    assert outcomes() == {"correct"}
    data.write_text(data.read_text().replace('"6"', '"77"'))
    assert outcomes() == {"wrong"}
    assert found()[0][1] != before[0][1]
    judge.close()
