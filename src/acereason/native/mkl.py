"""Wide matrix products of PyTorch on AMD processors: one function inside Intel's MKL overridden.

The MKL that PyTorch bundles asks `mkl_serv_intel_cpu_true()` before it takes its widest kernels,
and takes narrower ones on AMD. A library that defines this function and is loaded with global
symbols *before* PyTorch answers for it. Processors with 512-bit units gain up to a factor of 2.5 in
float32 products; those that split such instructions in halves gain nothing. Results differ in
rounding from those without, so one run should do all its work with or all without.

This leans on an MKL internal. It is tried only on AMD x86-64 Linux, only before PyTorch is imported
and only with a C compiler; ACEREASON_FASTMATH=0 turns it off; and nothing here raises.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass

from acereason.native.build import build, load, processor

SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
_kept: list[ctypes.CDLL] = []


@dataclass(frozen=True, slots=True)
class FastMath:
    """Whether the override is in place, and why or why not in one line."""

    active: bool
    detail: str


def enable() -> FastMath:
    """Put the override in place if it is wanted and possible. Call before torch is imported."""
    if refusal := _refusal():
        return FastMath(bool(_kept), refusal)
    built = build("fastmath", SOURCE, "c", ("-O2",))
    library = load(built, ctypes.RTLD_GLOBAL)
    if library is None:
        return FastMath(False, built.reason if built.path is None else "the library did not load")
    _kept.append(library)
    return FastMath(True, f"MKL's widest kernels are on for this AMD machine ({built.reason})")


def _refusal() -> str | None:
    if os.environ.get("ACEREASON_FASTMATH") == "0":
        return "ACEREASON_FASTMATH=0"
    if _kept:
        return "already in place"
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return "only needed on x86-64 Linux"
    if "AuthenticAMD" not in processor():
        return "only needed on AMD processors"
    if "torch" in sys.modules:
        return "PyTorch was imported before; call enable() first"
    return None
