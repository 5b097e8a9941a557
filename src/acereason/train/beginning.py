"""What a stage measures before its first step, with the policy that it begins with.

Its temperature, and which of its prompts are worth asking at that temperature, domain by domain.
"""

from __future__ import annotations

from collections.abc import Sequence

from acereason import ranks
from acereason.config import Stage
from acereason.errors import TrainingError
from acereason.problems import Problem
from acereason.sample import temperature
from acereason.sample.ask import How, ask
from acereason.sample.rules import Moment, Rule, rule_of
from acereason.train import metrics, mixture, stages
from acereason.train.memory import SAMPLING, enough_for
from acereason.train.stages import StageState
from acereason.train.workshop import Workshop


def begin(shop: Workshop, stage: Stage, problems: Sequence[Problem], step: int) -> StageState:
    """Measure the stage's temperature, and which prompts it asks at that temperature, with the policy that it
    begins with."""
    shares = shop.recipe.shares_of(stage)
    chosen = {name: _candidates(shop, stage, name, problems) for name in shares}
    rule = rule_of(stage.temperature, {})
    if rule.measures and all(chosen.values()):
        _calibrate(shop, stage, rule, mixture.interleaved(chosen, shares), step)
    if stage.filter.samples:
        T = rule.temperature(Moment(0, stage.steps, 0))
        chosen = {name: _filter(shop, stage, some, T) for name, some in chosen.items()}
    if empty := [name for name, some in chosen.items() if not some]:
        raise TrainingError(
            f"stage {stage.name!r} has no prompts of {', '.join(empty)} left after its filter; widen "
            "filter.low/high or levels"
        )
    return StageState(pool=mixture.begun(chosen), temperature=rule.state)


def _candidates(shop: Workshop, stage: Stage, name: str, problems: Sequence[Problem]) -> list[Problem]:
    return stages.candidates(problems, name, shop.recipe.filter_of(stage, name), shop.recipe.seed)


def _calibrate(shop: Workshop, stage: Stage, rule: Rule, chosen: Sequence[Problem], step: int) -> None:
    key = (shop.recipe.of_draws, stage.name)
    with enough_for("sampling", SAMPLING):
        met = temperature.calibrate_policy(
            shop.policy, shop.sampler, chosen, stage.budget, stage.temperature, key
        )
    rule.start(met)
    shop.run.record("calibration", step=step, stage=stage.name, **met.row())
    shop.progress.say(
        f"{stage.name}: H_T = {met.check.H:.3f} ± {met.check.se:.3f} at T = {met.T:.3f} (target {met.target})"
    )


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
