"""A judge that errs on purpose errs as often as it should, the same way every time."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

import tiny_run
from acereason import config
from acereason.problems import Problem, Response, Verdict
from acereason.train.judging import Mistaken, mistaken


class Says:
    """Judges by the text: "right", "wrong", or anything else unjudged."""

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        told: Future[Verdict] = Future()
        kind = response.text.split()[0]
        if kind == "broken":
            told.set_exception(RuntimeError("no judge"))
        elif kind == "right":
            told.set_result(Verdict("correct", 1))
        else:
            told.set_result(Verdict("wrong", 0) if kind == "wrong" else Verdict("unjudged", None))
        return told


def rewards(judge: Mistaken, word: str, count: int = 4000) -> list[int | None]:
    problem = Problem("p", "math", "q", answer="1")
    texts = (Response("p", n % 16, f"{word} {n}") for n in range(count))
    return [judge.submit(problem, response).result().reward for response in texts]


@pytest.mark.parametrize(("positives", "negatives"), [(0.0, 0.2), (0.1, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_each_kind_of_mistake_has_its_own_share(positives: float, negatives: float) -> None:
    judge = Mistaken(Says(), positives, negatives, 3)
    assert sum(map(bool, rewards(judge, "wrong"))) / 4000 == pytest.approx(positives, abs=0.03)
    assert 1 - sum(map(bool, rewards(judge, "right"))) / 4000 == pytest.approx(negatives, abs=0.03)
    assert rewards(judge, "wrong") == rewards(judge, "wrong")


def test_what_could_not_be_judged_stays_so_and_errors_are_told() -> None:
    judge = Mistaken(Says(), 1.0, 1.0, 3)
    assert set(rewards(judge, "unjudged", 50)) == {None}
    with pytest.raises(RuntimeError, match="no judge"):
        judge.submit(Problem("p", "math", "q"), Response("p", 0, "broken")).result()


def test_without_mistakes_the_judge_is_the_judge() -> None:
    judge, recipe = Says(), config.parse(tiny_run.RECIPE)
    assert mistaken(judge, recipe) is judge
    assert mistaken(judge, config.parse({**tiny_run.RECIPE, "rl": {"false_positives": 0.1}})) is not judge
