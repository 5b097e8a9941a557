"""What a vLLM server loads to take published weights whole: `--worker-extension-cls
acereason.sample.vllm_worker.Published`.

vLLM's own `reload_weights` reports success and leaves one layer behind where the output head is tied to the
embedding and the kernels keep a repacked copy of each weight (its CPU build does): the head is no layer of
the checkpoint, so nothing repacks it, and it goes on with the weights of before (0.3 to 0.5 nats off).
Here every layer that shares its weight with another is processed again after the reload. A reload that
fails is reported instead of raised, for vLLM ends a server whose worker raises.

It also brings an engine of vLLM's weight transfer that needs no CUDA (`vllm_engine`).

Runs inside the server, so it imports what a server has and nothing else. The server's environment needs this
package, not its dependencies: `pip install --no-deps acereason`, or its `src` on PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

SHAPE = (
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"),
    *("num_attention_heads", "num_key_value_heads", "tie_word_embeddings"),
)  # what must agree between the policy's configuration and the served one


def shape_of(settings: Any) -> dict[str, Any]:
    """The parts of a Hugging Face configuration that weights must agree with."""
    return {name: getattr(settings, name, None) for name in SHAPE}


def _register() -> None:
    """Make our weight-transfer engine known, where this is a server."""
    if "vllm" in sys.modules:
        from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

        with contextlib.suppress(ValueError):  # it is known already
            where = "acereason.sample.servers.vllm_engine"
            WeightTransferEngineFactory.register_engine("acereason_stream", where, "StreamEngine")


with contextlib.suppress(ImportError):  # vLLM before 0.12 has no such API; files do there
    _register()


class Published:
    """Mixed into vLLM's worker, which brings `reload_weights`, `get_model` and its configuration."""

    _copy: Any = None  # of the published weights, on this machine

    def served_facts(self) -> dict[str, Any]:
        """What the trainer checks before it publishes: the model's shape, and how it is served."""
        worker: Any = self
        served = worker.model_config
        return {
            "shape": shape_of(served.hf_config),
            "logprobs_mode": str(served.logprobs_mode),
            "device": str(worker.device.type),
            "gpu": gpu_of(worker.device),
            **how_served(worker.vllm_config),
        }

    def transfer_fault(self) -> str:
        """What went wrong with the weights that came last; empty when nothing did."""
        worker: Any = self
        return str(getattr(worker.weight_transfer_engine, "fault", ""))

    def patch_published(self, folder: str, copy: str) -> dict[str, Any]:
        """Bring this machine's copy of the weights up to what `folder` holds (`delta`): {"folder": the copy,
        "changed": tensors}, {"missing": what it is} where that takes all weights, or {"error": why}."""
        from acereason.sample.servers import delta

        where = delta.place(copy)
        try:
            if self._copy is None or self._copy.folder != where:
                self.drop_published()
                self._copy = delta.Copy(where)
                delta.sweep(where)
            return {"folder": str(where), "changed": self._copy.take(Path(folder))}
        except delta.Missing as missing:
            return {"missing": str(missing)}
        except Exception as error:  # as in `load_published`
            return {"error": f"{type(error).__name__}: {error}"}

    def drop_published(self) -> None:
        """Delete the copy of the weights."""
        if self._copy is not None:
            self._copy.drop()
            self._copy = None

    def load_published(self, folder: str) -> dict[str, Any]:
        """Load the safetensors in `folder` in place: {"refreshed": number of tied layers}, or {"error": why}
        with weights that must not be used."""
        worker: Any = self
        try:
            worker.reload_weights(weights_path=folder)
            return {"refreshed": refresh_tied(worker.get_model())}
        except (
            Exception
        ) as error:  # vLLM and safetensors raise many kinds, and one that escapes ends the server
            return {"error": f"{type(error).__name__}: {error}"}


def how_served(settings: Any) -> dict[str, Any]:
    """What of a server's settings moves its log-probabilities: quantised or speculative, the head's type, and
    whether its numbers depend on the batch; and how weights can come."""
    model, transfer = settings.model_config, getattr(settings, "weight_transfer_config", None)
    quantised = getattr(model, "quantization", None)
    kind = "speculative" if getattr(settings, "speculative_config", None) else "plain"
    return {
        "kind": "fp8" if quantised and "fp8" in str(quantised) else kind,
        "head": str(getattr(model, "head_dtype", "")).removeprefix("torch.") or None,
        "invariant": os.environ.get("VLLM_BATCH_INVARIANT", "0") == "1",
        "transfer": None if transfer is None else str(transfer.backend),
    }


def gpu_of(device: Any) -> str | None:
    """The name that CUDA's drivers give a GPU, the same in every process; None for a processor."""
    if device.type != "cuda":
        return None
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def refresh_tied(model: Any) -> int:
    """Process the weights of layers that share theirs with another one, as after loading."""
    owners: dict[int, list[Any]] = {}
    for layer in model.modules():
        weight = layer._parameters.get("weight")
        if weight is not None and getattr(layer, "quant_method", None) is not None:
            owners.setdefault(id(weight), []).append(layer)
    tied = [layer for layers in owners.values() if len(layers) > 1 for layer in layers]
    for layer in tied:
        layer.quant_method.process_weights_after_loading(layer)
    return len(tied)
