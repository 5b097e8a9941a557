"""Supervised fine-tuning (recipe §1)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta

from acereason.config.struct import MICRO, Count, Micro, Positive, Rate, Share, Struct

Fault = Literal["empty", "cut", "own_end", "open_thinking", "too_long"]  # of a trace


class Sft(Struct, frozen=True):
    """Supervised fine-tuning on the traces: packed, loss on the response only (recipe §1). A batch holds at
    most `batch_tokens` tokens, and the batches of an epoch are as even as its examples allow."""

    epochs: Positive = 5
    batch_tokens: Positive = 32768
    micro_tokens: Micro = MICRO
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: Rate = 5e-5
    matrix_learning_rate: Rate = 0.02  # Muon's, for the matrices; AdamW takes `learning_rate` elsewhere
    warmup: Share = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    moments: Literal["float32", "8bit"] = "float32"  # of AdamW, for matrices
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-4
    clip_gradient: Rate = 1.0
    evaluate_prompts: Count = 128  # held-out prompts per domain after each epoch; 0 = none
    held_out: Count = 0  # SFT prompts whose traces are not learned; their loss is taken after each epoch
    keep: Literal["last", "best"] = "last"  # the epoch whose weights SFT ends with; best: by that loss
    set_aside: tuple[Fault, ...] = get_args(Fault)  # kinds of traces that are counted and not learned

    @property
    def micro(self) -> int:
        """Tokens of a micro-batch; the default where they are measured and have not been yet."""
        return MICRO if self.micro_tokens == "measured" else self.micro_tokens

    def __post_init__(self) -> None:
        if self.keep == "best" and not self.held_out:
            raise ValueError("sft.keep = 'best' needs sft.held_out prompts to tell the best by")
