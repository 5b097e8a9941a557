"""reasoning-gym's scorers: right and wrong answers, none to compare with, partial scores, hostile text."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from acereason.problems import Problem, Response
from acereason.procedural import generate
from acereason.verify import Judge

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")


def said(answer: str) -> Response:
    return Response("p", 0, f"thinking\n</think>\n\\boxed{{{answer}}}")


@pytest.fixture(scope="module")
def judge() -> object:
    with Judge(workers=1) as made:
        yield made


@pytest.mark.parametrize("name", ["rg:spell_backward", "rg:word_sorting", "rg:countdown", "rg:gcd"])
def test_the_generator_s_own_answer_is_right_and_another_wrong(name: str, judge: Judge) -> None:
    for problem in generate([name], None, 3, 1, "train"):
        assert problem.answer is not None
        assert judge.verify(problem, said(problem.answer)).outcome == "correct"
        assert judge.verify(problem, said("0 0 nothing")).reward == 0


def test_partial_scores_by_the_problem_s_rule(judge: Judge) -> None:
    problem = Problem("p", "reasoning-gym", "?", answer="12", meta={"dataset": "chain_sum"})
    half = said("12 or so, I think")  # the scorer gives what share of the text the answer is
    assert judge.verify(problem, half).reward == 0
    lenient = msgspec.structs.replace(problem, meta={**problem.meta, "least_score": 0.05})
    verdict = judge.verify(lenient, half)
    assert verdict.reward == 1 and verdict.detail.startswith("score 0.1")


def test_without_an_answer_the_scorer_decides(judge: Judge) -> None:
    (problem,) = generate(["rg:countdown"], None, 1, 3, "train")
    without = msgspec.structs.replace(problem, answer=None)
    assert judge.verify(without, said(problem.answer or "")).outcome == "correct"
    assert judge.verify(without, said("1 + 1")).outcome == "wrong"


def test_an_unknown_generator_is_not_judged(judge: Judge) -> None:
    problem = Problem("p", "reasoning-gym", "?", answer="1", meta={"dataset": "nothing"})
    assert judge.verify(problem, said("1")).outcome == "unjudged"


def test_text_that_a_scorer_evaluates_does_nothing(judge: Judge, tmp_path: Path) -> None:
    (problem,) = generate(["rg:countdown"], None, 1, 3, "train")
    for text in (f"__import__('os').system('touch {tmp_path}/x')", f"open('{tmp_path}/x','w')", "9**9**9**9"):
        assert judge.verify(problem, said(text)).reward != 1  # on a busy machine it may be unjudged
    assert not list(tmp_path.iterdir())
