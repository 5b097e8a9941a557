"""The report of a synthetic run: self-contained, inert, and tolerant of what is missing."""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from acereason.errors import RunError
from acereason.view.data import choose, columns, read_run
from acereason.view.report import embed, page, write_report
from acereason.view.terminal import table

Row = dict[str, Any]

HOSTILE = (
    "</script><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\">"
    "<!--<script> {{data}} \x1b[31m \u202e\u2028 &lt;"
)
STAGES = (("math-short", "math", 48, 60), ("math-long", "math", 96, 50), ("code", "code", 96, 40))


def accuracy(share: float, n: int = 500, k: int = 8) -> Row:
    se = math.sqrt(share * (1 - share) / n) * 0.8
    passes = {"1": share, "4": min(1, share * 1.35), "8": min(1, share * 1.5)}
    return {"accuracy": share, "se": se, "n": n, "k": k, "pass_at_k": passes}


def evaluation(step: int, stage: str, benchmark: str, share: float, **more: Any) -> Row:
    modes = {
        "chain": {
            "direct": {"share": 0.6 - share / 2, "accuracy": share / 2},
            "worked": {"share": 0.4 + share / 2, "accuracy": share},
        },
        "search": {"guess": {"share": 1 - share, "accuracy": 0.1}},
    }
    if share > 0.5:
        modes["search"]["try each"] = {"share": share, "accuracy": 0.8}
    row = {"kind": "evaluation", "step": step, "stage": stage, "benchmark": benchmark, **more}
    return {**row, **accuracy(share), "truncated": 0.02, "no_answer": 0.04, "modes": modes} | {
        "by_family": {name: accuracy(share * by, 170) for name, by in (("chain", 1.1), ("search", 0.9))}
    }


def rl_rows(random: np.random.Generator, first: int) -> list[Row]:
    rows: list[Row] = []
    step, reward, temperature = first, 0.34, 0.85
    for stage, domain, budget, steps in STAGES:
        reward = reward if domain == "math" else 0.4
        for at in range(steps):
            step, reward = step + 1, reward + 0.25 * (0.75 - reward) / steps * 3
            seen = float(np.clip(reward + random.normal(0, 0.03), 0, 1))
            h = 0.3 + 0.03 * random.normal() * math.exp(-at / 20) + 0.012 * random.normal()
            temperature += 0.15 * (0.3 - h)
            mean = budget * (0.55 - 0.15 * at / steps)
            wrong = 128 * (1 - seen)
            rows.append(
                {
                    "kind": "rl",
                    "step": step,
                    "stage": stage,
                    "stage_step": at + 1,
                    "domain": domain,
                    "budget": budget,
                    "group": 8,
                    "T": temperature,
                    "H_T": h,
                    "H_1": h * 1.25,
                    "H_target": None if domain == "code" else 0.3,
                    "reward": seen,
                    "truncated": 0.2 * math.exp(-at / 15),
                    "length": {"mean": mean, "p50": mean * 0.9, "p95": min(budget, mean * 1.8)},
                    "all_right": seen**3,
                    "all_wrong": (1 - seen) ** 3,
                    "outcomes": {"correct": 128 * seen, "wrong": wrong * 0.8}
                    | {"no_answer": wrong * 0.15, "timeout": wrong * 0.05},
                    "by_level": {str(n): float(seen ** (n / 2)) for n in range(1, 5)},
                    "loss": random.normal(0, 0.01),
                    "gradient_norm": random.lognormal(-1, 0.2),
                    "lr": 1e-6 if domain == "math" else 5e-6,
                    "overlap": 0.4,
                    "logprob_difference": {"mean": 1e-6, "max": 2e-5, "k3": 0 if at % 2 else 1e-9},
                    "tokens": int(128 * mean),
                    "learned_tokens": int(100 * mean),
                    "seconds": {"sample": 0.9, "judge": 0.1, "learn": 0.6, "publish": 0.02} | {"total": 1.62},
                }
            )
    return rows


def response_rows(random: np.random.Generator, stage: str) -> list[Row]:
    rows: list[Row] = []
    for problem in range(6):
        rewards = random.random(8) < [0.5, 0.2, 1, 0, 0.7, 0.4][problem]
        scale = rewards.std() or 1
        for sample, right in enumerate(rewards.tolist()):
            thinking = "\n".join(f"carry {i}: {i * 17 % 10}" for i in range(12))
            text = f"{thinking}\n</think>\nThe sum is \\boxed{{{41 + right}}}."
            cut = not right and sample == 3
            rows.append(
                {
                    "problem_id": f"{stage}/{problem}",
                    "sample": sample,
                    "temperature": 0.85,
                    "text": HOSTILE + thinking if cut else HOSTILE + text if sample == 1 else text,
                    "tokens": 40 + sample,
                    "finish": "length" if cut else "stop",
                    "outcome": "correct" if right else "no_answer" if cut else "wrong",
                    "reward": int(right),
                    "extracted": None if cut else str(41 + right),
                    "detail": HOSTILE if sample == 2 else "",
                    "advantage": (right - rewards.mean()) / scale,
                    "level": problem % 3 + 1,
                    "family": ["chain", "search"][problem % 2],
                }
            )
    return rows


def metric_rows(random: np.random.Generator) -> list[Row]:
    funnel = [("collected", 9000, 9000), ("dedup", 9000, 7300), ("decontaminate", 7300, 7180)]
    rows: list[Row] = [
        {"kind": "funnel", "step": 0, "name": name, "before": before, "after": after}
        | {"reasons": {"exact": 1200, "near": before - after} if after < before else {}}
        for name, before, after in funnel
    ]
    for step in range(1, 121):
        loss = 0.4 + 1.8 * math.exp(-step / 25) + random.normal(0, 0.02)
        lr = 5e-4 * (1 + math.cos(math.pi * step / 120)) / 2
        rows.append({"kind": "sft", "step": step, "epoch": (step + 39) // 40, "loss": loss, "lr": lr})
        if step % 40 == 0:
            epoch = step // 40
            about = {"epoch": epoch} if epoch < 3 else {}  # the last one is the stage's own
            for benchmark, top in (("math", 0.4), ("code", 0.35)):
                share = top * (1 - 0.6**epoch)
                rows.append(evaluation(step, "sft", benchmark, share, **about))
    for stage in ("math-short", "math-long"):
        points = [{"T": t, "H": 0.12 + 0.34 * (t - 0.4), "se": 0.006} for t in (0.4, 0.7, 1.0, 1.3)]
        rows.append(
            {"kind": "calibration", "step": 120, "stage": stage, "target": 0.3, "points": points}
            | {"T": 0.93, "check": {"H": 0.305, "se": 0.005}}
        )
    rows += rl_rows(random, 120)
    for step, stage, math_share, code_share in (
        (180, "math-short", 0.45, 0.31),
        (230, "math-long", 0.53, 0.33),
        (270, "code", 0.54, 0.52),
    ):
        rows.append(evaluation(step, stage, "math", math_share))
        rows.append(evaluation(step, stage, "code", code_share))
    return rows


def lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_run(folder: Path) -> Path:
    """A finished run's folder with three stages and hostile responses."""
    random = np.random.default_rng(0)
    (folder / "responses").mkdir(parents=True)
    (folder / "data").mkdir()
    rows = metric_rows(random)
    (folder / "metrics.jsonl").write_text(lines(rows))
    (folder / "recipe.json").write_text(json.dumps({"name": "demo", "note": HOSTILE}))
    machine = {"processor": "a processor", "cores": 2}
    manifest = {"recipe": "demo", "seed": 7, "recipe_sha256": "ab" * 32, "machine": machine}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for step, (stage, *_) in zip((180, 230, 270), STAGES, strict=True):
        for name in (stage, f"evaluation-math-{stage}"):
            for at in (step - 1, step) if name == stage else (step,):
                path = folder / "responses" / f"{name}-{at:06d}.jsonl"
                path.write_text(lines(response_rows(random, stage)))
    problems = [{"id": f"math-short/{n}", "question": f"Add {n} and 42.", "answer": "42"} for n in (0, 1)]
    (folder / "data" / "problems.jsonl").write_text(lines(problems))
    final = [row for row in rows if row["kind"] == "evaluation" and row["step"] >= 120]
    stages = [
        {"name": name, "domain": "code" if name == "code" else "math", "steps": 50, "T": 0.93}
        | {
            "H_T": 0.304,
            "evaluation": {row["benchmark"]: row for row in final if row["stage"] == name},
        }
        for name in ("sft", "math-short", "math-long", "code")
    ]
    gain = {
        "math": {"mean": 0.226, "low": 0.191, "high": 0.262},
        "code": {"mean": 0.246, "low": 0.212, "high": 0.281},
    }
    per_stage = {name: gain for name, *_ in STAGES}
    summary = {"stages": stages, "gain": gain, "gain_per_stage": per_stage, "seconds": 517.3}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "demo-run")


def embedded(text: str) -> Row:
    found = re.search(r'<script type="application/json" id="run">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_the_file_is_self_contained(run: Path) -> None:
    path = write_report(run)
    text = path.read_text()
    assert path == run / "report.html"
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(?!#)[\w/]", markup)
    assert not re.search(r"url\(|@import", markup)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|importScripts|sendBeacon)\b", text)
    assert "default-src 'none'" in text
    assert embedded(text)["name"] == "demo-run"


def test_hostile_content_cannot_leave_the_data(run: Path) -> None:
    text = write_report(run).read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert "owned'" in json.dumps(embedded(text))
    data = text[text.index('id="run">') + 9 :]
    assert not set("<>&") & set(data[: data.index("</script>")])
    assert embedded(text)["recipe"]["note"] == HOSTILE
    assert page({"name": "<b>&{{data}}"}).count("<title>&lt;b&gt;&amp;{{data}} ") == 1


def test_embedding_round_trips() -> None:
    value = {"a": HOSTILE, "b": [1, 2.5, None, "ü\ud800"]}
    assert json.loads(embed(value)) == value
    assert embed(value).isascii()


def test_a_run_that_is_cut_off_is_still_a_page(run: Path) -> None:
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'not json\n[1]\n\xff\xfe{"kind": "rl", "step"')
    with (run / "responses" / "code-000270.jsonl").open("ab") as file:
        file.write(b'{"problem_id": "x", "text": "\xff')
    (run / "summary.json").write_text("{")
    (run / "manifest.json").unlink()
    data = embedded(write_report(run).read_text())
    notes = "\n".join(data["notes"])
    assert "metrics.jsonl: the last line is not complete" in notes
    assert "metrics.jsonl: 2 unreadable lines left out, first line 28" in notes
    assert "code-000270.jsonl: the last line is not complete" in notes
    assert "manifest.json is not there" in notes
    assert "summary.json: not a JSON object" in notes
    assert len(data["rl"]["step"]) == 150
    assert [stage["name"] for stage in data["results"]] == [
        "sft",
        "math-short",
        "math-long",
        "code",
    ]
    assert data["results"][1]["evaluation"]["math"]["accuracy"] == 0.45
    assert data["results"][1]["steps"] == 60


def test_an_empty_folder_is_a_page_and_no_folder_an_error(tmp_path: Path) -> None:
    assert len(embedded(write_report(tmp_path).read_text())["notes"]) == 4
    with pytest.raises(RunError, match="expected a run's folder"):
        write_report(tmp_path / "nowhere")


def test_invalid_bytes_in_a_response_are_text(run: Path) -> None:
    row = b'{"problem_id": "p", "text": "a\xffb</think>c", "reward": 1}\n'
    (run / "responses" / "code-000300.jsonl").write_bytes(row)
    stage = read_run(run)["responses"][2]
    (response,) = stage["groups"][0]["responses"]
    assert (stage["step"], response["thinking"], response["answer"]) == (300, "a\ufffdb", "c")


NAMES = ["kind", "step", "stage", "epoch", "benchmark", "modes", "reward", "points", "stages", "T"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
KINDS = st.sampled_from(["rl", "sft", "evaluation", "calibration", "funnel", None])
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), JSON), max_size=4)


@given(ROWS, KINDS, JSON)
@settings(max_examples=80, deadline=None)
def test_rows_of_any_shape_are_a_page(rows: list[Row], kind: str | None, other: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "responses").mkdir()
        (folder / "metrics.jsonl").write_text(lines([{**row, "kind": kind} for row in rows]))
        (folder / "responses" / "a-1.jsonl").write_text(lines(rows))
        (folder / "summary.json").write_text(json.dumps(other))
        embedded(write_report(folder).read_text())


def test_long_responses_lose_their_middle(run: Path) -> None:
    row = {"problem_id": "p", "text": "x" * 2_000_000, "tokens": [1, 2, 3]}
    (run / "responses" / "code-000300.jsonl").write_text(lines([row]))
    (response,) = read_run(run)["responses"][2]["groups"][0]["responses"]
    assert len(response["thinking"]) < 17_000
    assert "characters left out" in response["thinking"]
    assert (response["answer"], response["tokens"]) == (None, 3)


def test_columns_are_by_step_and_the_last_row_of_a_step_counts() -> None:
    rows = [
        {"kind": "rl", "step": 2, "a": {"b": 1.23456789}},
        {"kind": "rl", "step": 1, "a": {"b": 5}},
        {"kind": "rl", "step": 2, "a": {"b": 7.0, "c": "x"}},
    ]
    assert columns(rows) == {"step": [1, 2], "a.b": [5, 7.0], "a.c": [None, "x"]}
    assert columns([]) == {}


def test_groups_that_teach_come_first_family_by_family() -> None:
    def group(family: str, *rewards: int) -> list[Row]:
        return [{"family": family, "reward": reward} for reward in rewards]

    groups = {
        "same": group("f", 1, 1),
        "f1": group("f", 1, 0),
        "f2": group("f", 0, 1),
        "g1": group("g", 1, 0),
    }
    assert choose(groups, 3) == ["f1", "g1", "f2"]
    assert choose(groups, 9)[-1] == "same"


def test_responses_are_of_each_stages_last_step_and_the_last_evaluation(run: Path) -> None:
    found = [(stage["stage"], stage["step"]) for stage in read_run(run)["responses"]]
    trained = [("math-short", 180), ("math-long", 230), ("code", 270)]
    assert found == [*trained, ("evaluation-math-code", 270)]


def test_questions_and_references_come_from_the_runs_problems(run: Path) -> None:
    groups = {group["problem_id"]: group for group in read_run(run)["responses"][0]["groups"]}
    assert groups["math-short/0"]["question"] == "Add 0 and 42."
    assert groups["math-short/1"]["reference"] == "42"


def test_the_gain_is_decomposed_from_first_to_last_stage(run: Path) -> None:
    changes = read_run(run)["modes"]
    assert {(c["benchmark"], c["family"]) for c in changes} == {
        (benchmark, family) for benchmark in ("math", "code") for family in ("chain", "search")
    }
    for change in changes:
        assert (change["from"], change["to"]) == ("sft", "code")
        assert change["within"] + change["shift"] == pytest.approx(change["after"] - change["before"])


def test_the_terminal_table_has_stages_and_intervals(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["stages"][1]["name"] = "[bold]math-short"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(summary))
    text = console.export_text()
    assert "[bold]math-short" in text
    assert "54.0 ± 3.5" in text
    assert "+22.6 points  (95 % interval +19.1 to +26.2)" in text
    console.print(table({}), table({"stages": [{"name": "sft"}]}))
