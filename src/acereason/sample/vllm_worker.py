"""The public name of `Published`, which servers are started with; it stands in `servers.vllm_worker`."""

from acereason.sample.servers.vllm_worker import Published

__all__ = ["Published"]
