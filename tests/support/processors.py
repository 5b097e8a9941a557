"""Kinds of processor that compiled code is tested for, as far as this machine can pass for them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from acereason.native import build
from acereason.sample.engines import native

NEEDS = {
    "portable": set[str](),
    "x86-64-v3": {"avx2", "fma"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512vl"},
    "cooperlake": {"avx512f", "avx512_bf16"},  # without tiles
    "sapphirerapids": {"amx_bf16", "avx512_bf16"},
}


@contextmanager
def compiled_for(processor: str) -> Iterator[ctypes.CDLL]:
    """All that is compiled within is for this processor. Skips where it cannot be compiled or run."""
    if build.find_compiler("c++") is None:
        pytest.skip("no compiler")
    if not NEEDS[processor] <= set(build.processor().split()):
        pytest.skip(f"this processor does not run {processor}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACEREASON_NATIVE_ARCH", processor)
        library, reason = native.open_library()
        if library is None and "march" in reason:
            pytest.skip(f"the compiler does not know {processor}")
        assert library is not None, reason
        yield library
