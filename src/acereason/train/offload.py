"""What a GPU need not hold all the time rests in the machine's memory: moments, activations, parameters.

    moments      the optimiser's state; it comes over parameter by parameter, the next one while this one is
                 updated, and goes back (`Resting`): the same bits as without
    activations  what a forward pass keeps for the backward pass (`policy.activations`)
    parameters   float32 weights, gradients and moments, by FSDP2's own offloading (`train.parallel`); the
                 step is then the processor's

On a processor all of it is one memory, and nothing moves. `placement.offload` names them; what each costs in
time is in `acereason plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from acereason.policy.activations import HOST, copied
from acereason.train.held import laid_as, local


def moved(tensor: Any, device: torch.device) -> Any:
    """A tensor, or what this rank holds of one, on a device; the copy may still be under way."""
    return laid_as(tensor, copied(local(tensor), device))


class Resting:
    """Steps an optimiser whose state rests: one parameter at a time, the next one's state on its way."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._step: Callable[[], Any] = optimizer.step
        optimizer.step = self.step  # type: ignore[method-assign, assignment]
        optimizer.rest = self.rest  # type: ignore[attr-defined]
        self._streams: tuple[Any, Any] | None = None  # of CUDA: coming, going

    def step(self) -> None:
        """As the optimiser's own; its state is at rest before and after."""
        groups = self._optimizer.param_groups
        every = [(group, parameter) for group in groups for parameter in group["params"]]
        before = [group["params"] for group in groups]
        for group in groups:
            group["params"] = []
        try:
            coming = self._fetch(every[0][1]) if every else None
            for number, (group, parameter) in enumerate(every):
                self._arrive(parameter, coming)
                coming = self._fetch(every[number + 1][1]) if number + 1 < len(every) else None
                group["params"] = [parameter]
                self._step()
                group["params"] = []
                self._rest(parameter)
        finally:
            for group, parameters in zip(groups, before, strict=True):
                group["params"] = parameters
        if self._streams is not None:
            torch.cuda.synchronize()

    def rest(self) -> None:
        """Send the whole state to rest, e.g. after it was read."""
        for parameter in list(self._optimizer.state):
            self._rest(parameter)

    def _fetch(self, parameter: Tensor) -> dict[str, Any]:
        """The state of a parameter on its way to the parameter's device."""
        state = self._optimizer.state.get(parameter, {})
        with self._in_stream(parameter, 0):
            return {k: v if k == "step" else moved(v, _device(parameter)) for k, v in state.items()}

    def _arrive(self, parameter: Tensor, coming: dict[str, Any] | None) -> None:
        if coming:
            if self._streams is not None:
                torch.cuda.current_stream().wait_stream(self._streams[0])
            self._optimizer.state[parameter].update(coming)

    def _rest(self, parameter: Tensor) -> None:
        state = self._optimizer.state.get(parameter, {})
        with self._in_stream(parameter, 1):
            for key, value in state.items():
                if key != "step" and _device(value).type == "cuda":
                    state[key] = moved(value, HOST)
                    local(value).record_stream(torch.cuda.current_stream())

    @contextmanager
    def _in_stream(self, parameter: Tensor, which: int) -> Iterator[None]:
        """Within, copies go beside the updates; those that go wait for the update before."""
        if _device(parameter).type != "cuda":
            yield
            return
        self._streams = self._streams or (torch.cuda.Stream(), torch.cuda.Stream())
        if which:
            self._streams[1].wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._streams[which]):
            yield


def _device(tensor: Any) -> torch.device:
    where: torch.device = local(tensor).device
    return where
