"""Rules over how a stage went: what rises while it should not, and what should rise and does not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

from acereason.config import Health
from acereason.health.rows import Finding, Row, StageRows, mean, number
from acereason.health.rules import gradient

Rule = Callable[[StageRows, Health], Finding | None]
Z = 1.96
SURE = 3.0  # errors, where the same is looked at many times over
SHORT = 40  # windows of SFT steps up to which a slow fall is still a fall


def _ends(stage: StageRows, limits: Health, path: str) -> tuple[float, float] | None:
    """The means of the first and of the last window, when the stage is long enough to compare them."""
    if len(stage.steps) < 2 * limits.window:
        return None
    first, last = mean(stage.steps[: limits.window], path), mean(stage.steps[-limits.window :], path)
    return None if first is None or last is None else (first, last)


def _since(stage: StageRows, limits: Health) -> int:
    return int(number(stage.steps[-limits.window], "step") or 0)


def held_out(stage: StageRows, limits: Health) -> Finding | None:
    """The training reward rises while the held-out accuracy does not."""
    reward = _ends(stage, limits, "reward")
    told = [(a, number(row, "se") or 0.0) for row in stage.dev if (a := number(row, "accuracy")) is not None]
    if reward is None or len(told) < 3 or reward[1] - reward[0] < limits.reward_rise:
        return None
    (begun, se_0), (now, se_1) = told[0], told[-1]
    rise = reward[1] - reward[0]
    if now - begun >= rise / 4 or rise - (now - begun) < SURE * math.hypot(se_0, se_1):
        return None  # it rises too, or so few questions cannot tell
    falls = now - begun < -Z * math.hypot(se_0, se_1)
    return Finding(
        "held_out",
        "alarm" if falls else "warning",
        stage.name,
        int(number(stage.dev[0], "step") or 0),
        f"The reward rose from {reward[0]:.2f} to {reward[1]:.2f}, held-out accuracy went from "
        f"{begun:.1%} to {now:.1%}.",
        "What is learned is how to be rewarded, not how to solve: a weak judge, or prompts known by heart.",
        "Read answers that were rewarded (right but very short, copied, or cut); judge them again strictly.",
        "reward",
    )


def shorter(stage: StageRows, limits: Health) -> Finding | None:
    """Answers shrink and the reward gains nothing by it."""
    length, reward = _ends(stage, limits, "length.mean"), _ends(stage, limits, "reward")
    if length is None or reward is None or length[1] > limits.shrink * length[0]:
        return None
    gained = reward[1] > reward[0]
    return Finding(
        "shorter",
        "notice" if gained else "warning",
        stage.name,
        _since(stage, limits),
        f"Answers became shorter, {length[0]:.0f} → {length[1]:.0f} tokens; the reward went "
        f"{reward[0]:.2f} → {reward[1]:.2f}.",
        "Early in a short stage this is the cut responses going; later it is reasoning that is given up.",
        "Compare early and late answers to one prompt; check the overlong rule and the budget.",
        "length.mean",
    )


def same_answers(stage: StageRows, limits: Health) -> Finding | None:
    """The answers to a prompt become one and the same."""
    same = _ends(stage, limits, "same_answer")
    if same is None or same[1] < limits.same_answers or same[1] < same[0] + 0.2:
        return None
    return Finding(
        "same_answers",
        "warning",
        stage.name,
        _since(stage, limits),
        f"In {same[1]:.0%} of the groups all answers are the same (at first {same[0]:.0%}).",
        "pass@k falls with the variety of answers, and groups lose their gradient.",
        "Raise the temperature, hold H_T at a target, or drop the prompts that are solved.",
        "same_answer",
    )


def slower(stage: StageRows, limits: Health) -> Finding | None:
    """Fewer tokens a second than the stage usually has."""
    if len(stage.steps) < 3 * limits.window:
        return None
    rates = [_rate(row) for row in stage.steps]
    known = sorted(r for r in rates if r)
    last = [r for r in rates[-limits.window :] if r]
    if not known or not last:
        return None
    median, now = known[len(known) // 2], sum(last) / len(last)
    if now >= limits.slow * median:
        return None
    return Finding(
        "slower",
        "notice",
        stage.name,
        _since(stage, limits),
        f"{now:,.0f} tokens a second, where the stage's median is {median:,.0f}.",
        "Longer answers cost more, but so do a busy machine, a full disk or a server that is gone.",
        "See which part of the step grew (sample, judge, learn, write), and what else runs here.",
        "seconds.total",
    )


def _rate(row: Row) -> float | None:
    tokens, seconds = number(row, "tokens"), number(row, "seconds.total")
    return tokens / seconds if tokens and seconds else None


def sft_flat(stage: StageRows, limits: Health) -> Finding | None:
    """The SFT loss does not fall, or rises. A short run whose loss falls by more than its noise is well: it
    has only not gone far yet. Warm-up is not looked at."""
    steps = _after_warmup(stage.steps)
    n = len(steps)
    if n < 6 * limits.window:
        return None
    thirds = [steps[i * n // 3 : (i + 1) * n // 3] for i in range(3)]
    first, middle, last = (math.inf if x is None else x for x in (mean(part, "loss") for part in thirds))
    if last < limits.sft_gain * first or last < middle * 0.99:
        return None
    noise = Z * math.hypot(_error(thirds[0]), _error(thirds[2]))
    short, falls = n < SHORT * limits.window, last < first - noise
    if short and falls:
        return None
    return Finding(
        "sft_flat",
        "alarm" if last > first + noise or not (short or falls) else "warning",
        stage.name,
        int(number(steps[n // 3], "step") or 0),
        f"The SFT loss stays at {last:.3f} nats a token (first third {first:.3f}).",
        "A model that learns nothing from its traces gives RL nothing to start from.",
        "Check the prompt format and the traces, then the learning rate.",
        "sft.loss",
    )


def _after_warmup(steps: Sequence[Row]) -> Sequence[Row]:
    """The steps from the highest learning rate on."""
    rates = [number(row, "lr") or 0.0 for row in steps]
    return steps[rates.index(max(rates)) :] if rates else steps


def _error(rows: Sequence[Row]) -> float:
    """The standard error of the mean loss."""
    losses = [x for row in rows if (x := number(row, "loss")) is not None]
    return statistics.stdev(losses) / math.sqrt(len(losses)) if len(losses) > 1 else 0.0


def pass_at_k(rows: Sequence[Row]) -> list[Finding]:
    """Between evaluations of one benchmark: avg@k rises and pass@k falls by more than its error."""
    narrower, told = [], [r for r in rows if r.get("kind") == "evaluation" and r.get("pass_at_k")]
    for name in dict.fromkeys(str(row.get("benchmark")) for row in told):
        for before, after in pairwise(r for r in told if str(r.get("benchmark")) == name):
            k = max(before["pass_at_k"], key=int)
            old, new = number(before, f"pass_at_k.{k}"), number(after, f"pass_at_k.{k}")
            if int(k) < 2 or old is None or new is None:
                continue
            n = max(number(before, "n") or 1.0, 1.0)
            error = math.sqrt((old * (1 - old) + new * (1 - new)) / n)
            risen = (number(after, "accuracy") or 0.0) > (number(before, "accuracy") or 0.0)
            if risen and new < old - Z * error:
                narrower.append(_narrower(name, k, before, after, old, new))
    return narrower


def _narrower(name: str, k: str, before: Row, after: Row, old: float, new: float) -> Finding:
    a, b = number(before, "accuracy") or 0.0, number(after, "accuracy") or 0.0
    return Finding(
        "pass_at_k",
        "warning",
        str(after.get("stage")),
        int(number(after, "step") or 0),
        f"{name}: accuracy rose from {a:.1%} to {b:.1%}, but pass@{k} fell from {old:.1%} to {new:.1%}.",
        "Fewer problems can be solved at all: answers were sharpened, not learned.",
        "Raise the temperature or the share of hard prompts; report both numbers.",
        "pass_at_k",
    )


STEPS: tuple[Rule, ...] = (held_out, shorter, same_answers, slower)
SFT: tuple[Rule, ...] = (sft_flat, gradient)
