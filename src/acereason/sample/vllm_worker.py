"""What a vLLM server loads to take published weights whole: `--worker-extension-cls
acereason.sample.vllm_worker.Published`.

vLLM's own `reload_weights` reports success and leaves one layer behind where the output head is tied to the
embedding and the kernels keep a repacked copy of each weight (its CPU build does): the head is no layer of
the checkpoint, so nothing repacks it, and it goes on with the weights of before (0.3 to 0.5 nats off).
Here every layer that shares its weight with another is processed again after the reload.

Runs inside the server, so it imports nothing but the standard library. The server's environment needs this
package, not its dependencies: `pip install --no-deps acereason`, or its `src` on PYTHONPATH.
"""

from __future__ import annotations

from typing import Any


class Published:
    """Mixed into vLLM's worker, which brings `reload_weights` and `get_model`."""

    def load_published(self, folder: str) -> int:
        """Load the safetensors in `folder` in place; returns how many tied layers were refreshed."""
        worker: Any = self
        worker.reload_weights(weights_path=folder)
        return refresh_tied(worker.get_model())


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
