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
import resource
import socket
import sys
import warnings
from collections.abc import Callable

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


def main() -> None:
    """`math_worker.py DESCRIPTOR PATH…`: serve until the other side closes."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    sys.path[:0] = sys.argv[2:]
    compare = comparer()
    for reference, answer in WARM_UP:
        answered(compare, reference, answer)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with channel.makefile("rwb", buffering=0) as file:
        file.write(b'"ready"\n')
        for line in iter(file.readline, b""):
            file.write(json.dumps(answered(compare, *json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main()
