"""What fits into the model's context: prompts with a stage's budget, held-out ones with the evaluation's.

A problem whose prompt leaves no room for a stage's budget is kept out of that stage and counted; one that
fits no stage is set aside. A held-out problem that does not fit is an error: without it the score is another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from acereason.config import Recipe, Stage
from acereason.curate.funnel import NOTE, Funnel
from acereason.errors import DataError
from acereason.problems import Problem

Length = Callable[[Problem], int]  # tokens of a problem's prompt
OVERHEAD = 512  # bytes of a prompt beside its question and starter code: no format has more


def stages_of(problem: Problem, recipe: Recipe) -> list[Stage]:
    """The stages that may ask a problem, those that replay its domain among them."""
    named = problem.meta.get("stages")
    return [
        stage
        for stage in recipe.stage
        if problem.domain in recipe.shares_of(stage) and (named is None or stage.name in named)
    ]


def with_replay(problem: Problem, recipe: Recipe) -> Problem:
    """The problem with the stages that replay it named where it names its stages: it was one of another's."""
    named = problem.meta.get("stages")
    again = [s for s in recipe.stage if problem.domain in recipe.replayed(s)] if named is not None else []
    names = [s.name for s in recipe.stage]
    more = [s.name for s in again if set(names[: names.index(s.name)]) & set(named or ())]
    if not more:
        return problem
    return msgspec.structs.replace(problem, meta={**problem.meta, "stages": [*(named or ()), *more]})


def fitting(
    problems: Sequence[Problem], recipe: Recipe, context: int, length: Length
) -> tuple[list[Problem], list[Funnel]]:
    """The problems that some stage can ask, with the stages they fit in `meta` where they do not fit all."""
    kept: list[Problem] = []
    left_out: Counter[str] = Counter()
    shortest: dict[str, int] = {}  # of what a stage cannot ask
    for problem in (with_replay(p, recipe) for p in problems):
        stages = stages_of(problem, recipe)
        budget = max((s.budget for s in stages), default=0)
        if at_most(problem) + budget <= context:
            kept.append(problem)
            continue
        tokens = length(problem)
        fit = [s.name for s in stages if tokens + s.budget <= context]
        if len(fit) < len(stages):
            left_out.update(f"{NOTE}too long for {s.name}" for s in stages if s.name not in fit)
            shortest |= {s.name: min(tokens, shortest.get(s.name, tokens)) for s in stages}
            problem = msgspec.structs.replace(problem, meta={**problem.meta, "stages": fit})
        if fit or not stages:
            kept.append(problem)
        else:
            left_out["too long for every stage"] += 1
    for stage in recipe.stage:
        if stage.name in shortest and not any(stage in stages_of(p, recipe) for p in kept):
            raise DataError(_no_room(stage, shortest[stage.name], context))
    line = Funnel("prompts in the context", len(problems), len(kept), dict(left_out))
    return kept, [line] if left_out else []


def _no_room(stage: Stage, tokens: int, context: int) -> str:
    room = context - tokens
    return (
        f"the shortest prompt of stage {stage.name!r} has {tokens:,} tokens and its budget is "
        f"{stage.budget:,}, together more than the model's context of {context:,}; "
        + (f"lower stage.{stage.name}.budget to at most {room:,}, or " if room > 0 else "")
        + "raise model.context"
    )


def check_held_out(problems: Sequence[Problem], budget: int, context: int, length: Length) -> None:
    """DataError for the held-out problem whose prompt leaves least room, when it is too little."""
    long = [(length(p), p.id) for p in problems if at_most(p) + budget > context]
    tokens, name = max(long, default=(0, ""))
    if tokens + budget > context:
        raise DataError(
            f"the prompt of the held-out problem {name!r} has {tokens:,} tokens and evaluation.budget is "
            f"{budget:,}, together more than the model's context of {context:,}; "
            + (f"set evaluation.budget to at most {context - tokens:,}, or " if tokens < context else "")
            + "raise model.context, or leave the problem out"
        )


def at_most(problem: Problem) -> int:
    """A bound for the tokens of a prompt that needs no tokenizer: no token is shorter than a byte."""
    return len(problem.question.encode()) + len((problem.starter_code or "").encode()) + OVERHEAD
