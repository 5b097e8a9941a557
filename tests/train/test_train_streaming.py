"""Learning while sampling: the same gradient, begun before the last response, and no error lost."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from acereason.config import Filter, Rl
from acereason.draws import draw_seed
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response, Verdict
from acereason.sample.ask import Asking, How
from acereason.train import streaming, update
from learn_groups import Capture
from made_up import PROBLEMS, STAGE, Coin, Elsewhere, Words


def step(model: Any, sampler: Any, judge: Any, **settings: Any) -> tuple[streaming.StepResult, Capture]:
    capture = Capture(model)
    done = streaming.ask_and_learn(
        Policy(model, Words(), "plain"),
        sampler,
        judge,
        PROBLEMS,
        How(samples=4, budget=12, temperature=0.8, label=(1, "s", 1)),
        [capture],  # type: ignore[list-item]
        STAGE,
        Rl(micro_tokens=32, clip_gradient=1e9, **settings),
    )
    return done, capture


@pytest.mark.parametrize("normalisation", ["global", "group"])
def test_learning_meanwhile_gives_the_gradient_of_the_plain_order(qwen3: Any, normalisation: Any) -> None:
    plain, whole = step(qwen3, Elsewhere(), Coin(), overlap=False, normalisation=normalisation)
    streamed, parts = step(qwen3, Elsewhere(), Coin(), normalisation=normalisation)
    assert whole.gradient is not None and parts.gradient is not None
    assert (whole.gradient - parts.gradient).norm() <= 1e-6 * whole.gradient.norm()
    assert torch.equal(plain.weights, streamed.weights) and plain.weights.abs().sum() > 0
    assert torch.equal(plain.advantages, streamed.advantages)
    assert plain.learned.loss == pytest.approx(streamed.learned.loss, rel=1e-5, abs=1e-6)  # of terms near 1
    for mine, theirs in zip(plain.batch.groups, streamed.batch.groups, strict=True):
        assert [a.sample for a in mine] == [a.sample for a in theirs] == [0, 1, 2, 3]
        for a, b in zip(mine, theirs, strict=True):
            assert a.problem.id == b.problem.id and np.array_equal(a.completion.tokens, b.completion.tokens)
    assert plain.overlap == 0.0


MORE = [Problem(f"m{i}", "math", "?") for i in range(80)]


class Hard(Coin):
    """Some prompts are always failed, by hash: their groups have no gradient."""

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        if draw_seed("hard", problem.id) % 3 and problem.id != "0":
            future: Future[Verdict] = Future()
            future.set_result(Verdict("wrong", 0))
            return future
        return super().submit(problem, response)


def refilled(model: Any, sampler: Any, rounds: int, overlap: bool) -> tuple[streaming.StepResult, Capture]:
    """A step whose dropped groups are replaced, in rounds or while the others are being answered."""
    capture, left = Capture(model), list(MORE)

    def more(count: int, asked: Any) -> list[Problem]:
        return [left.pop(0) for _ in range(min(count, len(left)))]

    done = streaming.ask_and_learn(
        Policy(model, Words(), "plain"), sampler, Hard(), PROBLEMS,
        How(samples=4, budget=12, temperature=0.8, label=(1, "s", 1)), [capture],  # type: ignore[list-item]
        msgspec.structs.replace(STAGE, filter=Filter(refill=rounds)),
        Rl(micro_tokens=32, clip_gradient=1e9, overlap=overlap), more=more,
    )  # fmt: skip
    return done, capture


def test_refilling_while_others_answer_asks_what_rounds_would_ask(qwen3: Any) -> None:
    rounds, whole = refilled(qwen3, Elsewhere(), 40, overlap=False)
    streamed, parts = refilled(qwen3, Elsewhere(), 40, overlap=True)
    asked = [{g[0].problem.id for g in done.batch.groups} for done in (rounds, streamed)]
    assert asked[0] == asked[1] and len(asked[0]) == len(rounds.batch.groups) > len(PROBLEMS)
    for done in (rounds, streamed):
        assert int((done.weights != 0).any(1).sum()) == len(PROBLEMS)  # as many as the step wanted
    assert whole.gradient is not None and parts.gradient is not None
    assert (whole.gradient - parts.gradient).norm() <= 1e-5 * whole.gradient.norm()


def test_a_refill_is_bounded(qwen3: Any) -> None:
    streamed, _ = refilled(qwen3, Elsewhere(), 1, overlap=True)
    assert len(PROBLEMS) < len(streamed.batch.groups) <= 2 * len(PROBLEMS)
    assert len(refilled(qwen3, Elsewhere(), 0, overlap=True)[0].batch.groups) == len(PROBLEMS)


def test_nobody_waits_for_the_slowest_to_be_refilled(qwen3: Any) -> None:
    """The first batch's last response comes only when a further prompt has been answered."""
    further = threading.Event()

    class Slow(Elsewhere):
        def sample(self, requests: Any) -> Any:
            wanted = list(requests)
            first = len(wanted) == 4 * len(PROBLEMS)
            for number, found in enumerate(super().sample(wanted)):
                if first and number == len(wanted) - 1:
                    assert further.wait(60), "the refill waited for the slowest response"
                yield found
            if not first:
                further.set()

    refilled(qwen3, Slow(), 40, overlap=True)
    assert further.is_set()


def test_it_learns_before_the_last_response_is_sampled(qwen3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = threading.Event()
    add = update.Update.add

    def noted(self: Any, groups: Any, *weights: Any) -> None:
        add(self, groups, *weights)
        if groups:
            learned.set()

    def between(number: int) -> None:
        if number == 23:
            assert learned.wait(60), "nothing was learned while a response was missing"

    monkeypatch.setattr(update.Update, "add", noted)
    done, _ = step(qwen3, Elsewhere(between), Coin())
    assert done.overlap > 0


def test_responses_are_judged_before_the_last_is_sampled(qwen3: Any) -> None:
    judged = threading.Event()

    class Noted(Coin):
        def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
            judged.set()
            return super().submit(problem, response)

    def between(number: int) -> None:
        assert number == 0 or judged.wait(60)

    step(qwen3, Elsewhere(between), Noted(), overlap=False)
    step(qwen3, Elsewhere(between), Noted())


def test_the_embedded_sampler_is_asked_first(qwen3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Elsewhere, "remote", False)
    monkeypatch.setattr(streaming, "Asking", None)
    done, _ = step(qwen3, Elsewhere(), Coin())
    assert done.overlap == 0.0


def test_what_fails_in_the_background_is_raised(qwen3: Any) -> None:
    def fail(number: int) -> None:
        if number == 20:
            raise SamplingError("the server is gone")

    with pytest.raises(SamplingError, match="the server is gone"):
        step(qwen3, Elsewhere(fail), Coin())
    with pytest.raises(SamplingError, match="4 responses missing"):
        step(qwen3, Elsewhere(most=20), Coin())

    class Broken(Coin):
        def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
            future: Future[Verdict] = Future()
            future.set_exception(RuntimeError("no sandbox"))
            return future

    with pytest.raises(RuntimeError, match="no sandbox"):
        step(qwen3, Elsewhere(), Broken())


def test_groups_are_handed_out_once_and_whole(qwen3: Any) -> None:
    policy = Policy(qwen3, Words(), "plain")
    how = How(samples=4, budget=12, temperature=1.0, label=("x",))
    asking = Asking(policy, Elsewhere(), Coin(), PROBLEMS, how)
    seen: list[str] = []
    while groups := asking.take(20):
        assert all(len(g) == 4 for g in groups)
        seen += [g[0].problem.id for g in groups]
    assert asking.over and sorted(seen) == sorted(p.id for p in PROBLEMS)
    assert asking.take(20) == []
