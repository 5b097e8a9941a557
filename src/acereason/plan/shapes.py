"""The shapes of models by name: those that the plan knows, a recipe's, and a folder's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from acereason.config import Model
from acereason.errors import ConfigError
from acereason.shape import Shape


def _qwen25(hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, tied: bool) -> Shape:
    vocab = 151_936 if hidden < 3584 else 152_064
    return Shape(vocab, hidden, layers, heads, kv_heads, 128, intermediate, tied)


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int, tied: bool) -> Shape:
    return Shape(151_936, hidden, layers, heads, 8, 128, intermediate, tied, qkv_bias=False, qk_norm=True)


SHAPES = {
    "qwen2.5-math-1.5b": _qwen25(1536, 28, 12, 2, 8960, tied=True),
    "qwen2.5-math-7b": _qwen25(3584, 28, 28, 4, 18944, tied=False),
    "qwen2.5-14b": _qwen25(5120, 48, 40, 8, 13824, tied=False),
    "qwen2.5-32b": _qwen25(5120, 64, 40, 8, 27648, tied=False),
    "deepseek-r1-distill-qwen-1.5b": _qwen25(1536, 28, 12, 2, 8960, tied=False),
    "nemotron-research-reasoning-qwen-1.5b": _qwen25(1536, 28, 12, 2, 8960, tied=False),
    "qwen3-0.6b": _qwen3(1024, 28, 16, 3072, tied=True),
    "qwen3-4b": _qwen3(2560, 36, 32, 9728, tied=True),
    "qwen3-8b-base": _qwen3(4096, 36, 32, 12288, tied=False),
    "qwen2.5-0.5b": Shape(151_936, 896, 24, 14, 2, 64, 4864, True),
    "smollm2-135m-instruct": Shape(49_152, 576, 30, 9, 3, 64, 1536, True, qkv_bias=False),
    "gemma-3-270m": Shape(262_144, 640, 18, 4, 1, 256, 2048, True, qkv_bias=False, qk_norm=True, norms=4),
    "llama-3.1-8b": Shape(128_256, 4096, 32, 32, 8, 128, 14336, False, qkv_bias=False, qk_norm=False),
}


def named(name: str) -> Shape:
    """A shape by name, the owner's part of a hub id and "package:" left out; or of a folder with a
    config.json.

    Raises ConfigError for one that is not known."""
    if (Path(name) / "config.json").exists():
        return _of_folder(Path(name))
    key = name.partition("@")[0].rsplit("/", 1)[-1].removeprefix("package:").lower()
    if key not in SHAPES:
        raise ConfigError(
            f"the shape of {name!r} is not known; known: {', '.join(SHAPES)}, or a folder with a config.json"
        )
    return SHAPES[key]


def of(model: Model) -> Shape:
    """The shape of a recipe's model."""
    if model.path is not None:
        return named(model.path)
    new = model.new
    assert new is not None
    return Shape(
        new.vocab_size,
        new.hidden_size,
        new.num_hidden_layers,
        new.num_attention_heads,
        new.num_key_value_heads,
        new.head_dim,
        new.intermediate_size,
        new.tie_word_embeddings,
        qkv_bias=new.architecture == "qwen2",
        qk_norm=new.architecture == "qwen3",
    )


def _of_folder(folder: Path) -> Shape:
    try:
        return Shape.read(SimpleNamespace(**json.loads((folder / "config.json").read_text())))
    except AttributeError as error:
        raise ConfigError(
            f"{folder}/config.json does not describe a Llama-family model: it has no {error.name}"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{folder}/config.json does not describe a Llama-family model: {error}") from error
