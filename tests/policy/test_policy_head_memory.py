"""What the head holds at the size that the recipe needs, measured as the process's peak."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from acereason.policy.head import tempered_logprobs
torch.set_num_threads(2)
tokens, vocabulary, hidden = int(sys.argv[1]), 151936, 16
h = torch.randn(tokens, hidden, requires_grad=True)
w = torch.randn(vocabulary, hidden, requires_grad=True)
targets = torch.randint(vocabulary, (tokens,))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB
tempered_logprobs(h[:8], w, targets[:8])[0].sum().backward()
before = peak()
logprob, entropy = tempered_logprobs(h, w, targets, 0.8)
(logprob * torch.rand(tokens)).sum().backward()
assert torch.isfinite(logprob).all() and torch.isfinite(h.grad).all()
print(peak() - before)
"""


def peak(tokens: int) -> float:
    """GiB above what was there before, forward and backward."""
    command = [sys.executable, "-c", SCRIPT, str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_logits_are_not_kept() -> None:
    """All logits would take 1.16 GiB. (The C library once kept them: see policy.head.)"""
    assert peak(2048) < 0.4


@pytest.mark.slow
def test_head_at_full_vocabulary_and_length_stays_small() -> None:
    """All logits would take 18.5 GiB."""
    assert peak(32768) < 1.5
