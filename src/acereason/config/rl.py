"""RL: what all stages share (recipe §2)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from acereason.config.struct import MICRO, Micro, Positive, Rate, Share, Struct


class Kl(Struct, frozen=True):
    """KL to a `reference` in the loss, times `coefficient` (0: none, as in the recipe); `form`:
    `train.ratios.kl_loss`. The reference is the model that the stage starts from ("start"), or one by its
    folder, hub id, or server's URL."""

    coefficient: Annotated[float, Meta(ge=0)] = 0.0
    form: Literal["k1", "k2", "k3"] = "k3"
    reference: str = "start"

    def __post_init__(self) -> None:
        if not self.coefficient and self.reference != "start":
            raise ValueError(
                "rl.kl.reference needs an rl.kl.coefficient above 0, e.g. 1e-3; at 0 nothing is asked"
            )


class Rl(Struct, frozen=True):
    """What all stages share. `masked_in_statistics`: a response masked by the overlong rule still counts in
    its group's mean and standard deviation (unpublished; ours). `unjudged`: a response that could not be
    judged is left out alone ("response"), or its whole group is ("group"). Weight decay spares norms and
    biases. `updates` > 1 is off-policy, with clipping, and exists to show why not. `false_positives` of the
    responses that the judge calls wrong are rewarded, and `false_negatives` of those it calls right are not,
    to show what a bad judge does; ½ and ½ are random rewards.

    `advantage`, `normalisation`, `idle_groups`: `train.objective`; `ratio`, `sequence_mask`: `train.ratios`;
    `length_penalty`: `train.rewards`."""

    advantage: Literal["std", "mean", "batch", "max_rl", "loo"] = "std"
    normalisation: Literal["global", "group", "constant"] = "global"
    idle_groups: Literal["count", "drop"] = "count"  # those without a gradient, in the denominator
    reward: Literal["outcome", "tests"] = "outcome"  # of programs: all tests or nothing, or their share
    length_penalty: Annotated[float, Meta(ge=0)] = 0.0
    masked_in_statistics: bool = True
    unjudged: Literal["response", "group"] = "response"
    updates: Positive = 1
    ratio: Literal["clip", "cispo", "gspo"] = "clip"
    clip: tuple[Rate, Rate] = (0.2, 0.2)
    kl: Kl = Kl()
    sequence_mask: Literal["none", "geometric", "icepop"] = "none"
    mask_bounds: tuple[Rate, Rate] = (0.5, 2.0)
    betas: tuple[float, float] = (0.9, 0.95)
    moments: Literal["float32", "8bit"] = "float32"  # of AdamW, for matrices
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    clip_gradient: Rate = 1.0
    micro_tokens: Micro = MICRO
    judges: Positive = 2
    overlap: bool = True  # accumulate the gradient of finished groups while the rest is being sampled
    importance_cap: Rate | None = None  # truncated importance weights, where sampler and trainer differ
    max_k3: Rate | None = None  # most KL(sampler, trainer), nats a token, by k3; else `prepare.guarded` says
    max_bad_steps: Positive = 5  # steps in a row without a finite gradient that end the run
    false_positives: Share = 0.0
    false_negatives: Share = 0.0

    @property
    def micro(self) -> int:
        """Tokens of a micro-batch; the default where they are measured and have not been yet."""
        return MICRO if self.micro_tokens == "measured" else self.micro_tokens

    def __post_init__(self) -> None:
        if self.importance_cap is not None and self.updates > 1:
            raise ValueError("rl.importance_cap belongs to strict on-policy learning; leave rl.updates at 1")
        if self.ratio != "clip" and self.updates == 1:
            raise ValueError(
                f"rl.ratio = {self.ratio!r} needs rl.updates of 2 or more: with one update a batch every "
                "ratio is 1. For what sampler and trainer differ by there is rl.importance_cap, then CISPO"
            )
        if self.sequence_mask == "icepop" and (self.updates > 1 or self.importance_cap is not None):
            raise ValueError(
                "rl.sequence_mask = 'icepop' weighs each token by its ratio already; leave rl.updates at 1 "
                "and rl.importance_cap out, or take 'geometric'"
            )
        if not self.mask_bounds[0] < 1 < self.mask_bounds[1]:
            raise ValueError(
                f"rl.mask_bounds must enclose 1, the ratio of equal policies, not {self.mask_bounds}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"rl.betas are rates of decay, at least 0 and below 1; found {self.betas}")
        if self.reward == "tests" and self.length_penalty:
            raise ValueError(
                "rl.length_penalty tells right from wrong responses, and rl.reward = 'tests' gives shares "
                "between them; use one of the two"
            )
        if self.advantage == "max_rl" and self.length_penalty:
            raise ValueError(
                "rl.advantage = 'max_rl' divides by the mean reward, which rl.length_penalty can make 0 or "
                "negative; use one of them"
            )
