"""Rewards as TRL and verl ask for them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from acereason.errors import DataError
from acereason.verify import Judge, adapters


@pytest.fixture
def judge() -> Iterator[Judge]:
    with Judge(1) as found:
        yield found


def test_trl_rewards(judge: Judge) -> None:
    reward = adapters.trl_reward(judge)
    texts = ["t</think>\\boxed{4}", [{"role": "assistant", "content": "t</think>\\boxed{5}"}], "\\boxed{4}"]
    assert reward(["q"] * 3, texts, answer=["4"] * 3) == [1.0, 0.0, 0.0]
    relaxed = adapters.trl_reward(judge, thinking=False)
    assert relaxed(["q"], ["\\boxed{4}"], answer=["4"]) == [1.0]
    assert reward(["q"], ["t</think>\\boxed{4}"], answer=[None]) == [None]
    tests = json.dumps([{"type": "functional", "input": "[1]", "output": "2"}])
    code = "t</think>\n```python\ndef f(x): return x + 1\n```"
    assert reward(["q"], [code], tests=[tests], function=["f"]) == [1.0]


def test_verl_scores() -> None:
    assert adapters.compute_score("aime", "t</think>\\boxed{4}", "4") == 1.0
    assert adapters.compute_score("aime", "\\boxed{4}", "4", {"thinking": False}) == 1.0
    truth = {"inputs": ["1\n2"], "outputs": ["3"], "fn_name": "add"}
    code = "t</think>\n```python\nclass Solution:\n  def add(self, a, b): return a + b\n```"
    assert adapters.compute_score("lcb", code, json.dumps(truth)) == 1.0
    echo = "t</think>\n```python\nprint(input())\n```"
    assert adapters.compute_score("lcb", echo, {"inputs": ["a\n"], "outputs": ["b\n"]}) == 0.0
    with pytest.raises(DataError):
        adapters.compute_score("lcb", code, {"inputs": [], "outputs": []})
    with pytest.raises(DataError):
        adapters.compute_score("lcb", code, {"inputs": ["1"], "outputs": ["not json"], "fn_name": "f"})
