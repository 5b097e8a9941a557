"""The CUDA engine against the PyTorch one: on a GPU as it runs there, else in Triton's interpreter (where
Triton is installed at all, which CPU builds of torch do not do)."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from acereason.errors import SamplingError
from sample_models import make

SCRIPT = """
import sys
import numpy as np, torch
from acereason.policy.decoder import Rotation, read_shape
from acereason.policy.model import new_model
from acereason.sample.engines.cuda import CudaEngine
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.draws import draw_seed
from acereason.sample.protocol import Request

device, kind, count = torch.device(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_float32_matmul_precision("highest")
heads = {"head_dim": 32} if kind != "qwen2" else {}
model = new_model(kind, 1, vocab_size=300, hidden_size=192, num_hidden_layers=2, num_attention_heads=6,
    num_key_value_heads=2, intermediate_size=96, max_position_embeddings=4096, eos_token_id=3,
    tie_word_embeddings=kind != "llama", **heads)
with torch.no_grad():
    for name, p in model.named_parameters():
        if "bias" in name or "norm" in name:
            p.add_(torch.randn_like(p) * 0.3)
        if "lm_head" in name or "embed" in name:
            p.mul_(8)
model.to(device)
longest = 12 if device.type == "cpu" else 1500
requests = [
    Request([5, 6, 7 + i // 3] * (1 + i // 3), 2 + i * longest // count,
        0.7 + 0.8 * i / count if i else 1e-30, draw_seed(1, i), 1.0 if i % 2 else 0.9, key=i)
    for i in range(count)
]
plain = EmbeddedSampler(model, slots=3 + count // 3, native=False)
wanted = {c.request.key: c for c in plain.sample(requests)}
ours = EmbeddedSampler(model, slots=3 + count // 3, native=False)
graphs = device.type == "cuda"
shape = read_shape(model.config)
ours._engine = CudaEngine(shape, Rotation(model), 3 + count // 3, device, torch.float32, graphs)
ours.update(model)
found = {c.request.key: c for c in ours.sample(requests)}
assert found.keys() == wanted.keys()
same = 0
for key, want in wanted.items():
    got = found[key]
    n = min(len(want.tokens), len(got.tokens))
    differ = np.flatnonzero(want.tokens[:n] != got.tokens[:n])
    n = int(differ[0]) if len(differ) else n  # rounding may choose another token, after which all differs
    same += len(differ) == 0 and want.finish == got.finish
    for name in ("logprobs", "entropy", "entropy_1"):
        a, b = getattr(want, name)[:n], getattr(got, name)[:n]
        assert np.abs(a - b).max(initial=0.0) < 2e-4, (key, name, np.abs(a - b).max())
assert same >= 0.9 * count, (same, count)
print(same, count)
"""


def run(device: str, kind: str, count: int, **environment: str) -> None:
    command = [sys.executable, "-c", SCRIPT, device, kind, str(count)]
    whole = {**os.environ, **environment}
    done = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed (it comes with CUDA's torch)"
)
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_step_in_the_interpreter(kind: str) -> None:
    run("cpu", kind, 3, TRITON_INTERPRET="1")


@pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed (it comes with CUDA's torch)"
)
@pytest.mark.parametrize("dim", [2, 8, 24, 40, 96, 100])
def test_head_sizes_that_triton_has_no_tile_for_go_by_pytorch(dim: int) -> None:
    from acereason.policy.decoder import Rotation, read_shape
    from acereason.sample.engines import cuda, embedded

    model = make("qwen3", head_dim=dim)
    shape, rotation = read_shape(model.config), Rotation(model)
    with pytest.raises(SamplingError, match=f"not of {dim}"):
        cuda.CudaEngine(shape, rotation, 3, torch.device("cpu"))
    assert embedded._cuda(shape, rotation, 3, torch.device("cpu")) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_graphs_on_a_gpu(kind: str) -> None:
    run("cuda", kind, 40)
