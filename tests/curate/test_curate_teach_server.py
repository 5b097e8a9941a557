"""The teacher against a real server, when one is given.

    python -m vllm.entrypoints.openai.api_server --model MODEL --served-model-name demo …
    ACEREASON_TEST_SERVER=http://127.0.0.1:8000/v1 pytest tests/curate/test_curate_teach_server.py

MODEL is any checkpoint of this project, such as the SFT model of a demo run. What must hold of a
real server: its samples are independent (no two alike beyond what the model's own repetition
explains), the same seed gives the same text again, and being killed and started again changes
nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from acereason.curate.teach import Teacher, teach
from acereason.curate.wire import TeacherProtocol
from acereason.files import read_jsonl, write_jsonl
from acereason.problems import Problem, Response
from acereason.procedural import generate

SERVER = os.environ.get("ACEREASON_TEST_SERVER", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SERVER, reason="set ACEREASON_TEST_SERVER to a server's /v1 address"),
]
PROTOCOL = TeacherProtocol(
    "demo", mode="completion", format="plain", temperature=1.0, top_p=1.0, max_tokens=96
)
SCRIPT = """
import sys
from pathlib import Path
import msgspec
from acereason.curate.teach import Teacher, teach
from acereason.curate.wire import TeacherProtocol
from acereason.files import read_jsonl
from acereason.problems import Problem
protocol = msgspec.json.decode(sys.argv[1], type=TeacherProtocol)
problems = list(read_jsonl(sys.argv[2], Problem))
teach(problems, Teacher((sys.argv[3],), samples=8, progress=False), protocol, Path(sys.argv[4]))
"""


def prompts() -> list[Problem]:
    return generate(["chain", "count"], [1, 2], 40, 0, "train")


def responses(folder: Path) -> list[Response]:
    return list(read_jsonl(folder / "responses.jsonl", Response))


def test_samples_are_whole_distinct_and_repeatable(tmp_path: Path) -> None:
    problems = prompts()
    settings = Teacher((SERVER,), samples=8, progress=False)
    summary = teach(problems, settings, PROTOCOL, tmp_path / "a")
    assert summary.refused == 0 and summary.asked == 8 * len(problems)
    print(f"{summary.asked} responses, {summary.tokens / summary.seconds:,.0f} tokens/s")
    found = responses(tmp_path / "a")
    assert {r.finish for r in found} <= {"stop", "length"}
    assert all(0 < r.meta["tokens"] <= 96 for r in found)
    texts: dict[str, set[str]] = {}
    for response in found:
        texts.setdefault(response.problem_id, set()).add(response.text)
    assert sum(len(t) for t in texts.values()) > 0.5 * len(found)  # seeds do make samples differ
    one = Teacher((SERVER,), samples=8, concurrency=1, progress=False)
    teach(problems[:2], one, PROTOCOL, tmp_path / "b")
    first = {(r.problem_id, r.sample): r.text for r in found}
    same = [first[r.problem_id, r.sample] == r.text for r in responses(tmp_path / "b")]
    assert sum(same) >= 0.8 * len(same)  # batching changes float sums, and rarely a draw


def test_killed_and_started_again(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "problems.jsonl", prompts())
    arguments = [msgspec.json.encode(PROTOCOL).decode(), str(tmp_path / "problems.jsonl"), SERVER]
    command = [sys.executable, "-c", SCRIPT, *arguments, str(tmp_path / "cut")]
    answers, held = tmp_path / "cut" / "answers.jsonl", list[bytes]()
    for kill in (True, True, True, False):
        process = subprocess.Popen(command)
        while kill and process.poll() is None:
            if answers.exists() and answers.read_bytes().count(b"\n") > len(held) + 10:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.005)
        process.wait(300)
        lines = answers.read_bytes().split(b"\n")[:-1]
        assert lines[: len(held)] == held  # what had arrived stays as it was
        held = lines
    found = responses(tmp_path / "cut")
    assert len(found) == 8 * len(prompts()) == len({(r.problem_id, r.sample) for r in found})
