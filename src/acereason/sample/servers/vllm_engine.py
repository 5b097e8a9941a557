"""A weight-transfer engine for vLLM that takes weights by TCP (`stream`). Loaded inside a server only; it is
chosen by `--weight-transfer-config '{"backend": "acereason_stream"}'` and registered by the worker extension.

vLLM's own engines need CUDA. This one runs on every build, and takes the same four calls: init, start,
update, finish. What goes wrong is kept in `fault`, for an exception that leaves a worker ends the server.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from acereason.sample.servers.stream import received
from acereason.sample.servers.vllm_worker import refresh_tied


@dataclass
class Address(WeightTransferInitInfo):  # type: ignore[misc]
    """Where the trainer listens."""

    host: str
    port: int
    token: str


@dataclass
class Coming(WeightTransferUpdateInfo):  # type: ignore[misc]
    """The tensors of an update, in the order that they come."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


class StreamEngine(WeightTransferEngine[Address, Coming]):  # type: ignore[misc]
    """See the module."""

    init_info_cls, update_info_cls = Address, Coming

    def init_transfer_engine(self, init_info: Address) -> None:
        self.address, self.fault = asdict(init_info), ""

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        self.fault = ""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self._guarded(lambda: self.receive_weights(self.parse_update_info(update_info)))

    def receive_weights(self, update_info: Coming) -> None:
        coming = received(self.address, update_info.names, update_info.dtype_names, update_info.shapes)
        for name, tensor in coming:
            self.model.load_weights([(name, tensor.to(self.device))])

    def finish_weight_update(self) -> None:
        self._guarded(self._finish)

    def _finish(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        refresh_tied(self.model)

    def _guarded(self, act: Any) -> None:
        try:
            act()
        except Exception as error:
            self.fault = self.fault or f"{type(error).__name__}: {error}"

    def shutdown(self) -> None:
        """Nothing is held between updates."""
