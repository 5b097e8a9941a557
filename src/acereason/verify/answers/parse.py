"""A bounded subset of LaTeX, and of what people type instead of it, as a tree.

Expressions: sums, products (also implied), quotients, powers, roots, functions, |x|, ⌊x⌋, n!, binom.

    leaves  ("num", Fraction), ("var", name), ("const", "pi" | "e" | "i" | "inf")
    nodes   ("add", …), ("mul", a, b), ("div", a, b), ("pow", a, b), ("neg", a), ("fn", name, …),
            ("call", f, x, …), ("pm", sign, a), ("deg", a)

f(3), I(t) and g(x, y), a name before plain arguments, are calls of an unknown function; `products`
turns those into products whose name is multiplied elsewhere. Bounds: MAX_TOKENS tokens, MAX_DEPTH nested
groups. What the grammar does not know raises `Unparsed`; so does a symbol that stands for a computation
(sum, integral, limit): those are never evaluated.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from acereason.verify.answers.tokens import FUNCTIONS, MARKS, SYMBOLS, WORDS, Token, Unparsed, tokenize

MAX_DEPTH = 40
Tree = tuple[Any, ...]


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
                if self.peek()[0] == "num" and self.tokens[self.position - 1][0] in ("var", "num"):
                    raise Unparsed("a number right behind a letter or a number")
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
        return self.called(tree)

    def called(self, tree: Tree) -> Tree:
        """f(3), f(x, y), f^{-1}(2): a call, when a name stands before plain arguments."""
        name = tree[1] if tree[0] == "pow" and tree[2] == _MINUS_ONE else tree
        if name[0] != "var" or self.peek() != ("sym", "("):
            return tree
        start = self.position
        self.position += 1
        arguments = [self.sum()]
        while self.accept(","):
            arguments.append(self.sum())
        self.expect(")")
        if len(arguments) > 1 or name == ("var", "f") or _plain(arguments[0]):
            return self.raised(("call", tree, *arguments))
        self.position = start
        return tree

    def raised(self, tree: Tree) -> Tree:
        if self.accept("^"):
            tree = ("pow", tree, self.exponent())
        return self.postfixed(tree)

    def postfixed(self, tree: Tree) -> Tree:
        while mark := self.accept("!", "%"):
            if mark == "%":
                tree = ("div", tree, ("num", Fraction(100)))
                continue
            double = self.accept("!")
            if double and self.accept("!"):
                raise Unparsed("three factorial signs")
            tree = ("fn", "double factorial" if double else "factorial", tree)
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
        if name in WORDS:
            return WORDS[name]
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
        if name not in SYMBOLS:
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


_MINUS_ONE: Tree = ("neg", ("num", Fraction(1)))


def _plain(tree: Tree) -> bool:
    """A number, a variable, a constant, or minus one of those: what a function is taken of."""
    if tree[0] in ("neg", "deg"):
        return _plain(tree[1])
    return tree[0] in ("num", "var", "const") or (tree[0] == "div" and tree[1][0] == tree[2][0] == "num")


def multiplied(tree: Tree) -> frozenset[str]:
    """Names of the variables that stand in a tree otherwise than as the name of a call."""
    if tree[0] == "var":
        return frozenset((tree[1],))
    parts = tree[2:] if tree[0] == "call" else tree[1:]
    return frozenset().union(*(multiplied(part) for part in parts if isinstance(part, tuple)))


def products(tree: Tree, names: frozenset[str]) -> Tree:
    """The tree with calls of these names read as products."""
    if tree[0] == "call" and len(tree) == 3:
        base = tree[1][1] if tree[1][0] == "pow" else tree[1]
        if base[1] in names:
            return ("mul", tree[1], products(tree[2], names))
    return tuple(products(part, names) if isinstance(part, tuple) else part for part in tree)


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


def signs(tree: Tree) -> tuple[Tree, ...]:
    """The tree for the upper and the lower of its ± signs; one tree when it has none."""
    upper, lower = _signed(tree, 1), _signed(tree, -1)
    return (upper,) if upper == lower else (upper, lower)


def _signed(tree: Tree, sign: int) -> Tree:
    if tree[0] == "pm":
        inside = _signed(tree[2], sign)
        return inside if tree[1] * sign > 0 else ("neg", inside)
    return tuple(_signed(part, sign) if isinstance(part, tuple) else part for part in tree)
