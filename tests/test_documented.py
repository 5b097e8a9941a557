"""What the documentation shows is what happens: docstrings' examples, and the README's."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from acereason.errors import DataError
from acereason.problems import Problem
from acereason.train.objective import Rollouts, response_weights
from acereason.verify import verify

README = Path(__file__).parents[1] / "README.md"
MODULES = (
    "verify.judge", "evaluate.estimates", "sample.temperature", "curate.decontaminate", "train.objective",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"acereason.{name}"))
    assert found.attempted and not found.failed


def test_the_readmes_parts() -> None:
    """Each expression has the value that stands behind it."""
    text = README.read_text()
    (code,) = re.findall(r"## Use one part.*?```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    checked = 0
    for node in ast.parse(code).body:
        source = ast.get_source_segment(code, node) or ""
        if not isinstance(node, ast.Expr):
            exec(source, names)
            continue
        said = code.splitlines()[(node.end_lineno or 0) - 1].partition("  # ")[2].partition(";")[0]
        value = eval(source, names)
        wanted = ast.literal_eval(said)
        assert value == (pytest.approx(wanted) if isinstance(wanted, float) else wanted) or torch.allclose(
            torch.tensor(value), torch.tensor(wanted)
        )
        checked += 1
    assert checked >= 6


@pytest.mark.parametrize(
    ("given", "response", "outcome"),
    [
        ("42", "\\boxed{42}", "correct"),
        (42, "so it is \\boxed{42}", "correct"),
        (0.5, "\\boxed{1/2}", "correct"),
        (Fraction(1, 2), "\\boxed{0.5}", "correct"),
        (Decimal("1.50"), "\\boxed{3/2}", "correct"),
        ("42", "thought</think>\\boxed{42}", "correct"),
        ("42", "\\boxed{41}</think>\\boxed{42}", "correct"),
        ("42", "<think>\\boxed{42}", "no_answer"),
        ("42", "<think>so</think>\\boxed{42}", "correct"),
        ("42", "42", "no_answer"),
        ("", "\\boxed{}", "no_answer"),
        ({"answer": "7"}, "\\boxed{7}", "correct"),
        ({"question": "?", "ground_truth": 7}, "\\boxed{7}", "correct"),
        ({"inputs": ["1"], "outputs": ["1"]}, "```python\nprint(input())\n```", "correct"),
        ([{"input": "1", "output": "2"}], "```python\nprint(input())\n```", "wrong"),
        (Problem("p", "math", "", answer="7"), "\\boxed{7}", "correct"),
    ],
)
def test_plain_values_are_judged(given: Any, response: str, outcome: str) -> None:
    assert verify(given, response).outcome == outcome


@pytest.mark.parametrize("given", [None, True, [], {}, [1, 2], {"tests": 3}])
def test_what_stands_for_no_problem_is_said(given: Any) -> None:
    with pytest.raises(DataError):
        verify(given, "\\boxed{1}")


def test_plain_rewards_are_rollouts() -> None:
    rewards: list[list[float | None]] = [[1, 0, None], [0, 1, 1]]
    tokens, cut = [[3, 4, 5], [6, 7, 8]], [[False, True, False], [False] * 3]
    nan = float("nan")
    same = Rollouts(
        torch.tensor([[1.0, 0, nan], [0, 1, 1]], dtype=torch.float64), torch.tensor(tokens), torch.tensor(cut)
    )
    assert torch.equal(response_weights(rewards, tokens=tokens, truncated=cut), response_weights(same))
    with pytest.raises(DataError, match="one shape"):
        response_weights(rewards, tokens=[[1, 2], [3, 4]])
