"""Chance that depends on a record and a seed alone: the same record gets the same number
everywhere.

    chance(seed, "length", id) ∈ [0, 1)

A subset "of share q" keeps the records whose chance is below q, so a larger share contains a
smaller one, and neither the order nor the number of the other records matters.
"""

from __future__ import annotations

import hashlib


def chance(seed: int, *parts: str | int) -> float:
    """A number in [0, 1), uniform over `parts`, independent for every (seed, parts)."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53
