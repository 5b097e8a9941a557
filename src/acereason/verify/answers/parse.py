"""A bounded subset of LaTeX, and of what people type instead of it, as a tree.

    expression   sums, products (also implied), quotients, powers, roots, functions, |x|, ⌊x⌋, n!,
    binom leaves       ("num", Fraction), ("var", name), ("const", "pi" | "e" | "i" | "inf") nodes
    ("add", …), ("mul", …), ("div", a, b), ("pow", a, b), ("neg", a), ("fn", name, …),
                 ("pm", sign, a), ("deg", a)

Bounds: MAX_TOKENS tokens, MAX_DEPTH nested groups. What the grammar does not know raises
`Unparsed`; so does a symbol that stands for a computation (sum, integral, limit): those are never
evaluated.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

MAX_TOKENS = 400
MAX_DEPTH = 40
Tree = tuple[Any, ...]


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
_WORDS = {
    "pi": ("const", "pi"), "infinity": ("const", "inf"), "infty": ("const", "inf"),
    "inf": ("const", "inf"), "oo": ("const", "inf"),
}  # fmt: skip
_GREEK = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon"
    " phi chi psi omega"
)
_TOKEN = re.compile(
    r"(?P<num>\d+(?:\.\d+)?(?:[eE][+-]?\d+(?![\w.]))?|\.\d+)|\\(?P<cmd>[A-Za-z]+)"
    r"|(?P<word>[A-Za-z]+)|(?P<sym>\\[{}|]|[-+*/^_(){}\[\]|!,'%:=<>])|(?P<gap>\s+)|(?P<bad>.)"
)
Token = tuple[str, str]


def tokenize(text: str) -> list[Token]:
    """The tokens of a cleaned text. Runs of letters become functions, constants or single
    variables; a run of four or more that is no known name is a word, and words are not
    mathematics."""
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, value = str(match.lastgroup), match[0]
        if kind == "bad":
            raise Unparsed(f"unexpected {value!r}")
        if kind == "cmd":
            tokens.append(("cmd", match["cmd"]))
        elif kind == "word":
            tokens += _letters(value)
        elif kind != "gap":
            tokens.append((kind, value.removeprefix("\\") if kind == "sym" else value))
        if len(tokens) > MAX_TOKENS:
            raise Unparsed("too long")
    return tokens


def _letters(run: str) -> list[Token]:
    if run in FUNCTIONS or run in _WORDS or run in _GREEK:
        return [("cmd", run)]
    for name in ("sqrt", "pi"):
        if run.endswith(name) and len(run) - len(name) < 3:
            return [*_letters(run[: -len(name)]), ("cmd", name)] if run != name else []
    if len(run) > 3:
        raise Unparsed(f"the word {run!r}")
    return [("var", letter) for letter in run]


def parse(text: str) -> Tree:
    """The tree of one expression. Raises Unparsed."""
    parser = _Parser(tokenize(text))
    tree = parser.stacked()
    if parser.position != len(parser.tokens):
        raise Unparsed(f"left over: {parser.peek()}")
    return tree


class _Parser:
    """Recursive descent; each method reads one level of the grammar and returns its tree."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.position, self.depth = tokens, 0, 0

    def peek(self) -> Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def accept(self, *values: str) -> str | None:
        kind, value = self.peek()
        if value in values and kind in ("sym", "cmd"):
            self.position += 1
            return value
        return None

    def expect(self, value: str) -> None:
        if self.accept(value) is None:
            raise Unparsed(f"expected {value!r}, found {self.peek()}")

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unparsed("too deep")
        terms = [self.signed()]
        while sign := self.accept("+", "-", "pm", "mp"):
            terms.append(_with_sign(sign, self.product()))
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def signed(self) -> Tree:
        sign = self.accept("+", "-", "pm", "mp")
        return self.product() if sign is None else _with_sign(sign, self.signed())

    def product(self) -> Tree:
        tree = self.power()
        while True:
            if self.accept("*", "cdot"):
                tree = ("mul", tree, self.factor())
            elif self.accept("/"):
                tree = ("div", tree, self.factor())
            elif (mixed := self.mixed_number(tree)) is not None:
                tree = mixed
            elif self.starts_factor():
                right = self.power()
                tree = _mixed(tree, right) or ("mul", tree, right)
            else:
                return tree

    def mixed_number(self, whole: Tree) -> Tree | None:
        """`3 1/2` after its 3 was read."""
        ahead = self.tokens[self.position : self.position + 3]
        if whole[0] != "num" or [k for k, _ in ahead] != ["num", "sym", "num"]:
            return None
        top, bottom = _number(ahead[0][1]), _number(ahead[2][1])
        tree = _mixed(whole, ("div", ("num", top), ("num", bottom)))
        if ahead[1][1] != "/" or tree is None:
            return None
        self.position += 3
        return tree

    def factor(self) -> Tree:
        sign = self.accept("+", "-")
        return self.power() if sign is None else _with_sign(sign, self.factor())

    def starts_factor(self) -> bool:
        kind, value = self.peek()
        if kind in ("num", "var"):
            return True
        if kind == "cmd":
            return value not in (
                "cdot",
                "rfloor",
                "rceil",
                "over",
                "choose",
                "pm",
                "mp",
                "le",
                "ge",
            )
        return value in ("(", "{", "[")

    def power(self) -> Tree:
        tree = self.postfixed(self.atom())
        if self.peek() == ("sym", "^"):
            self.position += 1
            if self.peek() == ("sym", "*"):
                self.position += 1
            exponent = self.exponent()
            if exponent == ("cmd", "circ"):
                return self.postfixed(("deg", tree))
            tree = self.postfixed(("pow", tree, exponent))
        return tree

    def postfixed(self, tree: Tree) -> Tree:
        while mark := self.accept("!", "%"):
            tree = ("fn", "factorial", tree) if mark == "!" else ("div", tree, ("num", Fraction(100)))
        return tree

    def exponent(self) -> Tree:
        if self.accept("circ"):
            return ("cmd", "circ")
        if self.peek() == ("sym", "{"):
            if self.tokens[self.position + 1 : self.position + 3] == [
                ("cmd", "circ"),
                ("sym", "}"),
            ]:
                self.position += 3
                return ("cmd", "circ")
            return self.group()
        sign = self.accept("-", "+")
        tree = self.atom()
        if self.peek() == ("sym", "^"):
            self.position += 1
            tree = ("pow", tree, self.exponent())
        return _with_sign(sign or "+", tree)

    def group(self) -> Tree:
        self.expect("{")
        tree = self.stacked()
        self.expect("}")
        return tree

    def stacked(self) -> Tree:
        """A sum, or two of them with `\\over` or `\\choose` between."""
        tree = self.sum()
        if self.accept("over"):
            return ("div", tree, self.sum())
        return ("fn", "binom", tree, self.sum()) if self.accept("choose") else tree

    def argument(self) -> Tree:
        """The argument of a command: a group, or one token; a number gives one digit."""
        kind, value = self.peek()
        if kind == "num" and value.isdigit() and len(value) > 1:
            self.tokens[self.position] = ("num", value[1:])
            return ("num", Fraction(int(value[0])))
        return self.group() if (kind, value) == ("sym", "{") else self.atom()

    def atom(self) -> Tree:
        kind, value = self.take()
        if kind == "num":
            return ("num", _number(value))
        if kind == "var":
            return self.variable(value)
        if kind == "cmd":
            return self.command(value)
        if value == "{":
            self.position -= 1
            return self.group()
        if value in ("(", "["):
            tree = self.stacked()
            self.expect(")" if value == "(" else "]")
            return tree
        if value == "|":
            tree = self.sum()
            self.expect("|")
            return ("fn", "abs", tree)
        raise Unparsed(f"unexpected {value!r}")

    def variable(self, name: str) -> Tree:
        if self.accept("_"):
            name += "_" + self.flat()
        while self.accept("'"):
            name += "'"
        return ("const", name) if name in ("e", "i") else ("var", name)

    def flat(self) -> str:
        """A subscript as text."""
        if not self.accept("{"):
            return self.take()[1]
        depth, parts = 1, []
        while depth:
            kind, value = self.take()
            if kind == "end":
                raise Unparsed("unclosed subscript")
            depth += (value == "{") - (value == "}")
            parts.append(value)
        return "".join(parts[:-1])

    def command(self, name: str) -> Tree:
        if name in ("frac", "binom"):
            top = self.argument()
            bottom = self.argument()
            return ("div", top, bottom) if name == "frac" else ("fn", "binom", top, bottom)
        if name in _WORDS:
            return _WORDS[name]
        if name == "sqrt":
            return self.root()
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("lfloor", "lceil"):
            tree = self.sum()
            self.expect("rfloor" if name == "lfloor" else "rceil")
            return ("fn", "floor" if name == "lfloor" else "ceil", tree)
        if name in MARKS:
            return ("var", name + "{" + self.flat() + "}")
        if name in COMPUTED:
            raise Unparsed(f"\\{name}")
        return self.variable("\\" + name)

    def root(self) -> Tree:
        index: Tree = ("num", Fraction(2))
        if self.accept("["):
            index = self.sum()
            self.expect("]")
        return ("fn", "root", self.argument(), index)

    def function(self, name: str) -> Tree:
        base = exponent = None
        for _ in range(2):
            if self.accept("_"):
                base = self.argument()
            elif self.accept("^"):
                exponent = self.exponent()
        if exponent == ("neg", ("num", Fraction(1))) and name in ("sin", "cos", "tan"):
            name, exponent = "a" + name, None
        inside = self.function_argument()
        tree: Tree = ("fn", name, inside) if base is None else ("fn", name, inside, base)
        return tree if exponent is None else ("pow", tree, exponent)

    def function_argument(self) -> Tree:
        """What a function applies to: a bracket, or the factors up to the next function or sign."""
        if self.peek() in (("sym", "("), ("sym", "["), ("sym", "{"), ("sym", "|")):
            inside = self.atom()
            if self.peek() != ("sym", "^"):
                return inside
            self.position += 1
            return ("pow", inside, self.exponent())
        tree = self.power()
        while self.starts_factor() and self.peek()[1] not in FUNCTIONS - {"sqrt"} | {"(", "["}:
            tree = ("mul", tree, self.power())
        return tree


def _with_sign(sign: str, tree: Tree) -> Tree:
    if sign == "+":
        return tree
    return ("neg", tree) if sign == "-" else ("pm", 1 if sign == "pm" else -1, tree)


def _mixed(left: Tree, right: Tree) -> Tree | None:
    """A whole number followed by a proper fraction of whole numbers is their sum: 3\\frac12."""
    if left[0] == "num" and right[0] == "div" and right[1][0] == right[2][0] == "num":
        whole, top, bottom = left[1], right[1][1], right[2][1]
        if all(x.denominator == 1 for x in (whole, top, bottom)) and 0 < top < bottom:
            return ("num", whole + top / bottom)
    if left[0] == "num" and right[0] == "num":
        raise Unparsed("two numbers side by side")
    return None


def _number(text: str) -> Fraction:
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > 1000 or len(exponent) > 5:
        raise Unparsed("number too long")
    if exponent and abs(int(exponent)) > 5000:
        raise Unparsed("exponent too large")
    return Fraction(f"0{mantissa}") * Fraction(10) ** int(exponent or 0)
