"""`generate` and `chat`: a batch that goes on where it was killed, a model tried in a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.chatting import Fold
from acereason.errors import DataError, RunError
from acereason.evaluate.benchmarks.store import AnswerProtocol
from acereason.generate import BatchSettings, generate, read
from acereason.policy.policy import Policy
from acereason.prompts import END_THINK
from acereason.sample.engines.embedded import EmbeddedSampler
from commands import acereason
from fake_vllm import tiny_policy

ROWS: list[dict[str, Any]] = [
    {"id": "a", "domain": "math", "question": "What is 3 plus 4?", "answer": "7"},
    {"prompt": "Print the"},
    {"prompt": "Print the"},
    {"question": "What is 2 plus 2?", "ground_truth": 4},
]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


@pytest.fixture(scope="module")
def folder(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("model")
    policy.save(found)
    return found


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(policy: Policy, source: Path, out: Path, **changes: Any) -> int:
    sampler = EmbeddedSampler(policy.model, slots=3, threads=1, eos_ids=policy.end_ids)
    protocol = AnswerProtocol("m", "embedded", **{"budget": 12, "temperature": 0.9, **changes})
    return generate(read(source, policy), policy, sampler, BatchSettings(3, protocol), out)


def test_a_torn_file_goes_on_to_the_same_bytes(policy: Policy, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    assert run(policy, source, whole) == 12 and run(policy, source, whole) == 0
    data = whole.read_bytes()
    for size in (0, 1, len(data) // 3, data.index(b"\n") + 1, len(data) - 1):
        part.write_bytes(data[:size])
        run(policy, source, part)
        assert part.read_bytes() == data
    found = [json.loads(line) for line in data.splitlines()]
    assert [f["sample"] for f in found] == [0, 1, 2] * 4 and len({f["key"] for f in found}) == 12
    assert len({f["problem_id"] for f in found}) == 4 and found[0]["answer"] == "7"
    with pytest.raises(RunError, match="12 responses to other prompts"):
        run(policy, source, whole, temperature=0.5)
    whole.write_text("thesis\n")
    with pytest.raises(RunError, match="not a file of responses"):
        run(policy, source, whole)
    assert whole.read_text() == "thesis\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROWS[0], ROWS[0]], "line 2: the id 'a' is also that of line 1"),
        ([ROWS[0], {"answer": "3"}], "line 2: no question"),
        ([{"question": "?", "domain": "mth"}], "line 1: unknown domain 'mth'; did you mean 'math'"),
        ([ROWS[0], 3], "line 2: not a JSON object"),
        ([{"messages": [{"role": "user", "content": "x"}]}], "line 1: messages need a chat template"),
    ],
)
def test_rows_that_cannot_be_asked_are_named(
    policy: Policy, tmp_path: Path, rows: list[Any], said: str
) -> None:
    with pytest.raises(DataError) as error:
        read(write(tmp_path / "b.jsonl", rows), policy)
    assert said in str(error.value)


def test_text_is_a_question_a_line(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("one?\n\ntwo?\none?\n")
    asks = read(path, policy)
    assert len({a.id for a in asks}) == 3 and asks[0].prompt == asks[2].prompt


def test_killed_and_started_again(folder: Path, tmp_path: Path) -> None:
    source, out, whole = tmp_path / "in.jsonl", tmp_path / "new" / "out.jsonl", tmp_path / "whole.jsonl"
    write(source, [{"question": f"What is {i} plus 2?"} for i in range(400)])
    command = [sys.executable, "-m", "acereason", "generate", str(folder), str(source), "-k", "4", "-q"]
    with subprocess.Popen([*command, "-o", str(out)]) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and not (out.exists() and out.stat().st_size > 1000):
            time.sleep(0.02)
        process.kill()
    assert acereason(*command[3:], "-o", str(out)).returncode == 0
    assert acereason(*command[3:], "-o", str(whole)).returncode == 0
    assert out.read_bytes() == whole.read_bytes()
    shown = acereason("verify", str(out), "-o", str(tmp_path / "v.jsonl"))
    assert shown.returncode == 0 and "1600 rows" in shown.stdout


PIECES = st.sampled_from(["a", "b\n", " ", "</th", "<", "\u00e9", END_THINK])


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(st.integers(1, 6), max_size=20), st.booleans())
@settings(max_examples=500, deadline=None)
def test_however_it_grows_the_answer_is_printed_once(text: str, steps: list[int], show: bool) -> None:
    fold, printed, size = Fold(show), "", 0
    for step in steps:
        size += step
        printed += fold.grow(text[:size])
    printed += fold.grow(text, over=True)
    if show:
        assert printed == text
    elif text.count(END_THINK) < 2:
        assert printed.strip() == (text.partition(END_THINK)[2] if END_THINK in text else "").strip()


def test_chat_by_pipe(folder: Path, tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl", [ROWS[0]])
    lines = "Print 3\n/problem\n/problem 9\n/T zero\n/nothing\n/seed 3\n/budget 4\n/fold off\n/problem\n"
    shown = subprocess.run(
        [sys.executable, "-m", "acereason", "chat", str(folder), "-p", str(problems)],
        input=f"{lines}/quit\nno\n", capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert shown.returncode == 0 and "Traceback" not in shown.stderr
    assert shown.stdout.count("[1] What is 3 plus 4?") == 2 and "(4 tokens" in shown.stdout
    assert shown.stdout.count("no_answer") + shown.stdout.count("wrong") == 2
    for said in ("from 1 to 1, found '9'", "found 'zero'", "unknown command /nothing; known: help"):
        assert said in shown.stderr


def test_chat_in_a_terminal(folder: Path) -> None:
    """Ctrl-C at a prompt, in a response and Ctrl-D: no traceback, and the chat ends when it is told to."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "acereason", "chat", str(folder), "-T", "1.5"]
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ) as process:
        os.close(slave)
        seen = b""

        def until(wanted: bytes) -> None:
            nonlocal seen
            end = time.monotonic() + 120
            while wanted not in seen:
                assert select.select([master], [], [], max(end - time.monotonic(), 0))[0], seen
                seen += os.read(master, 1 << 16)

        until(b"> ")
        os.write(master, b"Print the largest\n")
        until(b"tokens")
        process.send_signal(signal.SIGINT)  # in a response, or at the prompt when it was quick
        os.write(master, b"/help\n")
        until(b"Ctrl-C ends a response")
        os.write(master, b"\x04")
        with contextlib.suppress(OSError):  # of a terminal that nobody holds any more
            while os.read(master, 1 << 16):  # else the chat may wait for room to write
                pass
        assert process.wait(120) == 0
    os.close(master)
    assert b"Traceback" not in seen
