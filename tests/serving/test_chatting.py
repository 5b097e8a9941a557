"""A conversation with a model: what was said goes with the next question, without its thinking, until it is
forgotten; the first question is asked as trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from acereason.chatting import Manner, Session
from acereason.errors import ConfigError
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.prompts import END_THINK
from acereason.sample.engines.embedded import EmbeddedSampler, Pace, Watch
from acereason.sample.protocol import Completion, Request
from acereason.verify import Judge
from fake_vllm import tiny_policy

FIRST, SECOND = Problem("a", "math", "What is 3 plus 4?", answer="7"), Problem("b", "math", "And twice it?")


class Scripted(EmbeddedSampler):
    """The sampler, with a response of ours in the place of a tiny model's noise."""

    asked: list[Request]
    said = f"three and four{END_THINK}It is \\boxed{{7}}."

    def sample(
        self, requests: Iterable[Request], watch: Watch | None = None, pace: Pace | None = None
    ) -> Iterator[Completion]:
        self.asked = list(requests)
        tokens = [*POLICY.tokenizer.encode(self.said, add_special_tokens=False), POLICY.end_id]
        for done in super().sample(self.asked, watch, pace):
            yield replace(done, tokens=np.array(tokens, np.int32), finish="stop")


POLICY: Policy = tiny_policy()


@pytest.fixture
def session() -> Iterator[Session]:
    sampler = Scripted(POLICY.model, slots=1, threads=1, eos_ids=POLICY.end_ids)
    with Judge(1) as judge:
        yield Session(POLICY, sampler, judge, Manner(budget=6, seed=1))


def ask(session: Session, problem: Problem) -> str:
    "".join(session.ask(problem))
    assert isinstance(session.sampler, Scripted)
    (request,) = session.sampler.asked
    return str(POLICY.tokenizer.decode(list(request.prompt)))


def test_what_was_said_goes_with_the_next_question(session: Session) -> None:
    assert ask(session, FIRST) == POLICY.prompter.text(FIRST)
    verdict = session.verdict(FIRST)
    assert verdict is not None and verdict.outcome == "correct"
    followed = ask(session, SECOND)
    assert session.verdict(SECOND) is None, "there is no reference"
    places = [followed.index(text) for text in ("What is 3 plus 4?", "It is \\boxed{7}.", "And twice it?")]
    assert places == sorted(places) and "three and four" not in followed
    session.reset()
    assert ask(session, FIRST) == POLICY.prompter.text(FIRST)


def test_a_question_alone_and_an_answer_that_never_came(session: Session) -> None:
    session.manner.alone = True
    ask(session, FIRST)
    assert ask(session, FIRST) == POLICY.prompter.text(FIRST)
    session.manner.alone = False
    Scripted.said, before = "still thinking", Scripted.said
    try:
        ask(session, FIRST)
    finally:
        Scripted.said = before
    assert session.turns == [], "a response that was cut in its thinking is no answer"


def test_a_conversation_that_fills_the_context_is_refused_with_the_way_out(session: Session) -> None:
    with pytest.raises(ConfigError, match="/reset forgets"):
        for _ in range(20):
            ask(session, FIRST)
