"""A hub's model: weights, tokenizer and configuration of one commit, and a run that goes on with the one it
began with, though the hub has moved on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

import tiny_run
from acereason import config, program, runs
from acereason.cli.run import _starting_at
from acereason.errors import CheckpointError, RunError
from acereason.evaluate.benchmarks.job import fingerprint
from acereason.policy import hub, model
from acereason.policy.policy import Policy
from acereason.progress import Quiet
from fake_hub import Hub, running
from fake_vllm import tiny_policy

OLD, NEW = "a" * 40, "b" * 40
RECIPE: dict[str, Any] = {
    **tiny_run.RECIPE,
    "model": {"path": "you/tiny", "format": "plain"},
    "sft": {**tiny_run.RECIPE["sft"], "epochs": 1, "evaluate_prompts": 0},
    "stage": [{**tiny_run.RECIPE["stage"][0], "steps": 3, "temperature": {"rule": "fixed", "value": 1.0}}],
}


def files(policy: Policy, folder: Path) -> dict[str, bytes]:
    policy.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, bytes]]:
    policy, folder = tiny_policy(), tmp_path_factory.mktemp("models")
    old = files(policy, folder / "old")
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(1.5)
    return {("you/tiny", OLD): old, ("you/tiny", NEW): files(policy, folder / "new")}


@pytest.fixture
def server(commits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """`main` is the old commit, for now."""
    for name in hub.PROXIES:
        monkeypatch.delenv(name, raising=False)
    with running(commits, {"main": OLD, "v2": NEW}) as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in (
            ("ENDPOINT", server.url), ("HUGGINGFACE_CO_URL_TEMPLATE", template), ("HF_HUB_OFFLINE", False),
            ("HF_HUB_CACHE", str(tmp_path / "cache")), ("HF_HUB_DISABLE_XET", True),
        ):  # fmt: skip
            monkeypatch.setattr(constants, name, value)
        hub.commit.cache_clear()
        yield server
        hub.commit.cache_clear()


def first(loaded: Any) -> torch.Tensor:
    weights: torch.Tensor = next(loaded.parameters())
    return weights.detach()


def test_everything_of_a_model_is_of_one_commit(server: Hub, commits: Any) -> None:
    old = first(model.load_model("you/tiny"))
    server.refs["main"] = NEW
    model.load_tokenizer("you/tiny")
    assert hub.commit("you/tiny") == OLD == fingerprint("you/tiny"), "asked once a process"
    for name in ("you/tiny@v2", f"you/tiny@{NEW}"):
        assert torch.equal(first(model.load_model(name)), 1.5 * old)
    assert not any("/resolve/main/" in asked for asked in server.asked)
    with pytest.raises(CheckpointError, match="you/tiny@v9 cannot be had from the hub"):
        model.load_model("you/tiny@v9")
    assert hub.cached("you/tiny@v9") is None and hub.cached(f"you/tiny@{NEW}") is not None
    assert _starting_at("you/tiny@v2") == ['model.path="you/tiny"', 'model.revision="v2"', "model.new="]


def go(run: runs.Run, until: str | None = None) -> None:
    with tiny_run.coin(), run:
        program.run_all(run, Quiet(), until)


def test_a_run_goes_on_with_the_commit_it_began_with(server: Hub, tmp_path: Path) -> None:
    recipe = config.parse(RECIPE)
    go(runs.create(tmp_path / "whole", recipe))
    go(runs.create(tmp_path / "run", recipe), "sft")
    began = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert began["model_revision"] == OLD == began["resolved"]["model"]["revision"]
    server.refs["main"] = NEW
    hub.commit.cache_clear()  # as in another process
    asked = len(server.asked)
    go(runs.resume(tmp_path / "run", recipe))
    assert not any(NEW in line or "main" in line for line in server.asked[asked:])
    weights = [
        (tmp_path / name / "models" / "math" / "model.safetensors").read_bytes() for name in ("whole", "run")
    ]
    assert weights[0] == weights[1]
    named = config.parse({**RECIPE, "model": {**RECIPE["model"], "revision": NEW}})
    with pytest.raises(RunError, match=r"model\.revision"):
        runs.resume(tmp_path / "run", named)


def test_a_revision_belongs_to_a_hubs_model(tmp_path: Path) -> None:
    for path in (str(tmp_path), None):
        wrong = {"path": path, "revision": "v1"} if path else {"new": {}, "revision": "v1"}
        with pytest.raises(Exception, match=r"model\.revision is of a hub's model"):
            config.parse({**RECIPE, "model": wrong})
