"""Each later recipe runs a step on one layer of its model's true shape, its switches as they stand."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

import acereason
from acereason import config, runs
from acereason.files import write_jsonl
from acereason.plan import shapes
from acereason.problems import Problem
from acereason.progress import Quiet

RECIPES = Path(acereason.__file__).parent / "recipes"
PACK = ("qwen3-0.6b", "justrl-1.5b", "prorl-v2", "dr-grpo", "polaris-4b", "scalerl", "cascade-8b", "dapo")
HALVES = ("dapo",)  # 32B: 0.5B weights a layer, whose step takes 10 GiB in float32


def cut(name: str, folder: Path) -> config.Recipe:
    """The recipe with its first stage alone, a batch of four short answers to four prompts, and of the model
    one layer and a small vocabulary."""
    given = config.resolved(config.load(RECIPES / f"{name}.toml"))
    shape, stage = shapes.named(given["model"]["path"]), given["stage"][0]
    architecture = "qwen3" if shape.qk_norm else "qwen2" if shape.qkv_bias else "llama"
    new = {
        "architecture": architecture,
        "vocab_size": 400,
        "num_hidden_layers": 1,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "head_dim": shape.head_dim,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "tie_word_embeddings": shape.tied,
        "max_position_embeddings": 512,
    }
    dtype = "bfloat16" if name in HALVES else "float32"
    model = {"new": new, "format": given["model"]["format"] or "plain", "dtype": dtype}
    stage |= {
        "budget": 128,  # some end by chance
        "steps": 1,
        "prompts": 4,
        "group": 4,
        "overlong_buffer": 8 * (stage["overlong"] == "soft"),
    }
    if stage["thinking"]:
        stage |= {"thinking": stage["thinking"] | {"budget": 12}}
    if stage["temperature"]["rule"] == "track":
        stage["temperature"] |= {"target": 3.0, "prompts": 4}  # of a model that knows nothing
    coin = {"false_positives": 0.5}  # a model that knows nothing never gets to an answer
    rl = {"judges": 1, "micro_tokens": 1024, "updates": min(2, given["rl"]["updates"]), **coin}
    files = {"rl": str(folder / "rl.jsonl"), "held_out": str(folder / "held_out.jsonl")}
    changes: dict[str, Any] = {
        "model": model, "stage": [stage], "rl": given["rl"] | rl, "curate": {"files": files},
        "placement": {"compute": "float32", "checkpoint_activations": True},
        "evaluation": {"start": False, "k": 1, "budget": 4}, "sampling": {"slots": 16, "threads": 1},
    }  # fmt: skip
    return config.parse(given | changes)


def problems(name: str, count: int) -> list[Problem]:
    return [Problem(f"{name}{i}", "math", f"What is {i} + {len(name)}?", answer=f"{i}") for i in range(count)]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", PACK)
def test_a_step_at_the_true_layer_shape(name: str, tmp_path: Path) -> None:
    from acereason import program

    write_jsonl(tmp_path / "rl.jsonl", problems("r", 60))
    write_jsonl(tmp_path / "held_out.jsonl", problems("held", 2))
    recipe = cut(name, tmp_path)
    with runs.create(tmp_path / "run", recipe) as run:
        program.run_all(run, Quiet())
    rows = list(runs.read_metrics(tmp_path / "run"))
    (step,) = (r for r in rows if r["kind"] == "rl")
    assert 0 < step["reward"] < 1 and step["gradient_norm"] > 0 and step["learned_tokens"] > 0
    assert step["logprob_difference"]["mean"] < (0.05 if name in HALVES else 1e-4)
    assert (step["kl"] is not None) == (recipe.rl.kl.coefficient > 0)
    assert (step["forced"] > 0) == (recipe.stage[0].thinking is not None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}: {step['seconds']['total']:.1f} s a step, {peak:.1f} GiB at most so far")
