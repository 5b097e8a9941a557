"""A run from a base model of a family of its own: cut vocabulary, bfloat16 products, resumed, exported
whole."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import tiny_run
from acereason import config, program, runs
from acereason.export import export
from acereason.policy import vocabulary
from acereason.procedural import generate
from acereason.progress import Quiet
from acereason.train import checkpoint
from families import make_family

ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Gemma 3 with a tokenizer of 1,500 byte pairs."""
    folder = tmp_path_factory.mktemp("base")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [p.question for p in generate(["largest", "lists"], None, 400, 3, "train")]
    texts += [f.read_text() for f in sorted(Path(vocabulary.__file__).parent.glob("*.py"))]
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    model = make_family("gemma3_text", vocab=1500, eos_token_id=1, pad_token_id=0, bos_token_id=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(base: Path, compute: str, lora: dict[str, Any] | None = None) -> config.Recipe:
    data = copy.deepcopy(tiny_run.RECIPE)
    data["model"] = {"path": str(base), "format": "plain", "vocabulary": "data"}
    data["sft"] = {"epochs": 1, "batch_tokens": 800, "evaluate_prompts": 0}
    data["placement"] = {"compute": compute, "parallel": "replicate"}
    data["model"]["frozen_layers"] = 1 if compute == "bfloat16" and lora is None else 0
    data["stage"] = [{**data["stage"][0], "steps": 2, "temperature": {}, "filter": {}}]
    return config.parse(data | ({"lora": lora} if lora else {}))


@pytest.mark.parametrize(
    ("compute", "lora"),
    [
        pytest.param("float32", None, marks=pytest.mark.slow),
        ("bfloat16", None),
        ("bfloat16", {"rank": 4, "alpha": 8.0}),
    ],
)
def test_a_run_and_its_export(
    base: Path,
    tmp_path: Path,
    compute: str,
    lora: dict[str, Any] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vocabulary.cut, "__defaults__", (100,))
    chosen = recipe(base, compute, lora)
    with tiny_run.coin(), runs.create(tmp_path / "run", chosen) as run:
        program.run_all(run, Quiet(), until="sft")
    with tiny_run.coin(), runs.resume(tmp_path / "run") as run:
        program.run_all(run, Quiet())
    check_export(base, tmp_path)
    if lora is None:
        check_frozen(base, tmp_path / "run", chosen.model.frozen_layers)
    else:  # over the base as published: adapters know no vocabulary
        adapter = load_file(export(tmp_path / "run", tmp_path / "adapter", adapter=True) / ADAPTER)
        whole, plain = (AutoModelForCausalLM.from_pretrained(f) for f in (tmp_path / "out", base))
        for name, weight in whole.named_parameters():
            at = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{at}.lora_A.weight" in adapter:
                product = 2.0 * adapter[f"{at}.lora_B.weight"] @ adapter[f"{at}.lora_A.weight"]
                assert torch.allclose(weight, plain.get_parameter(name) + product, atol=1e-5)


def check_frozen(base: Path, run: Path, count: int) -> None:
    """Which tensors the run moved, and that checkpoints hold these and no others."""
    before, after = (load_file(f / "model.safetensors") for f in (base, run / "models" / "math"))
    _, kept = vocabulary.read_kept(run / "models" / "math") or ("", [])
    before = {name: t[kept] if "embed" in name else t for name, t in before.items()}
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    below = {name for name in after if count and (".layers.0." in name or "embed" in name)}
    assert moved == set(after) - below
    (last,) = sorted((run / "checkpoints").glob("step-*"))[-1:]
    assert set(load_file(last / "weights.safetensors")) - {checkpoint.BASE} == moved


def check_export(base: Path, folder: Path) -> None:
    """Opens with transformers alone, has all the base's tokens, and says what the cut model says."""
    own = folder / "run" / "models" / "math"
    _, kept = vocabulary.read_kept(own) or ("", [])
    out = export(folder / "run", folder / "out")
    cut, whole, plain = (AutoModelForCausalLM.from_pretrained(f) for f in (own, out, base))
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    assert whole.config.vocab_size == 1500 > len(kept) == cut.config.vocab_size
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(base).get_vocab()
    ids = torch.tensor([[5, 3, 9, 40]])
    rows = torch.tensor(kept)
    assert torch.allclose(whole(rows[ids]).logits[..., rows], cut(ids).logits, atol=1e-5)
    dropped = torch.tensor(sorted(set(range(1500)) - set(kept)))
    same = torch.equal(
        whole.get_input_embeddings().weight[dropped], plain.get_input_embeddings().weight[dropped]
    )
    assert same and not (out / vocabulary.FILE).exists()


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True])
def test_ranks_that_each_hold_the_whole_model_learn_as_one(tmp_path: Path, adapted: bool) -> None:
    """Two processes without shards: the same losses as one, one set of files, a run that ends."""
    script = str(Path(tiny_run.__file__))
    stage = {**tiny_run.RECIPE["stage"][0], "steps": 2, "temperature": {}, "filter": {}}
    changes: dict[str, Any] = {"placement": {"parallel": "replicate"}, "stage": [stage]}
    if adapted:
        sft = {"epochs": 1, "batch_tokens": 640, "learning_rate": 2e-2, "evaluate_prompts": 0}
        changes |= {"lora": {"rank": 4, "alpha": 8.0}, "sft": sft}
    told = [script, str(tmp_path / "run"), "new", json.dumps(changes)]
    for name, start in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2"])):
        told[1] = str(tmp_path / name)
        done = subprocess.run([sys.executable, *start, *told], capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (list(runs.read_metrics(tmp_path / name)) for name in ("one", "two"))
    losses = [[row["loss"] for row in rows if row["kind"] == "sft"] for rows in (one, two)]
    assert len(losses[0]) == len(losses[1]) and losses[1][:8] == pytest.approx(losses[0][:8], abs=1e-3)
    steps = [[row["step"] for row in rows if row["kind"] == "rl"] for rows in (one, two)]
    assert steps[0] == steps[1]
