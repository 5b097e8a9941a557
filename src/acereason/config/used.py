"""That what a new recipe says has an effect. Runs were begun with some of these settings before they were
refused; what is recorded of such a run is read without this check, so that it is resumed and looked at."""

from __future__ import annotations

from collections.abc import Iterator

from acereason.config.recipe import Recipe
from acereason.config.rl import Rl
from acereason.errors import ConfigError

OF_REWARDS = ("advantage", "idle_groups", "reward", "length_penalty", "unjudged", "kl")


def check(recipe: Recipe) -> None:
    """ConfigError with the first setting that does nothing, or not what it is for, beside the others."""
    for found in (*_of_rl(recipe.rl), *_of_stages(recipe), *_of_temperatures(recipe)):
        raise ConfigError(found)


def _of_rl(rl: Rl) -> Iterator[str]:
    if rl.kl.form != "k3" and not rl.kl.coefficient:
        yield "rl.kl.form needs an rl.kl.coefficient above 0, e.g. 1e-3; at 0 nothing is asked"
    if rl.mask_bounds != (0.5, 2.0) and rl.sequence_mask == "none":
        yield "rl.mask_bounds belong to rl.sequence_mask, and there is none; name one"
    if rl.importance_cap is not None and rl.importance_cap < 1:
        yield (
            f"rl.importance_cap = {rl.importance_cap} would cut the ratio of equal policies, which is "
            "1; give more than 1, e.g. 4"
        )
    if rl.clip[0] >= 1 and rl.ratio != "cispo":
        yield (
            f"rl.clip begins at 1 - {rl.clip[0]}, and no ratio is below 0: give less than 1, or "
            "rl.ratio = 'cispo', which may go without"
        )


def _of_stages(recipe: Recipe) -> Iterator[str]:
    """Switches of rewards that meet no stage which looks at them."""
    if not recipe.stage:
        return
    if not recipe.rl.masked_in_statistics and not any(s.overlong == "mask" for s in recipe.stage):
        yield (
            "rl.masked_in_statistics = false leaves masked responses out of their group's statistics, "
            "and no stage masks any; set its overlong = 'mask'"
        )
    if all(s.kind == "distill" for s in recipe.stage):
        changed = [name for name in OF_REWARDS if getattr(recipe.rl, name) != getattr(Rl(), name)]
        if changed:
            yield (
                f"rl.{changed[0]} is of rewards, or beside them, and every stage distils: a teacher "
                "stands in the judge's place. Leave it out"
            )


def _of_temperatures(recipe: Recipe) -> Iterator[str]:
    for rule in (rule for stage in recipe.stage for rule in stage.rules):
        if rule.coefficient_step > rule.coefficient_max:
            yield (
                f"temperature.coefficient_step ({rule.coefficient_step}) is above coefficient_max "
                f"({rule.coefficient_max}): one step would be the most"
            )
