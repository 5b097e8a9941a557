"""A process that asks math-verify whether a boxed answer is the reference. Started by exec;
killable.

Requests and replies are lines of JSON on one socket: `["reference", "answer", whole]` in, one of
`"equal"`, `"different"`, `"unreadable"` (the reference cannot be parsed) out; `whole` is how they are
read. Its memory is limited; it has no time limit of its own, since one multiplication of huge numbers
cannot be interrupted from within: whoever started it kills it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acereason.verify.sandbox import confine, filters
else:
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox"))
    import confine
    import filters

    del sys.path[0]

MEMORY = 1 << 30  # bytes of address space
DIGITS = 60  # to which numbers must agree; no decimals are put to math-verify, so none is rounded
ROW = "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"
WARM_UP = (
    ("\\frac{1}{2}", "\\frac{2}{4}"), ("x^2+1", "1+x^2"), ("\\{1,2\\}", "\\{2,1\\}"),
    ("(1,2]", "(1,2]"), ("\\sin x", "\\cos x"), ("x>1", "1<x"),
)  # fmt: skip
WARM_UP_WHOLE = (
    ("\\int_0^1 x dx", "\\frac{1}{2}"),
    ("a_n=\\sum_{k=0}^{n} a_k", "a_n=1+a_k"),
    (ROW, f"{ROW}+{ROW}"),
)


def comparer() -> Callable[[str, str, bool], str]:
    """Load math-verify, its own timers off: they need the main thread's signals. `whole` lets only
    its parser of LaTeX read the texts, from end to end; else it extracts what it likes from them."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    def compare(reference: str, answer: str, whole: bool = False) -> str:
        if whole:
            gold = parsed_whole(reference)
            return "unreadable" if gold is None else told(equal_whole(gold, parsed_whole(answer)))
        gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
        if len(gold) < 2:  # nothing, or the bare string
            return "unreadable"
        theirs = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
        return told(verify(gold, theirs, timeout_seconds=None))

    return compare


def told(equal: bool) -> str:
    return "equal" if equal else "different"


def parsed_whole(text: str) -> Any:
    """The text in SymPy's terms; None when the parser does not read all of it."""
    latex = importlib.import_module("latex2sympy2_extended.latex2sympy2")
    case_kept = latex.ConversionConfig(lowercase_symbols=False)
    try:
        return latex.latex2sympy(text, is_real=True, normalization_config=None, conversion_config=case_kept)
    except Exception:
        return None


def equal_whole(gold: Any, answer: Any) -> bool:
    """Equality of expressions, matrices and sets; an equation is equal to one with equal sides."""
    from math_verify import verify

    sympy = importlib.import_module("sympy")
    if gold is None or answer is None:
        return False
    if isinstance(gold, sympy.Eq) or isinstance(answer, sympy.Eq):
        if not (isinstance(gold, sympy.Eq) and isinstance(answer, sympy.Eq)):
            return False
        return equal_whole(gold.lhs, answer.lhs) and equal_whole(gold.rhs, answer.rhs)
    if isinstance(gold, sympy.Symbol) or isinstance(answer, sympy.Symbol):
        return bool(gold == answer)
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        ours, theirs = (
            sympy.bottom_up(tree, lambda node: node.func(*node.args)).doit() for tree in (gold, answer)
        )
        open_sums = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit)
        if ours == theirs or ours.has(*open_sums) or theirs.has(*open_sums):
            return bool(ours == theirs)  # simplifying what has no closed form takes seconds
    return bool(verify(gold, answer, float_rounding=DIGITS, numeric_precision=DIGITS, timeout_seconds=None))


def answered(compare: Callable[..., str], reference: str, answer: str, whole: bool = False) -> str:
    """One comparison; whatever goes wrong in it means that equality was not shown."""
    try:
        return compare(reference, answer, whole)
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
    for reference, answer in WARM_UP_WHOLE:
        answered(compare, reference, answer, True)
    confine_self()
    with open(int(sys.argv[1]), "r+b", buffering=0) as channel:
        channel.write(b'"ready"\n')
        while line := channel.readline():
            reply = answered(compare, *json.loads(line))
            channel.write(json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    main()
