"""Names of models: a slip of the pen is said at once, and no hub is asked for a folder."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants, try_to_load_from_cache

from acereason.errors import CheckpointError
from acereason.policy import hub, model


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with runs in it, and no hub."""
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in hub.PROXIES:
        monkeypatch.delenv(name, raising=False)
    hub.commit.cache_clear()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("runs/deno", "there is no folder runs/deno; near: runs/demo"),
        ("./runs/deno", "there is no folder ./runs/deno; near: runs/demo"),
        ("/nowhere/at/all", "there is no folder /nowhere/at/all."),
        ("runs/demo/models/code", "there is no folder runs/demo/models/code."),
        ("model.gguf", "there is no folder model.gguf"),
        ("rums", "there is no folder rums here; near: runs, and http://127.0.0.1:9 cannot be reached"),
        ("Qwen/Qwen3-0.6B", "http://127.0.0.1:9 cannot be reached"),
        ("a b", "no model of the hub is called so"),
        ("", "config.json"),
    ],
)
def test_what_is_not_there_is_said_at_once(name: str, said: str) -> None:
    begun = time.monotonic()
    for load in (model.load_model, model.load_tokenizer):
        with pytest.raises(CheckpointError) as error:
            load(name)
        if name:
            assert said in str(error.value)
    assert time.monotonic() - begun < 5


def test_a_model_in_the_cache_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "a" * 40
    cache = tmp_path / "cache" / "models--you--tiny"
    (cache / "snapshots" / commit).mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit / "config.json").write_text("{}")
    looked = partial(try_to_load_from_cache, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(hub, "try_to_load_from_cache", looked)
    hub.check("you/tiny")
    assert hub.commit("you/tiny") == commit and hub.commit("runs/demo") is None
    with pytest.raises(CheckpointError):
        hub.check("you/other")
