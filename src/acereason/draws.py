"""Chance without state: every draw is a hash of what it is for.

    draw_seed(run_seed, "math-8k", step, problem.id, 3)    64 bits, for a sample
    uniform(seed, t)                                       the number in [0, 1) that draws its token t
    chance(seed, "length", id)                             a number in [0, 1) for a record
    generator("traces", family, seed)                      a `random.Random` for what is built in sequence

Equal parts give equal draws on every machine, and unequal ones unrelated draws, so neither the order nor the
number of other draws matters and a resumed run has no random state to restore. A subset "of share q" keeps
the records whose chance is below q; a larger share contains a smaller one.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
STEP = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def draw_seed(*parts: int | str) -> int:
    """A 64-bit seed from what identifies a sample: `draw_seed(run_seed, "math-8k", step, id, 3)`."""
    state = 0
    for part in parts:
        data = part.to_bytes(16, "little", signed=True) if isinstance(part, int) else part.encode()
        data = bytes([isinstance(part, int)]) + len(data).to_bytes(4, "little") + data
        for start in range(0, len(data), 8):
            state = _splitmix(state ^ int.from_bytes(data[start : start + 8], "little"))
    return state


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that draws the token at `position` (0 = first response token)."""
    return (_splitmix(seed ^ _splitmix(position)) >> 11) * 2.0**-53


def uniforms(seeds: U64, positions: npt.NDArray[np.signedinteger[Any]]) -> npt.NDArray[np.float64]:
    """`uniform` for arrays."""
    high = finalise((seeds ^ finalise(positions.astype(np.uint64) + STEP)) + STEP) >> np.uint64(11)
    return high.astype(np.float64) * 2.0**-53


def finalise(values: U64) -> U64:
    """The finaliser of splitmix64: every output bit depends on every input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def chance(seed: int, *parts: str | int) -> float:
    """A number in [0, 1), uniform over `parts`, independent for every (seed, parts)."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def generator(*key: object) -> random.Random:
    """A generator seeded by a hash of the key's representation."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def _splitmix(value: int) -> int:
    """One output of splitmix64 (Steele, Lea and Flood 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
