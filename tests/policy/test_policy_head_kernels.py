"""The head's Triton kernels against plain arithmetic in double precision, in Triton's interpreter on CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import torch
from acereason.policy import head_kernels as kernels
torch.manual_seed(0)
for rows, V in ((3, 50), (5, 4096), (2, 9001)):
    logits = torch.randn(rows, V) * 5
    targets, T = torch.randint(V, (rows,)), torch.rand(rows) + 0.4
    weight = torch.randn(rows)
    z = (logits.double() / T[:, None].double()).requires_grad_()
    logp = z.log_softmax(-1)
    chosen = logp.gather(1, targets[:, None])[:, 0]
    logprob, top, logmass, entropy = kernels.statistics(logits, targets, 1 / T)
    assert torch.allclose(logprob.double(), chosen, atol=1e-5)
    assert torch.equal(top, logits.amax(-1))
    assert torch.allclose(logmass.double(), z.logsumexp(-1) - top / T, atol=1e-5)
    assert torch.allclose(entropy.double(), -(logp.exp() * logp).sum(-1), atol=1e-5)
    (want,) = torch.autograd.grad((chosen * weight).sum(), z)
    got = kernels.gradient(logits, targets, 1 / T, top, logmass, weight, torch.float32)
    assert torch.allclose(got.double(), want / T[:, None], atol=1e-5)
    best, cold = logits.argmax(-1), torch.full_like(T, 1e30)
    logprob, top, logmass, entropy = kernels.statistics(logits, best, cold)
    assert logprob.abs().max() == 0 and entropy.abs().max() < 1e-6
    assert kernels.gradient(logits, best, cold, top, logmass, weight, torch.float32).abs().max() == 0
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_equal_plain_arithmetic() -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
