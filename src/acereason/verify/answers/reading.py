"""Cleaned text into the shapes of `shapes.py`.

A unit is read off a value here; words that are no unit are not dropped, since "5 or maybe 6" is not 5.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from acereason.verify.answers.brackets import split, unbalanced
from acereason.verify.answers.clean import ROW, without_texts
from acereason.verify.answers.evaluate import rounds_to
from acereason.verify.answers.names import STATED, name_of
from acereason.verify.answers.parse import MAX_DEPTH, Tree, parse, signs
from acereason.verify.answers.rational import Irrational, TooLarge, Undefined, rational
from acereason.verify.answers.shapes import (
    INFINITY,
    MINUS_INFINITY,
    REALS,
    Clock,
    Group,
    Interval,
    Matrix,
    Relation,
    Shape,
    Text,
    Union,
    Value,
    as_union,
)
from acereason.verify.answers.texts import clock, words_of
from acereason.verify.answers.tokens import Unparsed
from acereason.verify.answers.units import split_unit

_AND, _OR = "\ue001", "\ue002"  # stand for the words
_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!="}
_RELATION = re.compile(r"\\(?:le|ge|ne)(?![A-Za-z])|[<>]=?|!=|=")
_IN = re.compile(r"\\in(?![A-Za-z])")
_APPROX = re.compile(r"\\approx(?![A-Za-z])")
_DECIMAL = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)")
_TYPED = {"<=": "<=", ">=": ">=", "!=": "!="}
_AND_OR = re.compile(
    r"\\text\{\s*,?\s*(and|or)\s*\}|(?<![A-Za-z\\])(and|or)(?![A-Za-z])|\\(vee|wedge)(?![A-Za-z])"
)
_MATRIX = re.compile(r"\\begin\{((?:[pb]|small)?matrix|array)\}(?:\{[lcr|\s]*\})?(.*)\\end\{\1\}", re.DOTALL)
_IN_BRACKETS = re.compile(
    r"[(\[]\s*\\begin\{(array|[pb]?matrix|smallmatrix)\}(?:\{[lcr|\s]*\})?(.*)\\end\{\1\}\s*[)\]]", re.DOTALL
)
_CASES = re.compile(
    r"(?P<name>[^={}]*=)?\s*(?:\\begin\{(?P<kind>[dr]?cases)\}(?P<rows>.*)\\end\{(?P=kind)\}"
    r"|\\\{\s*\\begin\{(?P<other>array|aligned|matrix)\}(?:\{[lcr|\s]*\})?(?P<lines>.*)\\end\{(?P=other)\})",
    re.DOTALL,
)
_CONDITION = re.compile(r"(?:\\text\{\s*(?:if|for|when|where)\s*\}|(?:if|for|when|where)\b)\s*")
_NAMES: dict[str, Shape] = {
    "DNE": Text("dne"), "\\mathbb{R}": REALS, "\\emptyset": Group("set", ()), "\\{\\}": Group("set", ()),
    "\\{ \\}": Group("set", ()), "(-\\infty,\\infty)": REALS,
}  # fmt: skip
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_POINT_NAME = re.compile(r"\(\s*[A-Za-z](?:_\{?\w\}?)?(?:\s*,\s*[A-Za-z](?:_\{?\w\}?)?)+\s*\)")
_WITHOUT = re.compile(r"\\mathbb\{R\}\s*(?:\\setminus(?![A-Za-z])|-)\s*(\\\{.+)")
_MEMBER = re.compile(r"\s*\\?[A-Za-z]+\s*(?:\\mid|[|:])\s*")


def read(text: str, joined: bool = True, depth: int = 0) -> Shape:
    """The shape of a cleaned text; `joined` reads 1,234 as one number. Raises Unparsed."""
    if depth > MAX_DEPTH // 4 or not text:
        raise Unparsed("nothing, or nested too deep")
    if text in _NAMES:
        return _NAMES[text]
    time = clock(text)
    if time is not None:
        return Clock(*time)
    words = words_of(text)
    if words is not None:
        return Text(words)
    if "\\begin" in text and (tabular := _tabular(text, depth)) is not None:
        return tabular
    if text[0] == "{" and text[-1] == "}" and not unbalanced(text[1:-1]):
        return read(text[1:-1].strip(), joined, depth + 1)
    if joined and not any(mark in text for mark in ("(", "[", "\\{")):
        text = _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
    for reader in (_member, _without, _union, _several, _relation, _bracketed, _ratio):
        shape = reader(text, depth)
        if shape is not None:
            return shape
    return _value(text)


def _member(text: str, depth: int) -> Shape | None:
    """`x \\in S` as S, with the name kept."""
    if "\\in" not in text:
        return None
    parts = split(text, lambda t, i: 3 if _IN.match(t, i) else 0)
    if len(parts) != 2 or not name_of(parts[0].strip()):
        return None
    name, inside = without_texts(parts[0]), read(parts[1].strip(), depth=depth + 1)
    return Group("member", (Text(name), inside))


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
    """Intervals and sets of points together."""
    if "\\cup" not in text:
        return None
    parts = split(text, lambda t, i: 4 if t.startswith("\\cup", i) else 0)
    pieces: list[Interval] = []
    for shape in (read(part.strip(), depth=depth + 1) for part in parts):
        if isinstance(shape, Group) and shape.kind == "set":
            points = [_single(item).tree for item in shape.items]
            pieces += [Interval(point, point, True, True) for point in points]
            continue
        interval = as_union(shape)
        if interval is None:
            raise Unparsed("a union of what is no interval")
        pieces += interval.parts
    return Union(tuple(pieces))


def _several(text: str, depth: int) -> Shape | None:
    if text[0] == "]" and text[-1] == "[" and text.count(",") == 1:
        return None
    marked = _AND_OR.sub(lambda m: _OR if "or" in m[0] or "vee" in m[0] else _AND, text)
    rows = _rows_of_tuples(marked, depth)
    if rows is not None:
        return rows
    parts = split(marked, lambda t, i: int(t[i] in ",;" + _AND + _OR))
    parts = [part.strip() for part in parts if part.strip() or len(parts) == 2]
    if len(parts) < 2:
        return None
    items = _named_alike(tuple(read(part, depth=depth + 1) for part in parts))
    if _OR in marked and _AND not in marked:
        return Group("either", items)
    bounds = all(isinstance(item, Relation) and "=" not in item.operators for item in items)
    return Group("both" if _AND in marked and _OR not in marked and bounds else "list", items)


def _rows_of_tuples(text: str, depth: int) -> Shape | None:
    """`p=5, q=2; p=7, q=2`: what stands between semicolons belongs together."""
    if ";" not in text or "," not in text or _AND in text or _OR in text:
        return None
    rows = [split(row, lambda t, i: int(t[i] == ",")) for row in split(text, lambda t, i: int(t[i] == ";"))]
    if len(rows) < 2 or len(rows[0]) < 2 or len({len(row) for row in rows}) != 1:
        return None
    read_rows = [tuple(read(cell.strip(), depth=depth + 1) for cell in row) for row in rows]
    named = all(isinstance(cell, Relation) for row in read_rows for cell in row)
    return Group("list", tuple(Group("list" if named else "tuple", row) for row in read_rows))


def _named_alike(items: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """`n = 1, 2, 3` as n = 1, n = 2, n = 3."""
    first, rest = items[0], items[1:]
    if not isinstance(first, Relation) or not first.names[0] or first.operators != ("=",):
        return items
    if not all(isinstance(item, Value) for item in rest):
        return items
    values = [item for item in rest if isinstance(item, Value)]
    names = (first.names[0], "")
    return (
        first,
        *(Relation((first.sides[0], v.tree), names, ("=",), v.unit, v.percent) for v in values),
    )


def _relation(text: str, depth: int) -> Shape | None:
    operators: list[str] = []

    def separator(t: str, i: int) -> int:
        operator = _RELATION.match(t, i)
        if operator is None:
            return 0
        operators.append(_TYPED.get(operator[0]) or _RELATIONS[operator[0]])
        return operator.end() - i

    if "\\approx" in text:
        return _approximation(text, depth)
    sides = [side.strip() for side in split(text, separator)]
    if not operators:
        return None
    if not all(sides):
        raise Unparsed("half a relation")
    if operators == ["="] and _POINT_NAME.fullmatch(sides[0]) and sides[1].startswith("("):
        return _point(sides[0], read(sides[1], joined=False, depth=depth + 1))
    last = name_of(sides[-1]) if len(sides) == 2 else ""
    names = (*map(name_of, sides[:-1]), "" if last.startswith(STATED) else last)
    if operators == ["="] and names[0] and (whole := _named(sides, depth)) is not None:
        return whole
    values = [_side(s, n) for s, n in zip(sides, names, strict=True)]
    measure = _measure(values)
    names = tuple(without_texts(name) for name in names)
    relations = tuple(
        Relation(tuple(v[min(i, len(v) - 1)].tree for v in values), names, tuple(operators), *measure)
        for i in range(max(map(len, values)))
    )
    return relations[0] if len(relations) == 1 else Group("list", relations)


def _approximation(text: str, depth: int) -> Shape:
    """`x ≈ 0.5` as x = 0.5; of `√3/3 ≈ 0.577` the exact side, when the other one is that rounded."""
    sides = [side.strip() for side in split(text, _approx_sign)]
    if len(sides) != 2 or not all(sides):
        raise Unparsed("several approximations")
    if name_of(sides[0]):
        return read(f"{sides[0]}={sides[1]}", depth=depth + 1)
    exact = read(sides[0], depth=depth + 1)
    value = exact.sides[-1] if isinstance(exact, Relation) and "=" in exact.operators else None
    value = exact.tree if isinstance(exact, Value) else value
    rounded = split_unit(sides[1])
    number = rounded.number.strip()
    if value is None or rounded.percent or rounded.scale != 1 or not _DECIMAL.fullmatch(number):
        raise Unparsed("an approximation of no value")
    if not rounds_to(value, number):
        raise Unparsed("not what it rounds to")
    return exact


def _approx_sign(text: str, position: int) -> int:
    match = _APPROX.match(text, position)
    return match.end() - position if match else 0


def _point(names: str, point: Shape) -> Shape:
    """`(x, y) = (1, 2)` as x = 1, y = 2."""
    letters = [name.strip() for name in names.strip("() ").split(",")]
    if not isinstance(point, Group) or point.kind != "tuple" or len(point.items) != len(letters):
        raise Unparsed("a point of another dimension")
    trees = [_single(item).tree for item in point.items]
    pairs = zip(letters, trees, strict=True)
    return Group("list", tuple(Relation((parse(n), tree), (n, ""), ("=",)) for n, tree in pairs))


def _named(sides: list[str], depth: int) -> Shape | None:
    """`D = (0, 1)`, `A : B = 1 : 2`: a name and what is no plain value; None for a value."""
    try:
        _side(sides[1], "")
        return None
    except Unparsed:
        inside = read(sides[1], depth=depth + 1)
    if isinstance(inside, Text | Relation):
        return None
    return Group("named", (Text(without_texts(sides[0])), inside))


def _side(text: str, name: str) -> tuple[Value, ...]:
    """The value of one side; two of them when there is a ± in it."""
    try:
        shape = _value(text)
    except Unparsed:
        if name:
            return (Value(("var", name)),)
        raise
    return tuple(map(_single, shape.items if isinstance(shape, Group) else (shape,)))


def _measure(sides: list[tuple[Value, ...]]) -> tuple[str, bool]:
    """The one unit in which the sides of a relation are given, and whether that is percent."""
    measures = {(side[0].unit, side[0].percent) for side in sides} - {("", False)}
    if len(measures) > 1:
        raise Unparsed("several units")
    return measures.pop() if measures else ("", False)


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
    if not all(parts) or unbalanced(inside):
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


def _ratio(text: str, depth: int) -> Shape | None:
    parts = split(text, lambda t, i: int(t[i] == ":"))
    if len(parts) < 2:
        return None
    return Group("ratio", tuple(read(part.strip(), depth=depth + 1) for part in parts))


def _tabular(text: str, depth: int) -> Shape | None:
    """A matrix, a system of equations, or a function by cases; None when the environment is not all."""
    matrix = _MATRIX.fullmatch(text)
    if matrix is None and text[0] + text[-1] in ("()", "[]"):
        matrix = _IN_BRACKETS.fullmatch(text)
    if matrix is not None:
        return _matrix(matrix[2])
    cases = _CASES.fullmatch(text)
    if cases is None:
        return None
    rows = [row.strip(" ,;.") for row in (cases["rows"] or cases["lines"]).split(ROW)]
    shapes = tuple(_case(row, depth) for row in rows if row)
    if not shapes or len(shapes) > 64:
        raise Unparsed("no cases, or too many")
    relations = all(isinstance(shape, Relation) for shape in shapes)
    return Group("list" if relations else "cases", shapes)


def _case(row: str, depth: int) -> Shape:
    value, separator, condition = row.partition("&")
    if not separator:
        return read(row, depth=depth + 1)
    value, condition = value.strip(" ,;"), condition.replace("&", " ").strip(" ,;.")
    if value.endswith("=") or condition.startswith("="):  # aligned at the sign of a relation
        return read(value + condition, depth=depth + 1)
    condition = _CONDITION.sub("", condition, count=1)
    return Group("case", (read(value, depth=depth + 1), read(condition, depth=depth + 1)))


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
    variants = signs(tree)
    values = tuple(Value(t, quantity.unit, quantity.percent) for t in variants)
    return values[0] if len(values) == 1 else Group("list", values)
