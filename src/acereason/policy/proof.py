"""Whether a model may be learned in packs: shown on the model itself, once, when it is loaded.

Packs need attention that goes through `policy.attention` and layers that carry nothing else from token to
token. Families that the tests cover are known to be so. Any other model is run on two short sequences, packed
by us and alone by its own code; where the two differ, as with state-space layers or chunked attention, it is
refused rather than learned wrongly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from acereason.errors import CheckpointError
from acereason.policy import attention
from acereason.policy.output import float_logits, output_of
from acereason.policy.packing import Example, pack

TESTED = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3", "phi", "phi3"),
    *("olmo2", "granite", "gpt2", "gpt_neox", "starcoder2"),
)
LENGTHS = (9, 6)
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # of log-probabilities, in nats; 0.1 for halves


def check(model: Any) -> None:
    """CheckpointError when the model cannot be learned in packs. Dropout is turned off for good: sampler and
    trainer must be the same function."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    _check_rotation(model.config)
    if model.config.model_type in TESTED:
        return
    difference = packed_difference(model)
    if not difference <= TOLERANCE.get(model.dtype, 0.1):
        raise CheckpointError(
            f"a {model.config.model_type} model cannot be learned in packs: packed, its log-probabilities "
            f"differ by {difference:.3g} nats from its own. Decoder-only models whose layers mix tokens by "
            "causal attention alone are expected"
        )


def _check_rotation(config: Any) -> None:
    """One rotation for all lengths: the long one of LongRoPE would depend on what else is in the pack."""
    declared = getattr(config, "rope_parameters", None) or {}
    for rope in [declared, *(value for value in declared.values() if isinstance(value, dict))]:
        short = rope.get("original_max_position_embeddings")
        if rope.get("rope_type") == "longrope" and short and config.max_position_embeddings > short:
            raise CheckpointError(
                f"this model's rotation changes at {short} tokens (longrope); expected one rotation for all "
                f"lengths. Set model.context to at most {short}"
            )


@torch.no_grad()
def packed_difference(model: Any) -> float:
    """The largest difference of log-probabilities, in nats, between packed and own forward passes."""
    vocabulary = model.config.vocab_size
    ids = [[(7 * t + 3 * n + 1) % vocabulary for t in range(length)] for n, length in enumerate(LENGTHS)]
    try:
        packed = _packed(model, ids)
        own = [_own(model, row) for row in ids]
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"a {model.config.model_type} model does not take packed sequences: {error}"
        ) from error
    return max(float((a - b).abs().max()) for a, b in zip(packed, own, strict=True))


def _packed(model: Any, ids: list[list[int]]) -> list[Tensor]:
    """log softmax of every position [n, V] of each sequence, all in one pack."""
    packed = pack([Example(row[:1], row[1:], n) for n, row in enumerate(ids)], 0.0).to(model.device)
    hidden = model.base_model(
        input_ids=packed.tokens[None],
        position_ids=packed.positions[None],
        use_cache=False,
        **attention.pack_keywords(packed, model.dtype),
    ).last_hidden_state[0]
    logits = torch.split(float_logits(hidden, output_of(model)), [len(row) for row in ids])
    return [x.log_softmax(-1) for x in logits]


def _own(model: Any, row: list[int]) -> Tensor:
    model.set_attn_implementation("eager")
    try:
        logits = model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits[0]
    finally:
        model.set_attn_implementation(attention.NAME)
    log_p: Tensor = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
    return log_p
