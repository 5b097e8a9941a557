"""The arithmetic override is tried only where it can help, never fails, keeps PyTorch right."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from acereason.native import mkl as fastmath

PROGRAM = """
from acereason.native import mkl as fastmath
status = fastmath.enable()
import torch
a, b = torch.randn(70, 300), torch.randn(300, 90)
assert torch.allclose(a @ b, (a.double() @ b.double()).float(), atol=1e-4)
again = fastmath.enable()
print(status.active, again.active, status.detail)
"""


def run(**environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_products_stay_right_with_and_without() -> None:
    assert run().split()[0] in ("True", "False")
    assert run(ACEREASON_FASTMATH="0").strip() == "False False ACEREASON_FASTMATH=0"


def test_no_compiler_and_no_cache_folder_are_no_error() -> None:
    assert run(CC="/missing", ACEREASON_CACHE="/proc/none").startswith("False")
    assert run(ACEREASON_CACHE="/proc/none").startswith("False")


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastmath, "_kept", [])
    monkeypatch.delenv("ACEREASON_FASTMATH", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert fastmath.enable().detail == "only needed on x86-64 Linux"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(fastmath, "processor", lambda: "GenuineIntel")
    assert fastmath.enable().detail == "only needed on AMD processors"
    monkeypatch.setattr(fastmath, "processor", lambda: "AuthenticAMD")
    modules: dict[str, Any] = {"torch": sys}
    monkeypatch.setattr(sys, "modules", {**sys.modules, **modules})
    assert "imported before" in fastmath.enable().detail
