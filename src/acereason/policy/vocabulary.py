"""The vocabulary cut to what some texts need, and put back.

    made = cut(model, tokenizer, used)       in place: rows of embedding and head; a tokenizer over them
    restore(whole, model, kept)              the trained rows back among those that were cut

A task uses a few thousand of a model's 50,000 to 260,000 tokens, and on a processor a small model spends most
of its time and memory on the rest. What is kept: the tokens of the texts, whatever they are merged from,
special tokens, every byte (so that any text stays tokenisable) and the tokens of the first merges, the
commonest pieces of words. Every merge that made a token of the texts is kept, and none is added, so the texts
are tokenised as before: byte-pair encoding takes the first applicable merge, and those that were taken are
all there.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acereason.errors import CheckpointError

FILE = "vocabulary.json"  # beside a cut model: which ids of its base were kept, in order
FIRST_MERGES = 4000
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "unk_token_id")


@dataclass(frozen=True, slots=True)
class Cut:
    """The tokenizer over the kept tokens, and the old id of each new one."""

    tokenizer: Any
    kept: list[int]


def cut(model: Any, tokenizer: Any, used: Iterable[int], pieces: int = FIRST_MERGES) -> Cut:
    """Cut a model's embedding and head in place to what texts need that have the tokens `used`, and to the
    tokens of the first merges, so many `pieces`.

    Raises CheckpointError for a tokenizer that is not byte-pair encoding over bytes."""
    made = cut_tokenizer(tokenizer, {*used, *_declared(model)}, pieces)
    take(model, made.kept)
    return made


def take(model: Any, kept: Sequence[int]) -> None:
    """Cut a model's embedding and head in place to the ids that are `kept`, in their order. What it says of
    other tokens is gone, and its log-probabilities are those among the kept ones."""
    rows, new = torch.tensor(kept), {old: new for new, old in enumerate(kept)}
    _take_rows(model.get_input_embeddings(), rows)
    if model.get_output_embeddings().weight.shape[0] != len(rows):
        _take_rows(model.get_output_embeddings(), rows)
    model.config.vocab_size = len(rows)
    for config in (model.config, model.generation_config):
        for name in SPECIAL:
            value = getattr(config, name, None)
            if value is not None:
                some = isinstance(value, list)
                setattr(config, name, [new[i] for i in value if i in new] if some else new.get(value))
    model.tie_weights()


def _declared(model: Any) -> set[int]:
    """The ids that the model's configurations name."""
    ids: set[int] = set()
    for config in (model.config, model.generation_config):
        for name in SPECIAL:
            value = getattr(config, name, None)
            ids.update(value if isinstance(value, list) else [] if value is None else [value])
    return {i for i in ids if 0 <= i < model.config.vocab_size}


def _take_rows(layer: Any, rows: torch.Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[rows].clone(), layer.weight.requires_grad)
    if getattr(layer, "bias", None) is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[rows].clone(), layer.bias.requires_grad)
    for name in ("num_embeddings", "out_features"):
        if hasattr(layer, name):
            setattr(layer, name, len(rows))
    if getattr(layer, "padding_idx", None) is not None:
        layer.padding_idx = None


def cut_tokenizer(tokenizer: Any, used: Iterable[int], pieces: int = FIRST_MERGES) -> Cut:
    """A tokenizer that gives texts that have only the tokens `used` the same tokens, under new ids."""
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = _vocabulary(whole, tokenizer)
    names = {i: token for token, i in vocabulary.items()}
    wanted = {*used, *tokenizer.all_special_ids, *tokenizer.encode("", add_special_tokens=True)}
    kept = _closed({names[i] for i in wanted if i in names}, whole["model"], vocabulary, pieces)
    order = sorted(kept, key=lambda token: vocabulary[token])
    return Cut(_rebuilt(tokenizer, whole, order), [vocabulary[token] for token in order])


def _vocabulary(whole: dict[str, Any], tokenizer: Any) -> dict[str, int]:
    """Every token with its id, the added ones included."""
    model = whole["model"]
    bytewise = model.get("byte_fallback") or "ByteLevel" in json.dumps(whole.get("pre_tokenizer") or {})
    if model.get("type") != "BPE" or not bytewise:
        raise CheckpointError(
            f"this tokenizer ({model.get('type')}) cannot be cut: byte-pair encoding over bytes, or with "
            'bytes to fall back to, is expected. Leave model.vocabulary at "full"'
        )
    added: dict[str, int] = {token["content"]: token["id"] for token in whole["added_tokens"]}
    return {**model["vocab"], **added}


def _pairs(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges, which older files write as one string each."""
    split = (m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"])
    return [(a, b) for a, b in split]


def _closed(wanted: set[str], model: dict[str, Any], vocabulary: dict[str, int], pieces: int) -> set[str]:
    """The tokens with all that they are merged from, every byte, and the commonest pieces."""
    from tokenizers.pre_tokenizers import ByteLevel

    pairs = _pairs(model)
    basic = {*ByteLevel.alphabet(), *string.printable, "▁", *(f"<0x{i:02X}>" for i in range(256))}
    wanted |= basic | {a + b for a, b in pairs[:pieces]}
    parents: dict[str, list[tuple[str, str]]] = {}
    for a, b in pairs:
        parents.setdefault(a + b, []).append((a, b))
    kept, waiting = set[str](), [token for token in wanted if token in vocabulary]
    while waiting:
        token = waiting.pop()
        if token not in kept:
            kept.add(token)
            waiting += [part for pair in parents.get(token, ()) for part in pair if part in vocabulary]
    return kept


def _rebuilt(tokenizer: Any, whole: dict[str, Any], order: Sequence[str]) -> Any:
    """An ordinary fast tokenizer over the tokens in `order`."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    new = {token: i for i, token in enumerate(order)}
    added = [{**t, "id": new[t["content"]]} for t in whole["added_tokens"] if t["content"] in new]
    model = whole["model"]
    merges = [[a, b] for a, b in _pairs(model) if a in new and b in new and a + b in new]
    ordinary = {token: i for token, i in new.items() if token in model["vocab"]}
    made = {**whole, "added_tokens": added, "model": {**model, "vocab": ordinary, "merges": merges}}
    _renumber(made.get("post_processor"), new)
    special = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    result = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(made)),
        clean_up_tokenization_spaces=False,
        model_max_length=tokenizer.model_max_length,
        **special,
    )
    result.chat_template = tokenizer.chat_template
    return result


def _renumber(node: Any, new: dict[str, int]) -> None:
    """Put new ids into a post-processor, which names tokens beside their ids."""
    if isinstance(node, dict):
        if "ids" in node and "tokens" in node:
            node["ids"] = [new[token] for token in node["tokens"]]
        node = list(node.values())
    if isinstance(node, list):
        if len(node) == 2 and isinstance(node[0], str) and isinstance(node[1], int) and node[0] in new:
            node[1] = new[node[0]]
        for inner in node:
            _renumber(inner, new)


@torch.no_grad()
def restore(whole: Any, model: Any, kept: Sequence[int]) -> None:
    """Put a cut model's weights into the model that it was cut from, in place; rows that were cut stay as
    they were. CheckpointError when it was not cut from this one."""
    own, trained = dict(whole.named_parameters()), dict(model.named_parameters())
    rows = torch.tensor(kept)
    if own.keys() != trained.keys() or (len(kept) and int(rows.max()) >= whole.config.vocab_size):
        raise CheckpointError("the model was not cut from this base; expected the same architecture")
    for name, tensor in trained.items():
        if own[name].shape == tensor.shape:
            own[name].copy_(tensor)
        elif own[name].shape[1:] == tensor.shape[1:] and len(tensor) == len(rows):
            own[name].index_copy_(0, rows, tensor.to(own[name].dtype))
        else:
            raise CheckpointError(f"{name} is {tuple(tensor.shape)}; {tuple(own[name].shape)} was expected")


def write_kept(folder: Path, base: str, kept: Sequence[int]) -> None:
    """Say beside a cut model which ids of which base it has."""
    (folder / FILE).write_text(json.dumps({"base": base, "kept": list(kept)}))


def read_kept(folder: Path) -> tuple[str, list[int]] | None:
    """The base and the kept ids of a cut model; None for a whole one."""
    file = folder / FILE
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    return kept["base"], kept["kept"]


@dataclass(frozen=True, slots=True)
class Whole:
    """A model with its own tokenizer, and the ids that end a response."""

    model: Any
    tokenizer: Any
    ends: list[int]


def restored(folder: Path) -> Whole | None:
    """The whole model of a folder that holds a cut one; None when it holds a whole one.

    The base is read again: CheckpointError when it is not there any more."""
    from acereason.policy import model as models  # late: it saves with this module

    record = read_kept(folder)
    if record is None:
        return None
    base, kept = record
    try:
        whole, tokenizer = models.load_model(base), models.load_tokenizer(base)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} has a vocabulary cut from {base}, which is needed to put the rest back: {error}"
        ) from error
    own = models.load_model(folder)
    restore(whole, own, kept)
    return Whole(whole, tokenizer, [kept[i] for i in models.end_tokens(own, models.load_tokenizer(folder))])
