"""Rules over the last steps of a stage: what each says is true of their mean, not of one step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from acereason.config import Health
from acereason.health.rows import Finding, Row, StageRows, mean, number, since

Rule = Callable[[StageRows, Health], Finding | None]


def no_gradient(stage: StageRows, limits: Health) -> Finding | None:
    """Groups whose answers are all right or all wrong teach nothing."""

    def idle(rows: Sequence[Row]) -> float:
        return (mean(rows, "all_right") or 0.0) + (mean(rows, "all_wrong") or 0.0)

    begun = since(stage.steps, lambda rows: idle(rows) >= limits.idle_groups, limits.window)
    if begun is None:
        return None
    last = stage.steps[-limits.window :]
    wrong, right = mean(last, "all_wrong") or 0.0, mean(last, "all_right") or 0.0
    hard = wrong >= right
    return Finding(
        "no_gradient",
        "alarm" if idle(last) >= (1 + limits.idle_groups) / 2 else "warning",
        stage.name,
        begun,
        f"{idle(last):.0%} of the groups have no gradient: {wrong:.0%} all wrong, {right:.0%} all right.",
        "A group of equal rewards has advantage 0, so these tokens are sampled for nothing.",
        "Take easier prompts (filter.low, levels), a larger group or a longer budget."
        if hard
        else "Take harder prompts (filter.high, drop_solved), or end the stage.",
        "learning_groups",
    )


def truncated(stage: StageRows, limits: Health) -> Finding | None:
    """Responses cut at the budget."""

    def cut(rows: Sequence[Row]) -> float:
        return mean(rows, "truncated") or 0.0

    begun = since(stage.steps, lambda rows: cut(rows) >= limits.truncated, limits.window)
    if begun is None:
        return None
    share, before = cut(stage.steps[-limits.window :]), stage.steps[-2 * limits.window : -limits.window]
    if share < _alarming(limits) and (len(before) < limits.window or cut(before) < limits.truncated):
        return None  # a few steps are cut more often than others, most of all the first; what lasts is told
    return Finding(
        "truncated",
        "alarm" if share >= _alarming(limits) else "warning",
        stage.name,
        begun,
        f"{share:.0%} of the responses are cut at the budget of {stage.steps[-1].get('budget')} tokens.",
        "A cut response has no answer: it is masked, or scored 0 as if it were wrong.",
        "Raise the stage's budget, take shorter prompts, or check that responses end (the end token).",
        "truncated",
    )


def _alarming(limits: Health) -> float:
    """From which truncated share on nearly nothing is learned."""
    return (1 + limits.truncated) / 2


def entropy(stage: StageRows, limits: Health) -> Finding | None:
    """H_T outside its band around the target, or, without a target, far from where the stage began."""
    start = mean(stage.steps[: limits.window], "H_T")
    target = number(stage.steps[-1], "H_target")
    centre = target if target is not None else start
    if centre is None:
        return None
    low, high = (
        (centre - max(limits.entropy_band * centre, 0.02), centre + max(limits.entropy_band * centre, 0.02))
        if target is not None
        else (limits.entropy_low * centre, max(limits.entropy_high * centre, 0.05))
    )
    cold = since(stage.steps, lambda rows: (mean(rows, "H_T") or 0.0) + _unsure(rows) < low, limits.window)
    hot = since(stage.steps, lambda rows: (mean(rows, "H_T") or 0.0) - _unsure(rows) > high, limits.window)
    if cold is None and hot is None:
        return None
    H, T = mean(stage.steps[-limits.window :], "H_T") or 0.0, number(stage.steps[-1], "T") or 0.0
    where = f"its target of {centre:.2f}" if target is not None else f"{centre:.2f} at the stage's start"
    far = low / 2 > H or 2 * high < H
    return Finding(
        "entropy_cold" if cold is not None else "entropy_hot",
        "alarm" if far else "warning",
        stage.name,
        int(cold if cold is not None else hot or 0),
        f"H_T is {H:.3f} at T {T:.2f}, {'below' if cold is not None else 'above'} {where}.",
        "Too low: all answers to a prompt become the same and nothing is learned."
        if cold is not None
        else "Too high: answers fall apart, and what is rewarded is luck.",
        _lever(cold is not None, target is not None),
        "H_T",
    )


def _unsure(rows: Sequence[Row]) -> float:
    """Half the 95 % interval of the mean H_T over steps, from what the prompts of each step vary."""
    errors = [number(row, "H_T_se") or 0.0 for row in rows]
    return 1.96 * math.hypot(*errors) / max(len(errors), 1)


def _lever(cold: bool, followed: bool) -> str:
    if followed:
        return 'Hold it with temperature.rule = "track", or check the tracker\'s bounds and gain.'
    direction = "Raise" if cold else "Lower"
    return f'{direction} temperature.value, or let the rule "track" hold a target; lower the learning rate.'


def mismatch(stage: StageRows, limits: Health) -> Finding | None:
    """Sampler and trainer disagree about the log-probabilities of sampled tokens."""
    path = "logprob_difference.k3"
    begun = since(stage.steps, lambda rows: (mean(rows, path) or 0.0) >= limits.mismatch, limits.window)
    if begun is None:
        return None
    k3 = mean(stage.steps[-limits.window :], path) or 0.0
    return Finding(
        "mismatch",
        "alarm" if k3 >= 10 * limits.mismatch else "warning",
        stage.name,
        begun,
        f"Sampler and trainer differ by {k3:.2g} nats a token (k3).",
        "The gradient is of another policy than the one that was sampled; runs collapse of it.",
        "Check that the sampler has the present weights, the same precision and processed log-probabilities; "
        "rl.importance_cap weighs what is left (docs/mismatch.md).",
        "logprob_difference.k3",
    )


def unjudged(stage: StageRows, limits: Health) -> Finding | None:
    """Responses that could not be judged."""

    def share(rows: Sequence[Row]) -> float:
        counts: list[dict[str, int]] = [row.get("outcomes") or {} for row in rows]
        return sum(c.get("unjudged", 0) for c in counts) / max(sum(sum(c.values()) for c in counts), 1)

    begun = since(stage.steps, lambda rows: share(rows) >= limits.unjudged, limits.window)
    if begun is None:
        return None
    now = share(stage.steps[-limits.window :])
    return Finding(
        "unjudged",
        "alarm" if now >= 10 * limits.unjudged else "warning",
        stage.name,
        begun,
        f"{now:.1%} of the responses could not be judged.",
        "They are neither right nor wrong and are not learned from; it is a fault of the machine.",
        "Read the `detail` of such responses: it names the fault. Fewer judges and more memory help most.",
        "outcomes",
    )


def gradient(stage: StageRows, limits: Health) -> Finding | None:
    """The gradient's norm far above what it was, or not finite."""
    last, norms = stage.steps[-limits.window :], [number(r, "gradient_norm") for r in stage.steps]
    known = sorted(n for n in norms if n is not None)
    if len(stage.steps) < 2 * limits.window or not known:
        return None
    median, recent = known[len(known) // 2], mean(last, "gradient_norm") or 0.0
    broken = sum(number(r, "gradient_norm") is None and bool(r.get("learned_tokens")) for r in last)
    if recent < limits.gradient * median and not broken:
        return None
    begun = since(stage.steps, lambda rows: (mean(rows, "gradient_norm") or 0.0) >= 2 * median, limits.window)
    said = f"{recent:.2g}, {recent / max(median, 1e-12):.0f} times the stage's median"
    return Finding(
        "gradient",
        "alarm" if broken else "warning",
        stage.name,
        begun if begun is not None else int(number(last[0], "step") or 0),
        f"{broken} of the last {len(last)} gradients are not finite." if broken else f"The norm is {said}.",
        "Steps are clipped or lost, and soon the policy is.",
        "Lower the learning rate or rl.clip_gradient, and look at the answers of these steps.",
        "gradient_norm",
    )


STEPS: tuple[Rule, ...] = (no_gradient, truncated, entropy, mismatch, unjudged, gradient)
