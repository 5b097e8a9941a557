"""What makes no sense together is refused and says why: one table for every switch of `rl` and `stage`.

A key that is in neither `REFUSED` nor `FREE` fails: a new switch says here what it does not go with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acereason import config, reference, runs
from acereason.config import Recipe
from acereason.errors import ConfigError

Case = tuple[dict[str, Any], dict[str, Any], str]  # changes of rl, of the second stage, a part of the reason
BOTH = ["math", "code"]
SOFT = {"overlong": "soft", "overlong_buffer": 4}
TAUGHT = {"kind": "distill", "teacher": "sft"}
BY_URL = {"kind": "distill", "teacher": "http://x"}
DISTILS = "every stage distils"


def rl(why: str, stage: dict[str, Any] | None = None, **changes: Any) -> Case:
    return changes, stage or {}, why


def stage(why: str, **changes: Any) -> Case:
    return {}, changes, why


def temperature(why: str, **changes: Any) -> Case:
    return {}, {"temperature": changes}, why


def prompts(why: str, **changes: Any) -> Case:
    return {}, {"filter": changes}, why


REFUSED: dict[str, list[Case]] = {
    "rl.advantage": [
        rl("divides by the mean reward", advantage="max_rl", length_penalty=0.1),
        rl("divides by the mean reward", SOFT, advantage="max_rl"),
        rl("measured in rewards", {"temperature": {"rule": "coefficient"}}, advantage="batch"),
        rl("measured in rewards", {"temperatures": {"math": {"rule": "coefficient"}}}, advantage="batch"),
        rl(DISTILS, TAUGHT, advantage="loo"),
    ],
    "rl.idle_groups": [rl(DISTILS, TAUGHT, idle_groups="drop")],
    "rl.unjudged": [rl(DISTILS, TAUGHT, unjudged="group")],
    "rl.reward": [
        rl("gives shares", {"domain": "code"}, reward="tests", length_penalty=0.1),
        rl("every stage is of math", reward="tests"),
        rl(DISTILS, TAUGHT | {"domain": "code"}, reward="tests"),
    ],
    "rl.length_penalty": [
        rl("both punish length", SOFT, length_penalty=0.1),
        rl(DISTILS, TAUGHT, length_penalty=0.1),
    ],
    "rl.masked_in_statistics": [rl("masks any", {"overlong": "zero"}, masked_in_statistics=False)],
    "rl.updates": [rl("strict on-policy", updates=2, importance_cap=2.0)],
    "rl.ratio": [rl("every ratio is 1", ratio=form) for form in ("cispo", "gspo")],
    "rl.clip": [rl("no ratio is below 0", updates=2, clip=[1.0, 0.2])],
    "rl.kl.coefficient": [rl(DISTILS, TAUGHT, kl={"coefficient": 1e-3})],
    "rl.kl.form": [rl("coefficient above 0", kl={"form": "k2"})],
    "rl.kl.reference": [
        rl("coefficient above 0", kl={"reference": "sft"}),
        rl("no earlier stage", kl={"coefficient": 1e-3, "reference": "second"}),
        rl("fixed at 1", {"temperature": {"value": 2}}, kl={"coefficient": 1e-3, "reference": "https://x"}),
    ],
    "rl.sequence_mask": [
        rl("its ratio already", sequence_mask="icepop", updates=2),
        rl("its ratio already", sequence_mask="icepop", importance_cap=2.0),
    ],
    "rl.mask_bounds": [
        rl("enclose 1", sequence_mask="geometric", mask_bounds=[1.5, 2.0]),
        rl("there is none", mask_bounds=[0.5, 5.0]),
    ],
    "rl.importance_cap": [rl("ratio of equal policies", importance_cap=0.5)],
    "rl.betas": [rl("below 1", betas=[0.9, 1.0])],
    "stage.domain": [stage("stands twice", domain=["code", "code"]), stage("length", domain=[])],
    "stage.weights": [
        stage("one for each of several", weights=[1]),
        stage("one for each of several", domain=BOTH, weights=[1, 2, 3]),
        stage("0", domain=BOTH, weights=[1, 0]),
    ],
    "stage.replay": [stage("none but its own", replay=0.1), stage("1.0", domain="code", replay=1.0)],
    "stage.kind": [
        stage("belong together", kind="distill"),
        stage("looks at none", **TAUGHT, **SOFT),
        stage("learns from every group", **TAUGHT, filter={"refill": 2}),
    ],
    "stage.teacher": [
        stage("belong together", teacher="sft"),
        stage("no earlier stage", kind="distill", teacher="second"),
        stage("fixed at 1", **BY_URL, temperature={"value": 0.8}),
        stage("fixed at 1", **BY_URL, temperature={"rule": "calibrate"}),
        stage("fixed at 1", **BY_URL, temperatures={"math": {"value": 0.8}}),
    ],
    "stage.group": [stage("2", group=1), stage("length", group=[])],
    "stage.overlong": [stage("belong together", overlong="soft")],
    "stage.overlong_buffer": [
        stage("belong together", overlong_buffer=4),
        stage("belong together", overlong="soft", overlong_buffer=99),
    ],
    "stage.keep": [stage("need evaluate_every", keep="best")],
    "stage.evaluate_every": [stage("need evaluate_every", keep="best", evaluate_every=0)],
    "stage.stop.dev_patience": [stage("need evaluate_every", stop={"dev_patience": 2})],
    "stage.thinking.budget": [stage("leaves nothing", thinking={"budget": 30})],
    "stage.thinking.end": [stage("must hold </think>", thinking={"budget": 9, "end": "stop"})],
    "stage.temperatures": [
        stage("temperatures name", temperatures={"code": {}}),
        stage("give each of these a rule", domain=BOTH, temperatures={"math": {}}),
        stage("give each of these a rule", domain="code", replay=0.2, temperatures={"code": {}}),
        stage("give one of them", temperature={"value": 0.8}, temperatures={"math": {}}),
    ],
    "stage.temperature.rule": [temperature("known: fixed", rule="warm")],
    "stage.temperature.values": [
        temperature("needs at least one", rule="epochs"),
        temperature("belong to rule", values=[1.0]),
    ],
    "stage.temperature.target_end": [
        temperature("which needs it", rule="annealed"),
        temperature("belongs to rule", rule="track", target_end=0.1),
    ],
    "stage.temperature.share": [
        temperature("needs a share", rule="anchored"),
        *(temperature("belongs to", rule=rule, share=0.5) for rule in ("fixed", "e3", "diversity")),
    ],
    "stage.temperature.coefficient_step": [temperature("above coefficient_max", coefficient_step=0.1)],
    "stage.temperature.coefficient_max": [temperature("above coefficient_max", coefficient_max=1e-5)],
    "stage.temperature.candidates": [temperature("length", candidates=[1.0])],
    "stage.filter.low": [prompts("keeps no prompt", low=0.9, high=0.1)],
    "stage.filter.high": [prompts("keeps no prompt", low=0.2, high=0.1)],
    "stage.filter.levels": [prompts("keeps no prompt", levels=[3, 2])],
    "stage.filter.drop": [prompts("give one", drop_solved=True, drop="both")],
    "stage.filter.drop_solved": [prompts("give one", drop_solved=True, drop="solved")],
    "stage.filter.readmit.hard": [
        prompts("nothing is dropped", readmit={"hard": 0.1}),
        prompts("stay anyway", drop="solved", readmit={"hard": 0.1}),
    ],
    "stage.filter.readmit.easy": [prompts("nothing is dropped", readmit={"easy": 0.1})],
    "stage.filter.refresh_every": [prompts("nothing is dropped", refresh_every=2)],
    "stage.filter.retire_above": [prompts("every prompt", retire_above=0.0)],
    "stage.filter.refill": [stage("learns from every group", **TAUGHT, filter={"refill": 1})],
}

FREE = {
    "goes with every other": [
        *("rl.normalisation", "rl.false_positives", "rl.false_negatives", "rl.weight_decay"),
        *("rl.clip_gradient", "stage.name", "stage.budget", "stage.steps", "stage.prompts"),
        *("stage.learning_rate", "stage.warmup", "stage.stop.truncated_below", "stage.stop.patience"),
        "stage.stop.tokens",
    ],
    "says how something is computed, not what": [
        *("rl.moments", "rl.micro_tokens", "rl.judges", "rl.overlap", "rl.max_k3", "rl.max_bad_steps"),
    ],
    "counts for some rules, and stays for when another is named": [
        *(f"stage.temperature.{key}" for key in ("value", "target", "prompts", "gain", "max_factor")),
        *("stage.filter.samples", "stage.filter.candidates"),
    ],
}


def test_a_server_cannot_be_cut_to_the_policys_vocabulary() -> None:
    with pytest.raises(ConfigError, match="knows the whole vocabulary"):
        parsed({}, BY_URL, vocabulary="data")
    assert parsed({}, TAUGHT, vocabulary="data")


def parsed(of_rl: dict[str, Any], of_stage: dict[str, Any], recorded: bool = False, **model: Any) -> Recipe:
    """A recipe of two stages, the second with these changes; the first distils, or masks, if that does."""
    first = {"name": "first", "domain": "math", "budget": 30, "steps": 2}
    second = {**first, "name": "second", **of_stage}
    if of_stage.get("kind") == "distill":
        first |= TAUGHT
    if of_stage.get("overlong") == "zero":
        first["overlong"] = "zero"
    data = {"name": "x", "model": {"path": "m", **model}, "rl": of_rl, "stage": [first, second]}
    return config.parse(data, recorded=recorded)


@pytest.mark.parametrize(
    "key",
    (
        "rl.kl.form",
        "rl.masked_in_statistics",
        "rl.importance_cap",
        "stage.temperature.coefficient_step",
        "rl.idle_groups",
        "rl.unjudged",
        "rl.clip",
    ),
)
def test_what_has_no_effect_does_not_stop_a_run_that_has_begun(key: str, tmp_path: Path) -> None:
    of_rl, of_stage, _ = REFUSED[key][0]
    runs.create(tmp_path / "run", recipe := parsed(of_rl, of_stage, recorded=True)).close()
    with runs.resume(tmp_path / "run") as run:
        assert run.recipe == recipe
    with pytest.raises(ConfigError):
        parsed(of_rl, of_stage)


def test_every_switch_says_what_it_does_not_go_with() -> None:
    known = {e.key for e in reference.entries() if e.key.startswith(("rl.", "stage."))}
    free = [key for keys in FREE.values() for key in keys]
    assert len(free) == len(set(free)) and not set(free) & set(REFUSED)
    assert known == {*free, *REFUSED}, "a switch without an entry, or an entry without its switch"


@pytest.mark.parametrize("key", REFUSED)
def test_what_makes_no_sense_is_refused_and_says_why(key: str) -> None:
    for of_rl, of_stage, why in REFUSED[key]:
        with pytest.raises(ConfigError, match=why):
            parsed(of_rl, of_stage)


@pytest.mark.parametrize(
    ("of_rl", "of_stage"),
    [
        ({"advantage": "max_rl"}, {}),
        ({"advantage": "batch", "idle_groups": "drop", "normalisation": "group"}, {"overlong": "zero"}),
        ({"reward": "tests", "unjudged": "group"}, {"domain": BOTH}),
        ({"length_penalty": 0.1}, {"overlong": "zero"}),
        ({"updates": 2, "ratio": "cispo", "clip": [10.0, 0.28]}, {}),
        ({"kl": {"coefficient": 1e-3, "form": "k2", "reference": "sft"}}, {"temperature": {"value": 2}}),
        ({"sequence_mask": "icepop", "mask_bounds": [0.5, 5.0]}, TAUGHT),
        ({"masked_in_statistics": False, "importance_cap": 1.0}, {}),
        ({}, {"domain": BOTH, "temperatures": {"math": {"rule": "e3"}, "code": {"value": 0.6}}}),
        ({}, {"domain": "code", "replay": 0.2, "temperatures": {"code": {}, "math": {"rule": "diversity"}}}),
        ({}, {"filter": {"drop": "both", "readmit": {"hard": 0.1, "easy": 0.01}, "refresh_every": 3}}),
    ],
)
def test_in_good_company_they_are_taken(of_rl: dict[str, Any], of_stage: dict[str, Any]) -> None:
    """The table would pass if everything were refused."""
    assert parsed(of_rl, of_stage)
