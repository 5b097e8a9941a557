"""Loading, building, running and saving the policy: an ordinary Hugging Face causal language model.

The model is the transformers class of its checkpoint, with attention over packs (`policy.attention`) and
the tempered head (`policy.head`) in place of its own loss. What is saved opens with
`AutoModelForCausalLM` and `AutoTokenizer` and nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers import logging as transformers_logging

from acereason import kinds, ranks, weights
from acereason.convert import converted, is_gguf
from acereason.errors import CheckpointError
from acereason.policy import activations, attention, compiled_pass, hub, lora, proof, sequence, shards
from acereason.policy.activations import work_device
from acereason.policy.head import tempered_logprobs
from acereason.policy.marks import marks_of
from acereason.policy.output import output_of
from acereason.policy.packing import Example, Pack, packs, packs_by_prompt
from acereason.policy.sharing import Shared, share
from acereason.policy.state import full_tensors

Model = Any  # a transformers PreTrainedModel for causal language modelling
Tokenizer = Any  # a transformers PreTrainedTokenizerFast


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder or hub id."""
    place = located(path)
    try:
        return AutoTokenizer.from_pretrained(str(place), trust_remote_code=False)
    except (OSError, ValueError) as error:
        _check_kind(place)
        raise CheckpointError(f"no tokenizer could be loaded from {path}: {first_line(error)}") from error


def load_model(
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    rope_theta: float | None = None,
    context: int | None = None,
) -> Model:
    """The causal language model of a checkpoint folder or hub id, ready for packs.

    `rope_theta` and `context` (max_position_embeddings) override the checkpoint's, as the recipe does to
    open the context of Qwen2.5-Math (1e4 → 1e6). Only safetensors are read and no remote code is run."""
    path = located(path, weights_too=True)
    _check_kind(path)
    model, report = _loaded(path, dtype, rope_theta, context)
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if wrong:
        raise CheckpointError(
            f"the weights in {path} are not those of a {type(model).__name__}: {len(wrong)} tensors are "
            f"missing, unexpected or of another shape, e.g. {wrong[0]}"
        )
    _check_tying(model, path)
    proof.check(model)
    return model.train()


def _loaded(
    path: Path, dtype: torch.dtype, rope_theta: float | None, context: int | None
) -> tuple[Model, dict[str, Any]]:
    """The model as transformers reads it, and its report of tensors that do not fit."""
    try:
        config = read_config(path, rope_theta, context)
        with _quiet():
            loaded: tuple[Model, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
                str(path),
                config=config,
                dtype=dtype,
                attn_implementation=attention.NAME,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, and refused by the caller with the tensor's name
            )
            return loaded
    except CheckpointError:
        raise
    except Exception as error:  # safetensors and transformers raise bare Exceptions for damaged files
        raise CheckpointError(
            f"no causal language model could be loaded from {path}: {first_line(error)}. Expected a "
            "Hugging Face folder with config.json and *.safetensors"
        ) from error


def _check_tying(model: Model, path: str | Path) -> None:
    """One matrix where the configuration says so; CheckpointError when the file holds two that differ."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not model.config.get_text_config().tie_word_embeddings or head.weight is embedding.weight:
        return
    if not torch.equal(head.weight, embedding.weight):
        raise CheckpointError(shards.TWO_HEADS.format(path=path))
    head.weight = embedding.weight


def empty_model(
    path: str | Path, dtype: torch.dtype, rope_theta: float | None, context: int | None
) -> tuple[Model, Path]:
    """As `load_model`, with parameters that have no storage yet, and the folder to fill them from
    (`policy.shards.fill`) when they are sharded."""
    folder = located(path, weights_too=True)
    _check_kind(folder)
    try:
        with _quiet():
            return shards.empty_model(read_config(folder, rope_theta, context), folder, dtype), folder
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no causal language model is in {path}: {first_line(error)}") from error


def located(path: str | Path, weights_too: bool = False) -> Path:
    """The folder of a checkpoint: of a GGUF file, or a package's model, the one made from it; of a hub's
    model (ID or ID@REVISION) the one in the cache, filled from one commit."""
    if (packaged := weights.name_of(str(path))) is not None:
        return Path(weights.fetched(packaged))
    if is_gguf(path):
        return converted(path)
    hub.check(path)
    folder = Path(path).expanduser()
    return folder if folder.is_dir() else hub.folder(str(path), hub.WEIGHTS if weights_too else hub.TEXT)


def _check_kind(path: str | Path) -> None:
    """CheckpointError when a folder is of another kind than a model's; it says which."""
    folder = Path(path).expanduser()
    if folder.is_dir() and not (folder / "config.json").exists():
        raise CheckpointError(f"{path} is {kinds.said(folder)}. {hub.EXPECTED}")


def read_config(path: str | Path, rope_theta: float | None, context: int | None) -> Any:
    """The checkpoint's configuration with the recipe's changes."""
    config = AutoConfig.from_pretrained(str(path), trust_remote_code=False)
    if rope_theta is not None:
        config.rope_parameters = {**(config.rope_parameters or {}), "rope_theta": rope_theta}
    if context is not None:
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope" and rope.get("factor") is None:  # else taken from the context
            short = rope["original_max_position_embeddings"]
            config.rope_parameters = {**rope, "factor": config.max_position_embeddings / short}
        config.max_position_embeddings = context
    return config


def new_model(architecture: str, seed: int, dtype: torch.dtype = torch.float32, **shape: Any) -> Model:
    """A randomly initialised model; `shape` are fields of the architecture's config, e.g. hidden_size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.for_model(architecture, **shape)
        return AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention.NAME
        ).train()


def save(model: Model, tokenizer: Tokenizer | None, folder: Path) -> None:
    """Write an ordinary Hugging Face checkpoint (safetensors), adapters merged. Collective when the
    model is sharded; then it is written in the type that the model computes in, by the first rank."""
    with _quiet():
        if any(isinstance(p, DTensor) for p in model.parameters()):
            shards.write(model, folder, compute_dtype(model))
        elif ranks.main():
            whole = {"state_dict": dict(full_tensors(model))} if lora.settings_of(model) else {}
            model.save_pretrained(folder, **whole)
    if tokenizer is not None and ranks.main():
        tokenizer.save_pretrained(folder)


def save_ends(folder: Path, end_ids: Sequence[int]) -> None:
    """Name all ends of a response in a saved model's generation config, for whoever serves it."""
    try:
        generation = GenerationConfig.from_pretrained(folder)
    except OSError:
        generation = GenerationConfig()
    generation.eos_token_id = list(end_ids)
    generation._from_model_config = False  # else transformers may read the ends of config.json again
    generation.save_pretrained(folder)


def logprobs(model: Model, pack: Pack, temperature: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
    """log π_T of every predicted token of the pack [M] with gradient, and H_T in nats [M] without, on CPU.

    By compiled code where that is possible (`policy.compiled_pass`), else by PyTorch."""
    compiled = compiled_pass.logprobs(model, pack, temperature)
    if compiled is not None:
        return compiled
    # on a sharded model a method, made by `train.parallel`, that gathers the weights before
    own: Any = model if isinstance(model, FSDPModule) else None
    run = partial(packed_logprobs, model) if own is None else own.packed_logprobs
    result: tuple[Tensor, Tensor] = run(pack, temperature)
    return result


def packed_logprobs(model: Model, pack: Pack, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """As `logprobs`, by PyTorch; on the processor prompts that responses share are computed once."""
    if (part := sequence.of(model)) is not None:
        return _shared_logprobs(model, pack, temperature, part)
    laid: Pack | Shared | None = share(pack) if work_device(model).type == "cpu" else None
    laid = pack.to(work_device(model)) if laid is None else laid
    output = _hidden(model, laid, **attention.pack_keywords(laid, compute_dtype(model)))
    hidden_ME = output[laid.predictors]
    targets = pack.targets.to(work_device(model))
    logprob, entropy = tempered_logprobs(hidden_ME, output_of(model), targets, temperature)
    return logprob.cpu(), entropy.cpu()


def _hidden(model: Model, laid: Pack | Shared | sequence.Slice, **layout: Any) -> Tensor:
    """The last hidden states [N, E]."""
    with activations.resting(model):
        output = model.base_model(
            input_ids=laid.tokens[None], position_ids=laid.positions[None], use_cache=False, **layout
        )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def _shared_logprobs(
    model: Model, pack: Pack, temperature: float | Tensor, part: sequence.Part
) -> tuple[Tensor, Tensor]:
    """As `packed_logprobs`, a slice of the pack on each rank of the group, of which all get the whole."""
    whole = part.padded(pack).to(work_device(model))
    own = part.slice(whole)
    output = _hidden(model, own, pack_part=part, **attention.pack_keywords(whole, compute_dtype(model)))
    hidden, targets = output[own.predictors], whole.targets[own.chosen]
    T = temperature[own.chosen.cpu()] if isinstance(temperature, Tensor) and temperature.ndim else temperature
    own_numbers = tempered_logprobs(hidden, output_of(model), targets, T)
    logprob, entropy = (part.whole(x, own.chosen, len(whole.targets)).cpu() for x in own_numbers)
    return logprob, entropy


def compute_dtype(model: Model) -> torch.dtype:
    """The type of the forward pass: the parameters' own, or what sharding casts them to."""
    return marks_of(model).compute or model.dtype


def micro_batches(model: Model, examples: Sequence[Example], budget: int) -> list[Pack]:
    """All examples as packs of about `budget` tokens, laid out as suits what `logprobs` will run."""
    if work_device(model).type == "cpu":
        return packs_by_prompt(examples, budget)
    return packs(examples, budget, waste(model))


def waste(model: Model) -> float:
    """The share of a pack's places that may be filler."""
    return 0.0 if attention.takes_any_lengths(work_device(model), compute_dtype(model)) else 0.1


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text that already contains whatever special tokens it needs."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def end_tokens(model: Model, tokenizer: Tokenizer) -> list[int]:
    """The ids that end a response: those of the generation config and of the tokenizer."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    ids: Sequence[int | None] = declared if isinstance(declared, list) else [declared]
    return sorted({i for i in [*ids, tokenizer.eos_token_id] if i is not None})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own bars and load reports; what matters in them becomes our errors."""
    verbosity, bars = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for putting into ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
