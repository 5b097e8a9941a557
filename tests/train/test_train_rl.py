"""A stage from its beginning to its end, with a sampler and a judge by hash: what it measures, at which
temperature, what it takes, and which weights it ends with."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from acereason import config, runs
from acereason.config import Rl
from acereason.draws import draw_seed
from acereason.errors import ConfigError, TrainingError
from acereason.health.memory import Memory
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response, Verdict
from acereason.progress import Quiet
from acereason.sample.ask import How, requests
from acereason.sample.diversity import Anchor
from acereason.sample.protocol import Completion
from acereason.train import beginning, dev, optimizers, rl
from acereason.train.checkpoint import Position, Saver, Writer
from acereason.train.workshop import Workshop
from made_up import Coin, Elsewhere, Words
from tiny_run import RECIPE

PROBLEMS = [Problem(f"p{i}", "math", f"question {i}", answer="1") for i in range(40)]
CODE = [Problem(f"c{i}", "code", f"program {i}") for i in range(10)]


class Tempered(Elsewhere):
    """Responses whose entropy is 0.3 T / 0.5, and which say their temperature."""

    remote = False

    def sample(self, requests: Any) -> Any:
        for c in super().sample(requests):
            H = np.full(len(c.tokens), 0.6 * c.request.temperature, np.float32)
            yield Completion(c.request, c.tokens, c.logprobs, H, H, c.finish)


class Varied(Tempered):
    """Responses of which the more tokens are one and the same the colder they are asked."""

    def __init__(self, heat: float) -> None:
        super().__init__()
        self.heat = heat

    def sample(self, requests: Any) -> Any:
        for c in super().sample(requests):
            chance = np.random.default_rng(c.request.seed % 2**32).random(len(c.tokens))
            yield replace(c, tokens=np.where(chance < self.heat * c.request.temperature, c.tokens, 5))


class Said(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def train(
    model: Any,
    folder: Path,
    judge: Any = None,
    health: dict[str, Any] | None = None,
    position: Position | None = None,
    sampler: Any = None,
    **stage: Any,
) -> tuple[list[Any], Position, Said]:
    """Rows of metrics, the position at the end, and what was said."""
    settings: dict[str, Any] = {
        "name": "s",
        "domain": "math",
        "budget": 12,
        "steps": 3,
        "group": 4,
        "prompts": 6,
        "learning_rate": 1e-3,
        **stage,
    }
    recipe = config.parse(
        {
            **RECIPE,
            "stage": [settings],
            "health": health or {},
            "evaluation": {"budget": 20, "dev": {"prompts": 8}},
        }
    )
    position, said, sampler = position or Position(step=7), Said(), sampler or Tempered()
    with runs.create(folder, recipe) as run, Writer(run) as writer:
        shop = Workshop(run, recipe, Policy(model, Words(), "plain"), sampler, judge or Coin(), said)
        shop = replace(shop, health=Memory(recipe.health))
        run.listen(shop.health.add)
        held = dev.split(recipe, PROBLEMS, set(), set())
        asked = [p for p in (*PROBLEMS, *CODE) if p not in held]
        optimizer = optimizers.for_rl(model, Rl())
        save = Saver(writer, model, optimizer, position, 10)
        inside = dev.DevSplit(shop, recipe.stage[0], held, save)
        rl.train_stage(shop, recipe.stage[0], asked, inside, optimizer, position, save)
    rows = [r for r in runs.read_metrics(folder) if r["kind"] != "rates"]
    return rows, position, said


def test_the_filter_measures_at_the_temperature_that_was_calibrated_before(
    qwen3: Any, tmp_path: Path
) -> None:
    temperature = {"rule": "calibrate", "target": 0.3, "prompts": 16}
    rows, position, _ = train(qwen3, tmp_path / "run", temperature=temperature, filter={"samples": 2})
    kinds = [row["kind"] for row in rows]
    assert kinds == ["calibration", "funnel", "rl", "rl", "rl"]
    assert rows[0]["T"] == pytest.approx(0.5, abs=0.02) and rows[1]["T"] == rows[0]["T"] == rows[2]["T"]
    assert position.state is not None and position.state.temperature["T"] == rows[0]["T"]
    fixed = train(qwen3, tmp_path / "two", temperature={"value": 0.7}, filter={"samples": 2})[0]
    assert [row["kind"] for row in fixed][:2] == ["funnel", "rl"] and fixed[0]["T"] == 0.7
    first = {"rule": "epochs", "values": [0.6, 0.9]}
    assert train(qwen3, tmp_path / "three", temperature=first, filter={"samples": 2})[0][0]["T"] == 0.6


def test_a_later_stage_is_as_diverse_as_the_first_and_each_domain_has_its_rule(
    qwen3: Any, tmp_path: Path
) -> None:
    """The first stage measures at its value; a policy half as lively is asked at about twice the T."""
    lively = {"rule": "diversity", "value": 0.5, "candidates": [0.4, 0.6], "prompts": 40}
    stage: dict[str, Any] = {
        "domain": ["math", "code"],
        "temperatures": {"math": lively, "code": {"value": 0.7}},
    }
    rows, position, _ = train(qwen3, tmp_path / "one", sampler=Varied(0.8), **stage)
    position = msgspec.json.decode(msgspec.json.encode(position), type=Position)  # as a checkpoint keeps it
    position.next_stage()
    later, position, said = train(qwen3, tmp_path / "two", position=position, sampler=Varied(0.4), **stage)
    first, again = rows[0], later[0]
    assert [(r["quantity"], r["domain"]) for r in (first, again)] == [("diversity", "math")] * 2
    assert first["T"] == 0.5 and again["target"] == first["target"] == first["check"]["H"]
    assert again["T"] == pytest.approx(1.0, abs=0.3) and len(again["points"]) > 3  # beyond the candidates
    assert any("s: diversity" in line for line in said.lines)
    assert not any("anew" in line for line in said.lines)
    for T, row in [(0.5, r) for r in rows[1:]] + [(again["T"], r) for r in later[1:]]:
        math, code = row["by_domain"]["math"], row["by_domain"]["code"]
        assert (math["T"], code["T"]) == (T, 0.7) and row["T"] == pytest.approx((T + 0.7) / 2)
        assert math["diversity_target"] == first["target"] and 0.2 < math["diversity"] <= 1
        assert math["H_T"] == pytest.approx(0.6 * T) and code["H_T"] == pytest.approx(0.42)
        assert "diversity" not in code and row["H_target"] is None
    assert position.state is not None and position.state.temperature["math.T"] == again["T"]


def test_a_stage_of_other_domains_says_that_its_diversity_is_measured_anew() -> None:
    said = Said()
    stage: Any = SimpleNamespace(name="s")
    shop: Any = SimpleNamespace(progress=said)
    position = Position(anchors={"math+code": Anchor(0.5, 12, 4)})
    assert beginning._anchor(shop, stage, position, "code+math") == "math+code"
    assert beginning._anchor(shop, stage, Position(), "math") == "math" and not said.lines
    assert beginning._anchor(shop, stage, position, "math") == "math"
    assert said.lines[0].startswith("s: the diversity of math is measured anew")


def test_temperature_and_group_follow_the_epochs(qwen3: Any, tmp_path: Path) -> None:
    rule = {"rule": "epochs", "values": [0.6, 0.8, 1.0]}
    rows, _, _ = train(qwen3, tmp_path / "run", temperature=rule, group=[2, 3], prompts=16, steps=8)
    told = [(row["epoch"], row["T"], row["group"]) for row in rows]
    by_epoch = {0: (0.6, 2), 1: (0.8, 3), 2: (1.0, 3), 3: (1.0, 3)}
    assert told == [(16 * i // 40, *by_epoch[16 * i // 40]) for i in range(8)]
    for row in rows:
        lines = (tmp_path / "run/responses" / f"s-{row['step']:06d}.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines]
        assert len(answers) == 16 * row["group"] and {a["temperature"] for a in answers} == {row["T"]}


def test_a_pool_smaller_than_the_batch_makes_smaller_batches_and_says_so_once(
    qwen3: Any, tmp_path: Path
) -> None:
    _, position, said = train(qwen3, tmp_path / "run", prompts=64)
    assert len([line for line in said.lines if "batches hold 40 prompts instead of 64" in line]) == 1
    assert position.stage_step == 3
    path = tmp_path / "run/responses/s-000008.jsonl"
    ids = [json.loads(line)["problem_id"] for line in path.read_text().splitlines()]
    assert len(ids) == 4 * 40 and len(set(ids)) == 40


def test_the_warm_up_is_in_the_rows_and_in_what_moves(qwen3: Any, tmp_path: Path) -> None:
    rows, _, _ = train(qwen3, tmp_path / "run", warmup=4, steps=5)
    assert [row["lr"] for row in rows] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3])


def test_no_prompt_left_is_an_error_that_names_the_filter(qwen3: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"filter\.low"):
        train(qwen3, tmp_path / "run", filter={"samples": 2, "low": 0.99, "high": 0.999})


class Wrong:
    """A judge under whom nothing is right."""

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        future: Future[Verdict] = Future()
        future.set_result(Verdict("wrong", 0, extracted="0"))
        return future


def test_a_rule_of_health_ends_the_run_in_words_with_its_last_step_kept(qwen3: Any, tmp_path: Path) -> None:
    health = {"window": 2, "stop": ["no_gradient"]}
    with pytest.raises(TrainingError, match=r"since step 8: 100% of the groups have no gradient.*resume"):
        train(qwen3, tmp_path / "run", Wrong(), health, steps=6)
    rows = [row for row in runs.read_metrics(tmp_path / "run") if row["kind"] == "rl"]
    assert [row["step"] for row in rows] == [8, 9] and rows[0]["same_answer"] == 1.0
    assert any((tmp_path / "run/checkpoints").iterdir())
    other = train(qwen3, tmp_path / "on", Wrong(), {"window": 2, "stop": ["mismatch"]}, steps=6)[0]
    assert len(other) == 6


class UpAndDown:
    """A judge under whom the policy gets better until about its 140th answer, and worse from there on."""

    def __init__(self) -> None:
        self.asked = 0

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        self.asked += 1
        future: Future[Verdict] = Future()
        level = 90 - abs(self.asked - 140) / 2
        right = int(draw_seed(problem.id, response.sample, self.asked) % 100 < level)
        future.set_result(Verdict("correct" if right else "wrong", right))
        return future


def test_the_best_weights_on_the_dev_split_are_those_a_stage_ends_with(qwen3: Any, tmp_path: Path) -> None:
    before = {name: p.detach().clone() for name, p in qwen3.named_parameters()}
    how: dict[str, Any] = {"evaluate_every": 2, "keep": "best", "steps": 20, "stop": {"dev_patience": 3}}
    rows, position, said = train(qwen3, tmp_path / "run", UpAndDown(), **how)
    looks = [(row["stage_step"], row["accuracy"]) for row in rows if row["kind"] == "dev"]
    assert position.state is not None and [tuple(one) for one in position.state.dev] == looks
    (best,) = [row["stage_step"] for row in rows if row["kind"] == "best"]
    assert looks[0][0] == 0 < best == max(looks, key=lambda one: one[1])[0]
    assert position.stage_step == best + 6 < 20 and "no better than that of step" in said.lines[-2]
    ended = {name: p.detach().clone() for name, p in qwen3.named_parameters()}
    with torch.no_grad():
        for name, parameter in qwen3.named_parameters():
            parameter.copy_(before[name])
    train(qwen3, tmp_path / "again", UpAndDown(), **{**how, "keep": "last", "stop": {}, "steps": best})
    assert all(torch.equal(p, ended[n]) for n, p in qwen3.named_parameters())
    assert any(not torch.equal(p, before[n]) for n, p in qwen3.named_parameters())
    with runs.resume(tmp_path / "run") as run:
        held = {p.id for p in dev.split(run.recipe, PROBLEMS, set(), set())}
    assert len(held) == 8 and not held & {row["problem_id"] for row in responses(tmp_path / "run")}


def responses(folder: Path) -> list[dict[str, Any]]:
    paths = sorted((folder / "responses").glob("s-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_the_dev_split_is_of_no_reported_question_and_says_when_it_is_too_large() -> None:
    stages = [{"name": n, "domain": "math", "budget": 9, "steps": 9, "evaluate_every": 3} for n in "ab"]
    recipe = config.parse({**RECIPE, "stage": stages, "evaluation": {"dev": {"prompts": 10}}})
    reported = {p.question for p in PROBLEMS[:15]}
    learned = {p.question for p in PROBLEMS[15:28]}
    chosen = {p.question for p in dev.split(recipe, PROBLEMS, reported, learned)}
    assert len(chosen) == 10 and not chosen & reported and not chosen & learned
    assert chosen == {p.question for p in dev.split(recipe, PROBLEMS[::-1], reported, learned)}
    with pytest.raises(ConfigError, match="have 19 RL prompts"):
        dev.split(recipe, PROBLEMS, {p.question for p in PROBLEMS[:21]}, set())
    none = config.parse({**RECIPE, "stage": [{**stages[0], "evaluate_every": 0}]})
    assert dev.split(none, PROBLEMS, reported, learned) == []


def test_a_problem_that_is_asked_again_gets_other_draws(qwen3: Any) -> None:
    policy = Policy(qwen3, Words(), "plain")
    how = How(samples=3, budget=9, temperature=1.0, label=(1, "s", 7))
    twice = [r.seed for r in requests(policy, [PROBLEMS[0], PROBLEMS[1], PROBLEMS[0]], how)]
    once = [r.seed for r in requests(policy, PROBLEMS[:2], how)]
    assert len(set(twice)) == 9 and twice[:6] == once


def test_a_pool_that_remembers_writes_down_every_rate_and_refills_its_batches(
    qwen3: Any, tmp_path: Path
) -> None:
    """With an entropy bonus and further switches, all through the loop."""
    rows, position, _ = train(
        qwen3,
        tmp_path / "run",
        steps=8,
        temperature={"rule": "coefficient", "share": 1.5},
        filter={"drop": "both", "readmit": {"hard": 0.1}, "retire_above": 0.9, "refill": 2},
    )
    steps = [r for r in rows if r["kind"] == "rl"]
    rates = [r for r in runs.read_metrics(tmp_path / "run") if r["kind"] == "rates"]
    assert [r["step"] for r in rates] == [r["step"] for r in steps] and len(steps) == 8
    assert all(len(a["rates"]) == b["asked"] >= 6 for a, b in zip(rates, steps, strict=True))
    assert position.state is not None
    told = {i: rate for r in rates for i, rate in r["rates"].items()}
    assert position.state.pool.rates == told
    assert steps[0]["coefficient"] == steps[1]["coefficient"] == 0 and steps[2]["coefficient"] > 0
    assert steps[0]["H_target"] is None and steps[1]["H_target"] == pytest.approx(1.5 * steps[0]["H_T"])
