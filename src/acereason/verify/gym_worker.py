"""A process that scores an answer by the scorer of a reasoning-gym generator. Started by exec; killable.

Requests and replies are lines of JSON on one socket: `["generator", entry, "answer" or null]` in, the score,
a number from 0 to 1, or `"unreadable"` (no such generator, or an entry that its scorer cannot read) out. Some
scorers evaluate what they are given, so the process is confined as that of math-verify is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acereason.verify import math_worker
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import math_worker

    del sys.path[0]

Scorer = Callable[[str | None, dict[str, Any]], float]


@cache
def scorer(generator: str) -> Scorer:
    """The generator's own scorer."""
    from reasoning_gym.factory import get_score_answer_fn

    score: Scorer = get_score_answer_fn(generator)
    return score


def scored(generator: str, entry: dict[str, Any], answer: str | None) -> float | str:
    """The score. What a scorer cannot read of an answer scores 0; of its own answer it must make 1, or the
    entry is unreadable."""
    try:
        score = scorer(generator)
    except (ImportError, ValueError):
        return "unreadable"
    try:
        return min(1.0, max(0.0, float(score(answer, entry))))
    except (Exception, RecursionError, MemoryError):
        return 0.0 if _reads(score, entry) else "unreadable"


def _reads(score: Scorer, entry: dict[str, Any]) -> bool:
    try:
        return entry.get("answer") is None or float(score(entry["answer"], entry)) >= 1.0
    except Exception:
        return False


def main() -> None:
    """`gym_worker.py DESCRIPTOR PATH…`: serve until the other side closes."""
    sys.path[:0] = sys.argv[2:]
    scorer("chain_sum")  # loads every generator, before nothing can be loaded from outside
    math_worker.confine_self()
    with open(int(sys.argv[1]), "r+b", buffering=0) as channel:
        channel.write(b'"ready"\n')
        while line := channel.readline():
            channel.write(json.dumps(scored(*json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main()
