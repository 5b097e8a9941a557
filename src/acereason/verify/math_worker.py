"""A process that asks math-verify whether a boxed answer is the reference. Started by exec;
killable.

Requests and replies are lines of JSON on one socket: `["reference", "answer"]` in, one of
`"equal"`, `"different"`, `"unreadable"` (the reference cannot be parsed) out. Its memory is
limited; it has no time limit of its own, since one multiplication of huge numbers cannot be
interrupted from within: whoever started it kills it.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acereason.verify.sandbox import confine, filters
else:
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox"))
    import confine
    import filters

    del sys.path[0]

MEMORY = 1 << 30  # bytes of address space
WARM_UP = (
    ("\\frac{1}{2}", "\\frac{2}{4}"), ("x^2+1", "1+x^2"), ("\\{1,2\\}", "\\{2,1\\}"),
    ("(1,2]", "(1,2]"), ("\\sin x", "\\cos x"), ("x>1", "1<x"),
)  # fmt: skip


def comparer() -> Callable[[str, str], str]:
    """Load math-verify, its own timers off: they need the main thread's signals."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    def compare(reference: str, answer: str) -> str:
        gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
        if len(gold) < 2:  # nothing, or the bare string
            return "unreadable"
        found = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
        return "equal" if verify(gold, found, timeout_seconds=None) else "different"

    return compare


def answered(compare: Callable[[str, str], str], reference: str, answer: str) -> str:
    """One comparison; whatever goes wrong in it means that equality was not shown."""
    try:
        return compare(reference, answer)
    except (Exception, RecursionError, MemoryError):
        return "different"


def confine_self() -> None:
    """On Linux: no writing of files, no processes, no network from here on, whatever the parser of
    model text might be talked into. Elsewhere the process is merely limited in memory."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    instructions = filters.build()
    if sys.platform == "linux" and instructions is not None:
        confine.no_new_privileges()
        confine.install_filter(instructions)


def main() -> None:
    """`math_worker.py DESCRIPTOR PATH…`: serve until the other side closes."""
    sys.path[:0] = sys.argv[2:]
    compare = comparer()
    for reference, answer in WARM_UP:
        answered(compare, reference, answer)
    confine_self()
    with open(int(sys.argv[1]), "r+b", buffering=0) as channel:
        channel.write(b'"ready"\n')
        while line := channel.readline():
            reply = answered(compare, *json.loads(line))
            channel.write(json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    main()
