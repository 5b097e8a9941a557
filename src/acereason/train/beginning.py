"""What a stage measures before its first step, with the policy that it begins with.

Its temperature, and which of its prompts are worth asking at that temperature, domain by domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acereason import ranks
from acereason.config import Stage
from acereason.errors import TrainingError
from acereason.problems import Problem
from acereason.sample import diversity, temperature
from acereason.sample.ask import How, ask
from acereason.sample.diversity import Anchor
from acereason.sample.rules import Moment, Rule, Rules
from acereason.train import metrics, mixture, stages
from acereason.train.checkpoint import Position
from acereason.train.memory import SAMPLING, enough_for
from acereason.train.stages import StageState
from acereason.train.workshop import Workshop


def begin(shop: Workshop, stage: Stage, problems: Sequence[Problem], position: Position) -> StageState:
    """Measure the stage's temperature, and which prompts it asks at that temperature, with the policy that it
    begins with."""
    shares = shop.recipe.shares_of(stage)
    chosen = {name: _candidates(shop, stage, name, problems) for name in shares}
    rules, now = Rules(stage, {}), Moment(0, stage.steps, 0)
    if all(chosen.values()):
        for name, rule in rules.each.items():
            asked = {name: chosen[name]} if name else chosen
            _measure(shop, stage, rule, mixture.interleaved(asked, shares), "+".join(asked), position)
        if stage.filter.samples:
            T = {name: rules.of(name).temperature(now) for name in chosen}
            chosen = {name: _filter(shop, stage, some, T[name]) for name, some in chosen.items()}
    if empty := [name for name, some in chosen.items() if not some]:
        raise TrainingError(
            f"stage {stage.name!r} has no prompts of {', '.join(empty)} left after its filter; widen "
            "filter.low/high or levels"
        )
    return StageState(pool=mixture.begun(chosen), temperature=rules.state)


def _candidates(shop: Workshop, stage: Stage, name: str, problems: Sequence[Problem]) -> list[Problem]:
    return stages.candidates(problems, name, shop.recipe.filter_of(stage, name), shop.recipe.seed)


def _measure(
    shop: Workshop, stage: Stage, rule: Rule, chosen: Sequence[Problem], domains: str, position: Position
) -> None:
    """What the rule of some domains wants to know, asked of their prompts."""
    if not rule.measures:
        return
    where = {"step": position.step, "stage": stage.name}
    if stage.temperatures:
        where["domain"] = domains
    with enough_for("sampling", SAMPLING):
        if rule.measures == "entropy":
            _calibrate(shop, stage, rule, chosen, where)
        else:
            name = _anchor(shop, stage, position, domains)
            first = position.anchors.get(name)
            position.anchors[name] = _match(shop, stage, rule, chosen, where, first)


def _anchor(shop: Workshop, stage: Stage, position: Position, domains: str) -> str:
    """The name under which the diversity of these domains, in any order, is kept; it is said where earlier
    stages measured that of others alone."""
    for name in position.anchors:
        if sorted(name.split("+")) == sorted(domains.split("+")):
            return name
    if position.anchors:
        shop.progress.say(
            f"{stage.name}: the diversity of {domains} is measured anew at temperature.value, not matched: "
            f"earlier stages measured that of {', '.join(position.anchors)}, another set of domains"
        )
    return domains


def _calibrate(
    shop: Workshop, stage: Stage, rule: Rule, chosen: Sequence[Problem], where: Mapping[str, Any]
) -> None:
    key = (shop.recipe.of_draws, stage.name)
    met = temperature.calibrate_policy(shop.policy, shop.sampler, chosen, stage.budget, rule.settings, key)
    rule.start(met)
    shop.run.record("calibration", **where, **met.row())
    shop.progress.say(
        f"{stage.name}: H_T = {met.check.H:.3f} ± {met.check.se:.3f} at T = {met.T:.3f} (target {met.target})"
    )


def _match(
    shop: Workshop,
    stage: Stage,
    rule: Rule,
    chosen: Sequence[Problem],
    where: Mapping[str, Any],
    first: Anchor | None,
) -> Anchor:
    """The diversity that the rule's first stage had; that of this stage, if it is the first."""
    length, samples = (first.length, first.samples) if first else (stage.budget, stage.group_in(0))

    def how(T: float, round_: int) -> How:
        label = (shop.recipe.of_draws, stage.name, "diversity", round_, round(T * 1e6))
        return How(samples=samples, budget=length, temperature=T, label=label)

    rules = rule.settings
    at = diversity.measured(shop.policy, shop.sampler, chosen[: rules.prompts], how, length)
    match = diversity.match(at, first.diversity, rules.candidates) if first else None
    met = match or diversity.begun(at, rules.value)
    anchor = first or Anchor(met.target, length, samples)
    rule.start((met.T, anchor))
    shop.run.record("calibration", **where, **met.row())
    shop.progress.say(
        f"{stage.name}: diversity {met.check.H:.3f} ± {met.check.se:.3f} at T = {met.T:.3f} "
        f"(target {met.target:.3f})"
    )
    return anchor


def _filter(shop: Workshop, stage: Stage, chosen: Sequence[Problem], T: float) -> list[Problem]:
    """Keep the prompts whose pass rate under the present policy, at the stage's temperature and budget, is in
    range."""
    rule = stage.filter
    part = chosen[: rule.candidates]
    mixed = len(shop.recipe.shares_of(stage)) > 1 and bool(chosen)
    name = f"{stage.name} filter" + (f": {chosen[0].domain}" if mixed else "")
    own = ranks.share(part)
    label = (shop.recipe.of_draws, stage.name, "filter")
    how = How(samples=rule.samples, budget=stage.budget, temperature=T, label=label)
    doing = shop.progress.task(name, len(own) * rule.samples)
    with doing as advance, enough_for("sampling", SAMPLING):
        batch = ask(shop.policy, shop.sampler, shop.judge, own, how, lambda _: advance(1, ""))
    rates = metrics.pass_rates(metrics.judged_rewards(batch.groups))
    kept = stages.within(part, rates, rule)
    reasons = {
        "pass rate too high": sum(rate > rule.high for rate in rates.values()),
        "pass rate too low": sum(rate < rule.low for rate in rates.values()),
        "could not be judged": len(part) - len(rates),
    }
    shop.run.record("funnel", name=name, T=T, before=len(part), after=len(kept), reasons=reasons)
    return kept
