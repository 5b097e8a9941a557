"""The tokens of a cleaned text, for `parse.py`.

Runs of letters become functions, constants or single variables; a run of four or more that is no known
name is a word, and words are not mathematics. Derivatives are one token: nothing in them cancels.
"""

from __future__ import annotations

import re

MAX_TOKENS = 400


class Unparsed(Exception):
    """The text is outside the grammar."""


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


FUNCTIONS = word_set("sin cos tan cot sec csc sinh cosh tanh asin acos atan ln log lg exp sqrt abs")
COMPUTED = word_set(
    "sum prod int iint oint lim limsup liminf partial nabla max min gcd lcm sup inf det forall"
    " exists newcommand def begin end overbrace underbrace underset overset stackrel"
)
MARKS = word_set("overline bar vec hat tilde widehat overrightarrow underline dot mathbb")
WORDS = {
    "pi": ("const", "pi"), "infinity": ("const", "inf"), "infty": ("const", "inf"),
    "inf": ("const", "inf"), "oo": ("const", "inf"),
}  # fmt: skip
_GREEK = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon"
    " phi chi psi omega"
)
# Commands that stand for something; any other command that is not known is no mathematics of ours.
SYMBOLS = _GREEK | word_set(
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar ldots derivative imath jmath"
    " emptyset star square"
)
_TOKEN = re.compile(
    r"(?P<num>\d+(?:\.\d+)?(?:[eE][+-]?\d+(?![\w.]))?|\.\d+)|\\(?P<cmd>[A-Za-z]+)"
    r"|_\{(?P<sub>[A-Za-z][A-Za-z\d]+)\}|(?P<word>[A-Za-z]+)|(?P<sym>\\[{}|]|[-+*/^_(){}\[\]|!,'%:=<>])|(?P<gap>\s+)|(?P<bad>.)"
)
_NAME = r"(?:[A-Za-z]|\\[A-Za-z]+)(?:_(?:\w|\{\w+\}))?"
_ORDER = r"(?:\^(?:\w|\{\w+\}))?"
_ABOVE, _BELOW = rf"d\s*{_ORDER}\s*(?:{_NAME})?", rf"d\s*{_NAME}\s*{_ORDER}"
_QUOTIENT = re.compile(
    rf"\\frac\s*\{{\s*({_ABOVE})\s*\}}\s*\{{\s*({_BELOW})\s*\}}"
    rf"|(?<![A-Za-z\\])(d[A-Za-z])\s*/\s*(d[A-Za-z])(?![A-Za-z])"
)
Token = tuple[str, str]


def _derivative(match: re.Match[str]) -> str:
    """dv/dt as one variable that is called by what it derives, and by what."""
    above, below = match[1] or match[3], match[2] or match[4]
    return "\\derivative_{" + re.sub(r"[^A-Za-z\d]", "", above + "by" + below) + "}"


def tokenize(text: str) -> list[Token]:
    """Kind ("num", "cmd", "var", "sym") and text of each token. Raises Unparsed."""
    if "d" in text:
        text = _QUOTIENT.sub(_derivative, text)
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, value = str(match.lastgroup), match[0]
        if kind == "bad":
            raise Unparsed(f"unexpected {value!r}")
        if kind == "cmd":
            tokens.append(("cmd", match["cmd"]))
        elif kind == "sub":
            tokens += [("sym", "_"), ("var", match["sub"])]
        elif kind == "word":
            tokens += _letters(value)
        elif kind != "gap":
            tokens.append((kind, value.removeprefix("\\") if kind == "sym" else value))
        if len(tokens) > MAX_TOKENS:
            raise Unparsed("too long")
    return tokens


def _letters(run: str) -> list[Token]:
    if run in FUNCTIONS or run in WORDS or run in _GREEK:
        return [("cmd", run)]
    for name in ("sqrt", "pi"):
        if run.endswith(name) and len(run) - len(name) < 3:
            return [*_letters(run[: -len(name)]), ("cmd", name)] if run != name else []
    if len(run) > 3:
        raise Unparsed(f"the word {run!r}")
    return [("var", letter) for letter in run]
