"""The model that a recipe trains, and adapters over it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from acereason import prompts
from acereason.config.struct import Count, Positive, Rate, Struct


class NewModel(Struct, frozen=True):
    """A small model built here; the fields are those of the architecture's Hugging Face config."""

    architecture: Literal["qwen3", "qwen2", "llama"] = "qwen3"
    vocab_size: Positive = 512
    hidden_size: Positive = 128
    num_hidden_layers: Positive = 4
    num_attention_heads: Positive = 4
    num_key_value_heads: Positive = 1
    head_dim: Positive = 32
    intermediate_size: Positive = 384
    tie_word_embeddings: bool = True
    max_position_embeddings: Positive = 1024


class Model(Struct, frozen=True):
    """The base model: a Hugging Face folder or hub id (`path`), or a `new` one with its tokenizer.

    revision  commit, branch or tag of a hub id; a run keeps the commit that it began with
    format  how it is asked: chatml-1.1, deepseek-r1, plain, template (the model's own chat template), or own
            (the pieces in `prompt`); left out: as the model's folder says
    prompt  changes to that format: its system line and requests, or the pieces of one's own
    vocabulary  "data" cuts it, while the run lasts, to what the run's data need; an exported model has it
            whole again
    frozen_layers  embeddings and so many layers, from below, keep their weights, as a tied head does"""

    path: str | None = None
    revision: str | None = None
    new: NewModel | None = None
    format: str | None = None
    prompt: prompts.Settings | None = None
    rope_theta: Rate | None = None
    context: Positive | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    vocabulary: Literal["full", "data"] = "full"
    frozen_layers: Count = 0

    def __post_init__(self) -> None:
        if (self.path is None) == (self.new is None):
            raise ValueError("give either model.path or a [model.new] section, not both or neither")
        if self.revision is not None and (self.path is None or Path(self.path).expanduser().exists()):
            raise ValueError("model.revision is of a hub's model, and model.path names none")
        if self.new is not None and self.frozen_layers > self.new.num_hidden_layers:
            raise ValueError(
                f"model.frozen_layers is {self.frozen_layers}, and the new model has "
                f"{self.new.num_hidden_layers} layers; take fewer"
            )
        prompts.check(self.format, self.prompt)

    @property
    def source(self) -> str | None:
        """What is loaded: a folder or file, or a hub id with its revision, ID@REVISION."""
        return f"{self.path}@{self.revision}" if self.revision else self.path


class Lora(Struct, frozen=True):
    """Low-rank adapters over a frozen base: W + alpha / rank · B A in the linear layers named by `targets`
    (their last name; none: all of the decoder). `publish` says what servers get: merged weights, or the
    adapter alone, by vLLM's dynamic loading. `base` = "nf4" keeps the frozen layers in four bits (QLoRA), on
    one GPU."""

    rank: Positive = 16
    alpha: Rate = 32.0
    targets: tuple[str, ...] = ()
    publish: Literal["merged", "adapter"] = "merged"
    base: Literal["full", "nf4"] = "full"

    @property
    def scale(self) -> float:
        """What stands before B A."""
        return self.alpha / self.rank
