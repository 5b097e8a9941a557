"""Ranks of a distributed job, each with a judge of its own: the same verdicts, and nothing left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
RANK = r"""
import json, os, sys
import torch.distributed as dist
from acereason.problems import Problem, Response, Test
from acereason.verify import Judge

tests = tuple(Test("stdin", f"{i}\n", f"{2 * i}\n") for i in range(3))
double = Problem("double", "code", "", tests=tests, time_limit=0.4)
programs = ("print(2 * int(input()))", "print(int(input()))", "while True: pass", "import os; os.fork()")
said = [(double, f"</think>\n```python\n{program}\n```") for program in programs]
boxes = [("\\frac{1}{2}", "0.5"), ("5", "6"), ("\\int_0^1 x dx", "0.5"), ("5", "9^{9^{9^{9}}}")]
said += [(Problem(a, "math", "", answer=a), f"</think> \\boxed{{{b}}}") for a, b in boxes]
dist.init_process_group("gloo")
with Judge(2) as judge:
    pairs = [(problem, Response(problem.id, 0, text)) for problem, text in said * 5]
    found = [verdict.outcome for _, verdict in sorted(judge.stream(pairs), key=lambda item: item[0])]
dist.barrier()
with open(os.path.join(sys.argv[1], f"{dist.get_rank()}.json"), "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""


def below(group: int) -> list[str]:
    """Processes of a session that still run."""
    found = subprocess.run(["ps", "-o", "pid=", "-s", str(group)], capture_output=True, text=True)
    return found.stdout.split()


@pytest.mark.slow
def test_two_ranks_judge_alike_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    job = subprocess.Popen(
        [sys.executable, *launcher, str(tmp_path / "rank.py"), str(tmp_path)],
        start_new_session=True, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    _, error = job.communicate(timeout=250)
    assert job.returncode == 0, error
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first[:6] == ["correct", "wrong", "timeout", "wrong", "correct", "wrong"]
    assert first == first[:8] * 5 and "unjudged" not in first[6:8]
    assert below(job.pid) == []
