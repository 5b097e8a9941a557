"""Adapters alone on their way to a real vLLM server on CPU, under the canary, for ten steps of RL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from acereason import config, prepare, program, runs
from acereason.curate import tasks
from acereason.errors import SamplingError
from acereason.policy import model as models
from acereason.progress import Quiet
from real_vllm import PYTHON, Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PYTHON, reason="set ACEREASON_TEST_SERVER_PYTHON, or run make test-server"),
]
STEPS, RANK = 10, 16
ADAPTERS = ("--enable-lora", "--max-lora-rank", str(RANK))
SMOLLM2 = {
    "architecture": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64, "intermediate_size": 1536, "tie_word_embeddings": True,
    "max_position_embeddings": 256,
}  # fmt: skip


def base(folder: Path, shape: dict[str, Any], vocabulary: int | None = None) -> Path:
    """A model of random weights with a tokenizer that fits the tiny run's prompts."""
    new = {"vocab_size": 340, **shape}
    recipe = config.parse(tiny_run.RECIPE | {"model": {"format": "plain", "new": new}})
    data, _ = tasks.make(recipe.curate, recipe.of_data, folder)
    policy = prepare.policy_of(recipe, data)
    if vocabulary is not None:  # rows without tokens, as padded vocabularies have
        policy.model.resize_token_embeddings(vocabulary, mean_resizing=False)
    policy.save(folder / "base")
    return folder / "base"


def recipe(model: Path, url: str, folder: Path, stage: dict[str, Any], publish: str) -> config.Recipe:
    servers = {"urls": [url], "folder": str(folder / "weights"), "canary": 1e-4, "deadline": 120.0}
    changes = {
        "model": {"path": str(model), "format": "plain"},
        "lora": {"rank": RANK, "alpha": 32.0, "publish": publish},
        "sft": None,
        "stage": [
            {
                "name": "math",
                "domain": "math",
                "steps": STEPS,
                "learning_rate": 1e-3,
                "overlong": "zero",
                **stage,
            }
        ],
        "rl": {"judges": 1, "false_positives": 0.5},  # random weights get nothing right
        "evaluation": {"k": 1, "budget": 8, "start": False},
        "sampling": {"servers": servers, "threads": 1},
        "keep": {"checkpoints": 1},
    }
    return config.parse({k: v for k, v in (tiny_run.RECIPE | changes).items() if v is not None})


def reinforced(folder: Path, wanted: config.Recipe) -> list[dict[str, Any]]:
    """The rows of the steps of a run."""
    with runs.create(folder, wanted) as run:
        program.run_all(run, Quiet())
    rows = [row for row in runs.read_metrics(folder) if row["kind"] == "rl"]
    assert len(rows) == STEPS and sum(row["gradient_norm"] is not None for row in rows) >= STEPS - 2
    assert all(row["logprob_difference"]["max"] < 1e-3 for row in rows)
    return rows


def _factors(model: Path) -> int:
    """Bytes of all factors in float32."""
    matrices = [m for n, m in models.load_model(model).named_modules() if n.endswith("_proj")]
    return 4 * RANK * sum(sum(m.weight.shape) for m in matrices)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    folder = tmp_path_factory.mktemp("small")
    shape = tiny_run.RECIPE["model"]["new"] | {"num_hidden_layers": 2, "head_dim": 32}
    model = base(folder, shape)
    server = Served(model, folder / "log", 0, *ADAPTERS)
    try:
        server.wait()
        yield model, server
    finally:
        server.kill()


def test_ten_steps_publish_adapters_alone(small: tuple[Path, Served], tmp_path: Path) -> None:
    model, server = small
    stage = {"budget": 16, "group": 4, "prompts": 2}
    rows = reinforced(tmp_path / "run", recipe(model, server.url, tmp_path, stage, "adapter"))
    assert len({row["published_bytes"] for row in rows}) == 1
    layers = 7 * 2  # of two layers
    assert 0 < rows[0]["published_bytes"] - _factors(model) < 300 * layers + 2000, "and little beside factors"


def test_a_rank_that_the_server_cannot_hold_says_how(small: tuple[Path, Served], tmp_path: Path) -> None:
    model, server = small
    wanted = recipe(model, server.url, tmp_path, {"budget": 8, "group": 2, "prompts": 2}, "adapter")
    wanted = config.parse(config.resolved(wanted) | {"lora": {"rank": 32, "publish": "adapter"}})
    with pytest.raises(SamplingError, match="--max-lora-rank"):
        reinforced(tmp_path / "run", wanted)


@pytest.mark.skipif(
    "ACEREASON_TEST_SERVER_LARGE" not in os.environ, reason="minutes: set ACEREASON_TEST_SERVER_LARGE"
)
def test_of_smollm2s_shape_an_adapter_is_a_tenth_of_the_model(tmp_path: Path) -> None:
    model = base(tmp_path, SMOLLM2, 49152)
    size = sum(p.numel() for p in models.load_model(model).parameters())
    assert 134e6 < size < 135e6
    server = Served(model, tmp_path / "log", 0, *ADAPTERS)
    try:
        server.wait()
        stage = {"budget": 8, "group": 2, "prompts": 2}
        rows = reinforced(tmp_path / "run", recipe(model, server.url, tmp_path, stage, "adapter"))
    finally:
        server.kill()
    sizes = {row["published_bytes"] for row in rows}
    share = max(sizes) / (4 * size)
    print(
        f"adapters of {max(sizes):,} bytes: {share:.1%} of the model in float32, {2 * share:.1%} in bfloat16"
    )
    assert share <= 0.05  # 10 % where the model is published in bfloat16
