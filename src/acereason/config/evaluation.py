"""What is measured: held-out questions, the dev split, and the health of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from acereason.config.struct import Positive, Rate, Share, Struct

HealthRule = Literal[
    "no_gradient",
    "truncated",
    "entropy_cold",
    "entropy_hot",
    "mismatch",
    "unjudged",
    "gradient",
    "held_out",
    "shorter",
    "same_answers",
    "slower",
    "sft_flat",
    "pass_at_k",
]


class Dev(Struct, frozen=True):
    """The dev split of evaluations inside a stage: `prompts` of each domain's RL prompts, drawn by hash and
    then never trained on, each asked `k` times as in the evaluation; `budget` is the evaluation's, unless
    given. The questions that are reported have no part in it."""

    prompts: Positive = 64
    k: Positive = 2
    budget: Positive | None = None


class Evaluation(Struct, frozen=True):
    """Held-out evaluation after each stage: avg@k and pass@k (recipe §4). `start` says whether a run without
    SFT evaluates the model it starts from; `dev` is for looking inside a stage."""

    start: bool = True
    k: Positive = 8
    temperature: Rate = 0.6
    top_p: Annotated[float, Meta(gt=0, le=1)] = 0.95
    budget: Positive = 32768
    dev: Dev = Dev()


class Health(Struct, frozen=True):
    """When a run is called unwell (`health/`): thresholds over means of the last `window` steps, and the
    rules whose alarm ends it, e.g. `stop = ["no_gradient", "mismatch"]`."""

    window: Annotated[int, Meta(ge=2)] = 5
    idle_groups: Share = 0.7  # groups without a gradient
    truncated: Share = 0.5
    entropy_band: Rate = 0.25  # of the target, to either side; at least 0.02 nats
    entropy_low: Share = 0.3  # without a target: of H_T at the stage's start
    entropy_high: Rate = 2.0
    mismatch: Rate = 1e-3  # k3 between sampler and trainer, nats a token
    unjudged: Share = 0.01
    gradient: Rate = 10.0  # times the stage's median norm
    reward_rise: Share = 0.1  # from where on a flat held-out accuracy is suspicious
    shrink: Share = 0.5  # of the length at the stage's start
    same_answers: Share = 0.6
    slow: Share = 0.5  # of the stage's median tokens a second
    sft_gain: Share = 0.95  # of the first third's loss, to be undercut by the last third's
    short: Share = 0.2  # of the usual length, below which a right answer is suspicious
    copied: Share = 0.9  # of a right answer's words that stand in its prompt
    spike: Share = 0.15  # of the problems that one final answer is right for
    new_way: Share = 0.1  # of a family's right answers, for a way of answering that was not there
    stop: tuple[HealthRule, ...] = ()
