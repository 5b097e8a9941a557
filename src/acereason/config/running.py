"""The machine's side: where sampling happens, how learning is laid out, what a run's folder keeps."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from acereason.config.struct import Count, Positive, Rate, Struct

LIMITS = {"plain": 0.02, "fp8": 0.1, "speculative": 0.02}  # nats, assumed; measured in float32 alone: 1e-6


class Servers(Struct, frozen=True):
    """vLLM servers that sample in place of the embedded sampler (docs/cluster.md).

    Weights are published as files in `folder`, which every server can read: all of them, or (`transfer` =
    "delta") what changed. Or they go to the servers directly, by vLLM's weight-transfer API: "stream" (TCP),
    "nccl" (between GPUs), "ipc" (within the GPUs that trainer and servers share); "auto" takes what placement
    and servers allow. `in_flight` requests are aborted while weights come, or kept. After each publish the
    log-probabilities of fixed prompts must agree with the trainer's within `canary` nats, on average; left
    out, within what is usual for the `kind` of server (`LIMITS`). `head` = "float32" and `invariant` ask for
    servers that compute so.
    `colocated` servers share the trainer's GPUs and sleep while it learns. `api_key` is the name of the
    environment variable that holds the servers' key."""

    urls: Annotated[tuple[str, ...], Meta(min_length=1)]
    folder: str = "/dev/shm/acereason"
    transfer: Literal["auto", "files", "delta", "stream", "nccl", "ipc"] = "files"
    in_flight: Literal["abort", "keep"] = "abort"
    colocated: bool = False
    canary: Rate | None = None
    kind: Literal["plain", "fp8", "speculative"] = "plain"
    head: Literal["any", "float32"] = "any"
    invariant: bool = False
    concurrency: Positive = 256  # requests in flight per server
    deadline: Rate = 3600.0  # seconds for one response
    api_key: str | None = None

    @property
    def limit(self) -> float:
        """Most nats that servers may be from the trainer."""
        return LIMITS[self.kind] if self.canary is None else self.canary


class Sampling(Struct, frozen=True):
    """Where responses are sampled: by `servers`, or embedded in the process, with so many places decoded
    together, threads, and whether the compiled step may be used."""

    slots: Positive = 256
    threads: Positive | None = None
    native: bool = True
    servers: Servers | None = None


class Placement(Struct, frozen=True):
    """How learning is laid out on the machine; `torchrun` says how many ranks there are. Parameters are kept
    in float32; `compute` is the type of the forward and backward pass, `reduce` that of gradient sums.
    `parallel`: ranks hold shards of the model, or on processors each all of it, which is quicker where it
    fits. `sequence` neighbouring ranks share every sequence, where sequences are long: each has a slice of
    its tokens, and some heads of attention (Ulysses). `offload`: what rests in the machine's memory while a
    GPU does not need it: the optimiser's moments, activations, or parameters with gradients and moments."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute: Literal["float32", "bfloat16"] = "float32"
    reduce: Literal["float32", "bfloat16"] = "float32"
    parallel: Literal["shard", "replicate"] = "shard"
    sequence: Positive = 1
    checkpoint_activations: bool = False
    offload: tuple[Literal["moments", "activations", "parameters"], ...] = ()
    kernels: Literal["auto", "torch"] = "auto"  # auto: Liger's on CUDA where it is installed
    compile: bool = False


class Keep(Struct, frozen=True):
    """What a run's folder keeps: the newest `checkpoints`, and the responses of the last so many RL steps
    (left out: of all; 0: none, and none of the evaluations either). Models of finished stages stay."""

    checkpoints: Positive = 2
    responses: Count | None = None
