"""One stage of RL: its temperature, its prompts, its end."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from acereason.config.struct import Count, Positive, Rate, Share, Struct
from acereason.prompts import END_THINK


class Temperature(Struct, frozen=True):
    """How a stage gets its sampling temperature (recipe §3; the rules are classes of `sample.rules`).

    fixed      `value`
    epochs     `values`, one for each epoch of the stage's prompts; the last one holds
    calibrate  at the stage's start sample its prompts at `candidates`, take the T whose H_T is `target`
    track      calibrate, then hold H_T at the target while training: T moves by `gain` times the correction,
               at most by `max_factor` a step
    annealed   as track, while the target goes evenly to `target_end`
    anchored   as track, from `value` on; the target is `share` of H₀, the first batch's H_T
    e3         the formula of E3-RL4LLMs, from `value` on: towards H₀, and 0.9 of it after 60 % of the steps
    coefficient  T is `value`; an entropy bonus in the loss, whose coefficient goes up by `coefficient_step` a
               step below the target and down above it, to at most `coefficient_max` (Skywork-OR1). With a
               `share` the target is that of H₀ (AER)
    diversity  `value` in the first stage that has this rule; in later ones the T at which responses are as
               diverse as they were then, searched for from the `candidates` on (POLARIS). Stages of the same
               domains are matched; one of another set of domains is a first one again, and that is said
    """

    rule: Literal[
        "fixed",
        "epochs",
        "calibrate",
        "track",
        "anchored",
        "annealed",
        "e3",
        "coefficient",
        "diversity",
    ] = "fixed"
    value: Rate = 1.0
    values: tuple[Rate, ...] = ()
    target: Rate = 0.3
    target_end: Rate | None = None
    share: Rate | None = None
    coefficient_step: Rate = 1e-4
    coefficient_max: Rate = 5e-3
    candidates: Annotated[tuple[Rate, ...], Meta(min_length=2)] = (0.6, 0.8, 1.0, 1.2)
    prompts: Positive = 128
    gain: Annotated[float, Meta(gt=0, le=1)] = 0.3
    max_factor: Annotated[float, Meta(gt=1)] = 1.1

    def __post_init__(self) -> None:
        if bool(self.values) != (self.rule == "epochs"):
            raise ValueError('temperature.values belong to rule = "epochs", which needs at least one')
        if (self.target_end is not None) != (self.rule == "annealed"):
            raise ValueError('temperature.target_end belongs to rule = "annealed", which needs it')
        if self.rule == "anchored" and self.share is None:
            raise ValueError(
                'temperature rule = "anchored" needs a share of the first entropy, e.g. share = 1.0'
            )
        if self.share is not None and self.rule not in ("anchored", "coefficient"):
            raise ValueError(f'temperature.share belongs to "anchored" and "coefficient", not {self.rule!r}')


class Thinking(Struct, frozen=True):
    """Thinking that has not ended after `budget` tokens is ended: `end` is put in, and the answer may take
    what is left of the stage's budget. What was put in carries no gradient."""

    budget: Positive
    end: str = "\n</think>\n\n"

    def __post_init__(self) -> None:
        if END_THINK not in self.end:
            raise ValueError(f"thinking.end must hold {END_THINK}, which ends it; found {self.end!r}")


class Readmit(Struct, frozen=True):
    """Shares of the dropped prompts that an epoch asks all the same: of those that no rollout solved
    (`hard`), and of those that all did (`easy`)."""

    hard: Share = 0.0
    easy: Share = 0.0


class Filter(Struct, frozen=True):
    """Which prompts a stage trains on. `low ≤ pass rate ≤ high`, measured at the stage's start with
    `samples` responses to each of at most `candidates` prompts; `samples = 0` measures nothing.
    From the second epoch on, `drop_solved` drops what every rollout solved in the last one; `drop` = "both"
    also what none did, but for the shares that `readmit` lets in again each epoch, and all of them every
    `refresh_every` epochs. What was once at `retire_above` or more never returns. `refill`: the most rounds
    of further prompts that a step asks until as many as it wants have a gradient."""

    samples: Count = 0
    candidates: Positive = 1024
    low: Share = 0.0
    high: Share = 1.0
    levels: tuple[int, int] | None = None
    drop_solved: bool = False
    drop: Literal["none", "solved", "both"] = "none"
    readmit: Readmit = Readmit()
    refresh_every: Count = 0
    retire_above: Share | None = None
    refill: Count = 0

    def __post_init__(self) -> None:
        if self.drop_solved and self.drop != "none":
            raise ValueError('filter.drop_solved is filter.drop = "solved"; give one of them')
        if not self.dropping and (self.refresh_every or self.readmit != Readmit()):
            raise ValueError("filter.readmit and filter.refresh_every need filter.drop: nothing is dropped")
        if self.readmit.hard and self.dropping == "solved":
            raise ValueError('filter.readmit.hard needs filter.drop = "both": unsolved prompts stay anyway')
        for name, bounds in (("low/high", (self.low, self.high)), ("levels", self.levels or (0, 0))):
            if bounds[0] > bounds[1]:
                raise ValueError(f"filter.{name} = {bounds} keeps no prompt: the first is above the second")
        if self.retire_above == 0:
            raise ValueError("filter.retire_above = 0 would retire every prompt; give a pass rate, e.g. 0.9")

    @property
    def dropping(self) -> str:
        """What an epoch leaves out of what the last one asked: "solved", "both" or nothing."""
        return "solved" if self.drop_solved else self.drop.replace("none", "")


class Stop(Struct, frozen=True):
    """When a stage ends before its steps: the truncated share falls below a value, the mean reward of the
    last `patience` steps is no better than that of the `patience` before, so many `tokens` are sampled, or
    the last `dev_patience` evaluations on the dev split (`evaluate_every`) were no better than the best."""

    truncated_below: Share | None = None
    patience: Positive | None = None
    tokens: Positive | None = None
    dev_patience: Positive | None = None


Group = Annotated[int, Meta(ge=2)]


class Stage(Struct, frozen=True):
    """One stage of RL. A stage is data; all stages are one run with one step counter.

    `group` is a number, or one for each epoch of the prompts, the last of which holds. The learning rate
    rises over `warmup` steps. Every `evaluate_every` steps (0: never) the policy is asked the dev split (see
    `Dev`); with `keep = "best"` the stage ends with the weights that did best there.

    `kind = "distill"` learns from a `teacher` in the place of the judge, on what the policy itself samples:
    each token is pulled by log π_teacher - log π. The teacher is an earlier stage by its name ("sft": the
    first), or another model with the same tokens by its folder, hub id, or server's URL. Truncated responses
    teach as well as others; `overlong = "mask"` leaves them out. Rewards are still judged, and only told."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")]
    domain: str | Annotated[tuple[str, ...], Meta(min_length=1)]
    budget: Positive
    steps: Positive
    kind: Literal["reinforce", "distill"] = "reinforce"
    teacher: str | None = None
    weights: tuple[Rate, ...] = ()  # of several domains, in their order; none: all alike
    replay: Annotated[float, Meta(ge=0, lt=1)] = 0.0  # part of each batch that earlier stages' domains have
    group: Group | Annotated[tuple[Group, ...], Meta(min_length=1)] = 8
    prompts: Positive = 128
    learning_rate: Rate = 1e-6
    warmup: Count = 0  # steps over which the learning rate rises (the paper says nothing of one)
    temperature: Temperature = Temperature()
    temperatures: dict[str, Temperature] = field(default_factory=dict)  # by domain, in the place of one
    overlong: Literal["mask", "zero", "soft"] = "mask"
    thinking: Thinking | None = None
    overlong_buffer: Count = 0  # tokens before the budget in which "soft" takes more and more of the reward
    filter: Filter = Filter()
    stop: Stop = Stop()
    evaluate_every: Count = 0
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        if not self.evaluate_every and (self.keep == "best" or self.stop.dev_patience is not None):
            raise ValueError(f"stage {self.name}: keep = 'best' and stop.dev_patience need evaluate_every")
        if (self.overlong == "soft") != (self.overlong_buffer > 0) or self.overlong_buffer > self.budget:
            raise ValueError(
                f"stage {self.name}: overlong = 'soft' and an overlong_buffer of 1 to {self.budget} tokens "
                "(the budget) belong together"
            )
        self._check_kind()
        if self.temperatures and self.temperature != Temperature():
            raise ValueError(
                f"stage {self.name}: temperature is one rule for all prompts, and temperatures one for each "
                "domain; give one of them"
            )
        if self.thinking is not None and self.thinking.budget >= self.budget:
            raise ValueError(
                f"stage {self.name}: thinking.budget ({self.thinking.budget}) leaves nothing of the stage's "
                f"budget ({self.budget}) for an answer"
            )
        if len(set(self.domains)) < len(self.domains):
            raise ValueError(
                f"stage {self.name}: a domain stands twice in {list(self.domains)}; give weights"
            )
        if self.weights and (len(self.domains) == 1 or len(self.weights) != len(self.domains)):
            raise ValueError(
                f"stage {self.name}: weights are one for each of several domains; found "
                f"{list(self.weights)} for {list(self.domains)}"
            )

    def _check_kind(self) -> None:
        if (self.kind == "distill") != (self.teacher is not None):
            raise ValueError(f"stage {self.name}: kind = 'distill' and a teacher belong together")
        if self.kind == "distill" and self.overlong == "soft":
            raise ValueError(
                f"stage {self.name}: overlong = 'soft' changes rewards, and a distillation looks at none; "
                "take 'mask' or 'zero'"
            )
        if self.kind == "distill" and self.filter.refill:
            raise ValueError(
                f"stage {self.name}: filter.refill asks on until rewards differ, and a distillation learns "
                "from every group; leave it out"
            )

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of its own prompts, those of `replay` not among them."""
        return (self.domain,) if isinstance(self.domain, str) else self.domain

    @property
    def rules(self) -> tuple[Temperature, ...]:
        """The temperature rules of its prompts: one for all, or each domain's."""
        return tuple(self.temperatures.values()) or (self.temperature,)

    @property
    def groups(self) -> tuple[int, ...]:
        """The group size of each epoch; the last one holds."""
        return (self.group,) if isinstance(self.group, int) else self.group

    def group_in(self, epoch: int) -> int:
        """Responses to each prompt in an epoch (from 0)."""
        return self.groups[min(epoch, len(self.groups) - 1)]
