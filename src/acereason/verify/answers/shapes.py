"""What kind of thing an answer is: a value with a unit, a list, a set, a tuple, an interval, a
relation, a matrix, a text.

`read` turns cleaned text into one of the shapes below, or raises `Unparsed`. A unit is read off a
value here; words that are no unit are not dropped, since "5 or maybe 6" is not 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from acereason.verify.answers.clean import ROW, without_texts
from acereason.verify.answers.parse import MAX_DEPTH, Tree, Unparsed, parse
from acereason.verify.answers.rational import Irrational, TooLarge, Undefined, rational
from acereason.verify.answers.units import split_unit

INFINITY: Tree = ("const", "inf")
MINUS_INFINITY: Tree = ("neg", INFINITY)


@dataclass(frozen=True, slots=True)
class Value:
    """One expression; `percent` says that it was followed by a percent sign."""

    tree: Tree
    unit: str = ""
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Several shapes: "list", "set", "either" (or) and "both" (and) without order, "tuple",
    "square", "ratio", "clock" (2:30 p.m.) with."""

    kind: str
    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, each end closed or open."""

    low: Tree
    high: Tree
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals together."""

    parts: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as 1 < x ≤ 3. A side that only names something (x, f(x), Area) is its text."""

    sides: tuple[Tree, ...]
    names: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values."""

    rows: tuple[tuple[Shape, ...], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Words, in lower case and without articles and punctuation."""

    words: str


Shape = Value | Group | Interval | Union | Relation | Matrix | Text

REALS = Union((Interval(MINUS_INFINITY, INFINITY, False, False),))
_AND, _OR = "\ue001", "\ue002"  # stand for the words
_OPEN, _CLOSE = "([{", ")]}"
_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!="}
_RELATION = re.compile(r"\\(?:le|ge|ne|in)(?![A-Za-z])|[<>]=?|!=|=")
_TYPED = {"<=": "<=", ">=": ">=", "!=": "!=", "\\in": "in"}
_AND_OR = re.compile(
    r"\\text\{\s*,?\s*(and|or)\s*\}|(?<![A-Za-z\\])(and|or)(?![A-Za-z])|\\(vee|wedge)(?![A-Za-z])"
)
_MATRIX = re.compile(r"\\begin\{((?:[pb]|small)?matrix|array)\}(?:\{[lcr|\s]*\})?(.*)\\end\{\1\}", re.DOTALL)
_IN_BRACKETS = re.compile(
    r"[(\[]\s*\\begin\{(array|matrix|smallmatrix)\}(?:\{[lcr|\s]*\})?(.*)\\end\{\1\}\s*[)\]]", re.DOTALL
)
_NAMES: dict[str, Shape] = {
    "DNE": Text("dne"), "\\mathbb{R}": REALS, "\\emptyset": Group("set", ()), "\\{\\}": Group("set", ()),
    "\\{ \\}": Group("set", ()), "(-\\infty,\\infty)": REALS,
}  # fmt: skip
_SYNONYMS = {
    "does not exist": "dne", "doesnt exist": "dne", "undefined": "dne",
    "no solutions": "no solution",
    "all reals": "all real numbers",
    "no real solutions": "no real solution",
}  # fmt: skip
_WORD = r"[A-Za-z]+(?:['\-][A-Za-z]+)*\.?"
_WORDS = re.compile(rf"{_WORD}(?: {_WORD})*")
_ARGUMENTS = r"\((?:[A-Za-z]|-?\d+)(?:,\s*(?:[A-Za-z]|-?\d+))*\)"
_NAMED = re.compile(
    rf"\\?[A-Za-z]+(?:_\{{?\w+\}}?)?'*(?:{_ARGUMENTS})?|\\text\{{[^{{}}\d]*\}}"
    r"|m?\s*\\(?:angle|triangle)\s*[A-Z]{1,3}|[a-z](?:\s*\+\s*[a-z])+"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_POINT_NAME = re.compile(r"\(\s*[A-Za-z](?:_\{?\w\}?)?(?:\s*,\s*[A-Za-z](?:_\{?\w\}?)?)+\s*\)")
_WITHOUT = re.compile(r"\\mathbb\{R\}\s*(?:\\setminus(?![A-Za-z])|-)\s*(\\\{.+)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})\s*(?:\\text\{)?\s*([APap])\.?\s?[Mm]\.?\s*\}?")
_MEMBER = re.compile(r"\s*\\?[A-Za-z]+\s*(?:\\mid|[|:])\s*")


def read(text: str, joined: bool = True, depth: int = 0) -> Shape:
    """The shape of a cleaned text; `joined` reads 1,234 as one number. Raises Unparsed."""
    if depth > MAX_DEPTH // 4 or not text:
        raise Unparsed("nothing, or nested too deep")
    if text in _NAMES:
        return _NAMES[text]
    words = _text(text)
    if words is not None:
        return words
    matrix = _MATRIX.fullmatch(text) or _IN_BRACKETS.fullmatch(text)
    if matrix is not None:
        return _matrix(matrix[2])
    if joined and not any(mark in text for mark in ("(", "[", "\\{")):
        text = _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
    for reader in (_without, _union, _several, _relation, _bracketed, _ratio):
        shape = reader(text, depth)
        if shape is not None:
            return shape
    return _value(text)


def _text(text: str) -> Text | None:
    plain = without_texts(text)
    if not _WORDS.fullmatch(plain):
        return None
    words = plain.split()
    if "\\text" not in text and all(len(word) < 2 for word in words):
        return None
    if "\\text" not in text and len(words) == 1:
        try:
            parse(plain)
            return None
        except Unparsed:
            pass
    if any(word in ("or", "and") for word in words) and all(len(w) < 4 for w in words):
        return None
    kept = [w.lower().strip(".'-") for w in words]
    if len(kept) > 1 and kept[0] in ("a", "an", "the"):
        kept = kept[1:]
    said = " ".join(kept).replace("'", "")
    return Text(_SYNONYMS.get(said, said))


def split(text: str, separator: Callable[[str, int], int]) -> list[str]:
    """Cut outside of brackets. `separator(text, position)` gives the length of a separator or 0."""
    parts, start, position, depth = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        depth += (character in _OPEN) - (character in _CLOSE)
        length = separator(text, position) if depth == 0 else 0
        if length:
            parts.append(text[start:position])
            start = position = position + length
        else:
            position += 1
    return [*parts, text[start:]]


def _without(text: str, depth: int) -> Shape | None:
    """The real line without some rational points, as a union of intervals."""
    match = _WITHOUT.fullmatch(text)
    if match is None:
        return None
    points = read(match[1].strip(), depth=depth + 1)
    if not isinstance(points, Group) or points.kind != "set":
        raise Unparsed("a difference of other sets")
    cuts = sorted({_rational(_single(item).tree) for item in points.items})
    ends: list[Tree] = [MINUS_INFINITY, *(("num", cut) for cut in cuts), INFINITY]
    return Union(tuple(Interval(low, high, False, False) for low, high in pairwise(ends)))


def _rational(tree: Tree) -> Fraction:
    try:
        return rational(tree)
    except (Irrational, TooLarge, Undefined) as error:
        raise Unparsed("a point whose place is not known") from error


def _union(text: str, depth: int) -> Shape | None:
    if "\\cup" not in text:
        return None
    parts = split(text, lambda t, i: 4 if t.startswith("\\cup", i) else 0)
    found = [read(part.strip(), depth=depth + 1) for part in parts]
    pieces: list[Interval] = []
    for shape in found:
        interval = as_union(shape)
        if interval is None:
            raise Unparsed("a union of what is no interval")
        pieces += interval.parts
    return Union(tuple(pieces))


def as_union(shape: Shape) -> Union | None:
    """Intervals, and a pair in round or square brackets, as a union."""
    if isinstance(shape, Union):
        return shape
    if isinstance(shape, Interval):
        return Union((shape,))
    if isinstance(shape, Group) and shape.kind in ("tuple", "square") and len(shape.items) == 2:
        low, high = shape.items
        if isinstance(low, Value) and isinstance(high, Value):
            closed = shape.kind == "square"
            return Union((Interval(low.tree, high.tree, closed, closed),))
    return None


def _several(text: str, depth: int) -> Shape | None:
    if text[0] == "]" and text[-1] == "[" and text.count(",") == 1:
        return None
    marked = _AND_OR.sub(lambda m: _OR if "or" in m[0] or "vee" in m[0] else _AND, text)
    parts = split(marked, lambda t, i: int(t[i] in ",;" + _AND + _OR))
    parts = [part.strip() for part in parts if part.strip() or len(parts) == 2]
    if len(parts) < 2:
        return None
    items = tuple(read(part, depth=depth + 1) for part in parts)
    if _OR in marked and _AND not in marked:
        return Group("either", items)
    bounds = all(isinstance(item, Relation) and "=" not in item.operators for item in items)
    return Group("both" if _AND in marked and _OR not in marked and bounds else "list", items)


def _relation(text: str, depth: int) -> Shape | None:
    operators: list[str] = []

    def separator(t: str, i: int) -> int:
        found = _RELATION.match(t, i)
        if found is None:
            return 0
        operators.append(_TYPED.get(found[0]) or _RELATIONS[found[0]])
        return found.end() - i

    sides = [side.strip() for side in split(text, separator)]
    if not operators:
        return None
    if operators[0] == "in" and len(operators) == 1:
        return read(sides[1], depth=depth + 1)
    if operators == ["="] and _POINT_NAME.fullmatch(sides[0]) and sides[1].startswith("("):
        return read(sides[1], joined=False, depth=depth + 1)  # (x, y) = (1, 2)
    if "in" in operators or not all(sides):
        raise Unparsed("half a relation")
    names = tuple(without_texts(side) if _NAMED.fullmatch(side) else "" for side in sides)
    trees = [_side(s, n) for s, n in zip(sides, names, strict=True)]
    relations = tuple(
        Relation(tuple(t[min(i, len(t) - 1)] for t in trees), names, tuple(operators))
        for i in range(max(map(len, trees)))
    )
    return relations[0] if len(relations) == 1 else Group("list", relations)


def _side(text: str, name: str) -> tuple[Tree, ...]:
    """The tree of one side; two of them when there is a ± in it."""
    try:
        shape = _value(text)
    except Unparsed:
        if name:
            return (("var", name),)
        raise
    return tuple(_single(item).tree for item in (shape.items if isinstance(shape, Group) else (shape,)))


def _single(shape: Shape) -> Value:
    if not isinstance(shape, Value):
        raise Unparsed("several values on one side")
    return shape


def _bracketed(text: str, depth: int) -> Shape | None:
    """The whole text in one pair of brackets, with commas inside or special brackets."""
    for opening, closing, kind in (
        ("\\{", "\\}", "set"), ("(", ")", "tuple"),
        ("[", "]", "square"), ("(", "]", ""), ("[", ")", ""), ("]", "[", ""), ("]", "]", ""),
        ("(", "[", ""), ("[", "[", ""),
    ):  # fmt: skip
        if text.startswith(opening) and text.endswith(closing):
            inside = text[len(opening) : len(text) - len(closing)].strip()
            return _contents(inside, opening, closing, kind, depth)
    return None


def _contents(inside: str, opening: str, closing: str, kind: str, depth: int) -> Shape | None:
    if inside.endswith("\\"):  # "(…\}": the closing brace is an escaped one
        return None
    parts = [part.strip() for part in split(inside, lambda t, i: int(t[i] in ",;"))]
    if not all(parts) or _unbalanced(inside):
        return None
    if not kind:
        if len(parts) != 2:
            raise Unparsed("an interval has two ends")
        low, high = (_single(_value(part)).tree for part in parts)
        return Interval(low, high, opening == "[", closing == "]")
    if kind == "set" and (member := _MEMBER.match(inside)):
        return read(inside[member.end() :], depth=depth + 1)
    if len(parts) == 1 and kind in ("tuple", "square"):
        return None if kind == "square" or _plain(inside) else read(inside, depth=depth + 1)
    return Group(kind, tuple(read(part, joined=False, depth=depth + 1) for part in parts))


def _plain(inside: str) -> bool:
    return _RELATION.search(inside) is None and not inside.startswith(("(", "[", "\\{"))


def _unbalanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth < 0:
            return True
    return depth != 0


def _ratio(text: str, depth: int) -> Shape | None:
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return Group("clock", (_value(clock[1]), _value(clock[2]), Text(clock[3].lower())))
    parts = split(text, lambda t, i: int(t[i] == ":"))
    if len(parts) < 2:
        return None
    return Group("ratio", tuple(read(part.strip(), depth=depth + 1) for part in parts))


def _matrix(inside: str) -> Matrix:
    rows = [row for row in inside.split(ROW) if row.strip()]
    cells = [tuple(_value(cell.strip()) for cell in row.split("&")) for row in rows]
    if not cells or len({len(row) for row in cells}) != 1 or len(cells) * len(cells[0]) > 400:
        raise Unparsed("a ragged, empty or huge matrix")
    return Matrix(tuple(cells))


def _value(text: str) -> Shape:
    """One value with its unit; with ± it is two values."""
    quantity = split_unit(text)
    tree = parse(quantity.number)
    if quantity.scale != 1:
        tree = ("mul", tree, ("num", Fraction(quantity.scale)))
    if tree[0] == "deg":
        tree = tree[1]
    variants = _signs(tree)
    values = tuple(Value(t, quantity.unit, quantity.percent) for t in variants)
    return values[0] if len(values) == 1 else Group("list", values)


def _signs(tree: Tree) -> tuple[Tree, ...]:
    """The tree for the upper and the lower of its ± signs; one tree when it has none."""
    upper, lower = _signed(tree, 1), _signed(tree, -1)
    return (upper,) if upper == lower else (upper, lower)


def _signed(tree: Tree, sign: int) -> Tree:
    if tree[0] == "pm":
        inside = _signed(tree[2], sign)
        return inside if tree[1] * sign > 0 else ("neg", inside)
    return tuple(_signed(part, sign) if isinstance(part, tuple) else part for part in tree)
