"""Pairs of answers that are equal or different by construction, for fuzzing the judge of mathematics.

Each kind draws a value, spells it in one of many ways, and changes it. A value is compared by what it is
here (fractions, coefficients, sets, seconds …), never by the judge.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

from math_numbers import (
    change_number,
    change_polynomial,
    change_surd,
    decimal,
    draw_number,
    draw_polynomial,
    draw_surd,
    spaced,
    spell_number,
    spell_polynomial,
    spell_surd,
)


@dataclass(frozen=True)
class Kind:
    """How a value of one kind is drawn, changed into another one, spelled, and told from others."""

    draw: Callable[[Random], Hashable]
    change: Callable[[Random, Any], Hashable]
    spell: Callable[[Random, Any], str]


# several: sets, lists, points, intervals


def draw_members(random: Random) -> frozenset[Fraction]:
    return frozenset(draw_number(random) for _ in range(random.randint(2, 4)))


def change_members(random: Random, value: frozenset[Fraction]) -> frozenset[Fraction]:
    members = sorted(value)
    chosen = random.choice(members)
    rest = [member for member in members if member != chosen]
    return frozenset(
        random.choice((rest, [*rest, change_number(random, chosen)], [*members, Fraction(12345)]))
    )


def plain(random: Random, value: Fraction) -> str:
    """A number inside of brackets: no comma, no name."""
    finite = decimal(value)
    ways = [rf"\frac{{{value.numerator}}}{{{value.denominator}}}"] + ([finite] if finite else [])
    return random.choice(ways) if value.denominator > 1 else str(value)


def spell_members(random: Random, value: frozenset[Fraction]) -> str:
    members = [plain(random, member) for member in value]
    random.shuffle(members)
    return spaced(random, random.choice((r"\{%s\}", r"\left\{%s\right\}", r"\{ %s \}")) % ", ".join(members))


def draw_point(random: Random) -> tuple[Fraction, ...]:
    return tuple(draw_number(random) for _ in range(random.randint(2, 4)))


def change_point(random: Random, value: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    items = list(value)
    place = random.randrange(len(items))
    way = random.randrange(3)
    if way == 0:
        items[place] = change_number(random, items[place])
    elif way == 1:
        random.shuffle(items)
    else:
        items.append(items[place])
    return tuple(items)


def spell_point(random: Random, value: tuple[Fraction, ...]) -> str:
    inside = ", ".join(plain(random, item) for item in value)
    return spaced(
        random,
        random.choice(("(%s)", r"\left(%s\right)", r"\langle %s \rangle", r"\left( %s \right)")) % inside,
    )


Interval = tuple[Fraction | None, Fraction | None, bool, bool]


def draw_interval(random: Random) -> Interval:
    low, high = sorted((draw_number(random), draw_number(random)))
    if random.random() < 0.3:
        return (None, high, False, random.random() < 0.5)
    if random.random() < 0.3:
        return (low, None, random.random() < 0.5, False)
    return (low, high + 1, random.random() < 0.5, random.random() < 0.5)


def change_interval(random: Random, value: Interval) -> Interval:
    low, high, low_closed, high_closed = value
    ways: list[Interval] = []
    if low is not None:
        ways += [(low, high, not low_closed, high_closed), (low - 1, high, low_closed, high_closed)]
    if high is not None:
        ways += [(low, high, low_closed, not high_closed), (low, high + 1, low_closed, high_closed)]
    if low is None or high is None:
        end = high if low is None else low
        ways += [
            (end, None, high_closed or low_closed, False) if low is None else (None, end, False, low_closed)
        ]
    return random.choice(ways)


def spell_interval(random: Random, value: Interval) -> str:
    low, high, low_closed, high_closed = value
    ends = [
        r"-\infty" if low is None else plain(random, low),
        r"\infty" if high is None else plain(random, high),
    ]
    brackets = "[" if low_closed else "(", "]" if high_closed else ")"
    text = f"{brackets[0]}{ends[0]}, {ends[1]}{brackets[1]}"
    return spaced(
        random, random.choice((text, rf"x \in {text}", inequality(random, value), inequality(random, value)))
    )


def inequality(random: Random, value: Interval) -> str:
    """The interval as an inequality that is linear in x."""
    low, high, low_closed, high_closed = value
    a = random.choice((1, 1, 1, 2, 3, -1, -2))
    b = random.choice((0, 0, 1, -3))
    term = {1: "x", -1: "-x"}.get(a, f"{a}x") + (f"{b:+d}" if b else "")
    bounds = [None if end is None else plain(random, a * end + b) for end in (low, high)]
    less, more = ("<", ">") if a > 0 else (">", "<")
    signs = [s + "=" * closed for s, closed in ((less, low_closed), (less, high_closed))]
    spelled = [s.replace("<=", r"\le ").replace(">=", r"\ge ") for s in signs]
    if bounds[0] is None:
        return f"{term}{spelled[1]}{bounds[1]}"
    if bounds[1] is None:
        return f"{term}{more + '=' * low_closed}{bounds[0]}"
    return f"{bounds[0]}{spelled[0]}{term}{spelled[1]}{bounds[1]}"


# quantities: dimension and value in its base unit

UNITS = {
    "length": {"m": Fraction(1), "cm": Fraction(1, 100), "km": Fraction(1000), "mm": Fraction(1, 1000)},
    "area": {"m^2": Fraction(1), "cm^2": Fraction(1, 10000), "square meters": Fraction(1)},
    "volume": {"m^3": Fraction(1), "cm^3": Fraction(1, 10**6), "liters": Fraction(1, 1000)},
    "time": {"s": Fraction(1), "minutes": Fraction(60), "hours": Fraction(3600)},
    "speed": {"m/s": Fraction(1), "km/h": Fraction(5, 18)},
    "mass": {"kg": Fraction(1), "g": Fraction(1, 1000)},
    "money": {"dollars": Fraction(1), "cents": Fraction(1, 100)},
    "euro": {"euros": Fraction(1)},
    "angle": {"degrees": Fraction(1), "^\\circ": Fraction(1)},
    "percent": {"percent": Fraction(1), "\\%": Fraction(1)},
    "count": {"apples": Fraction(1), "students": Fraction(1)},
}  # fmt: skip


def draw_quantity(random: Random) -> tuple[str, Fraction]:
    return random.choice(sorted(UNITS)), Fraction(random.randint(1, 500), random.choice((1, 1, 2, 4)))


def change_quantity(random: Random, value: tuple[str, Fraction]) -> tuple[str, Fraction]:
    dimension, size = value
    other = random.choice([name for name in sorted(UNITS) if name != dimension])
    return random.choice(
        ((dimension, size * 10), (dimension, size + 1), (other, size), (other, size), (dimension, size * 100))
    )


def spell_quantity(random: Random, value: tuple[str, Fraction]) -> str:
    dimension, size = value
    unit, factor = random.choice(sorted(UNITS[dimension].items()))
    number = decimal(size / factor) or f"{(size / factor).numerator}/{(size / factor).denominator}"
    if unit.startswith(("\\", "^")):
        return f"{number}{unit}"
    if unit == "dollars" and random.random() < 0.4:
        return rf"\${number}"
    command = random.choice(("text", "mathrm", "textrm", "mbox", "textbf", "textnormal", "hbox"))
    if "^" in unit and random.random() < 0.5:
        name, power = unit.split("^")
        return rf"{number}\{command}{{ {name}}}^{random.choice((power, f'{{{power}}}'))}"
    return rf"{number}\{command}{{ {unit}}}"


# other shapes


def draw_matrix(random: Random) -> tuple[tuple[int, ...], ...]:
    rows, columns = random.choice(((1, 2), (2, 2), (2, 3), (3, 1), (3, 3)))
    return tuple(tuple(random.randint(-9, 9) for _ in range(columns)) for _ in range(rows))


def change_matrix(random: Random, value: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    row, column = random.randrange(len(value)), random.randrange(len(value[0]))
    one = [list(line) for line in value]
    one[row][column] += 1
    ways = [tuple(map(tuple, one)), tuple(zip(*value, strict=True)), value[::-1], value[:-1] or ((0, 0, 0),)]
    return random.choice(ways)


def spell_matrix(random: Random, value: tuple[tuple[int, ...], ...]) -> str:
    kind = random.choice(("pmatrix", "bmatrix"))
    cells = r" \\ ".join(
        " & ".join(random.choice((str(c), f"{c}.0", rf"\frac{{{2 * c}}}{{2}}")) for c in row) for row in value
    )
    array = rf"\left(\begin{{array}}{{{'c' * len(value[0])}}} {cells} \end{{array}}\right)"
    return random.choice((rf"\begin{{{kind}}} {cells} \end{{{kind}}}", array))


def draw_calls(random: Random) -> frozenset[tuple[str, int]]:
    """A sum of values of unknown functions, each with a coefficient: {("f(2)", 3), …}."""
    calls = {
        f"{random.choice('fgh')}({random.choice(('0', '1', '2', 't', 'x'))})": random.choice((1, 2, -1, 3))
        for _ in range(2)
    }
    return frozenset(calls.items())


def change_calls(random: Random, value: frozenset[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    calls = dict(value)
    chosen = random.choice(sorted(calls))
    factor = calls.pop(chosen)
    other = random.choice((f"{chosen[0]}(7)", f"k{chosen[1:]}", chosen))
    calls[other] = factor + (other == chosen)
    return frozenset((call, factor) for call, factor in calls.items() if factor)


def spell_calls(random: Random, value: frozenset[tuple[str, int]]) -> str:
    terms = [
        call if factor == 1 else f"{factor}{random.choice(('', chr(92) + 'cdot '))}{call}"
        for call, factor in value
    ]
    random.shuffle(terms)
    return spaced(random, ("+".join(terms) or "0").replace("+-", "-"))


def draw_line(random: Random) -> tuple[int, ...]:
    """Coefficients of ax + by = c."""
    return random.choice((1, 2, 3, -2)), random.choice((1, -1, 2, 5)), random.randint(-9, 9)


def change_line(random: Random, value: tuple[int, ...]) -> tuple[int, ...]:
    a, b, c = value
    return random.choice(
        ((a, b, c + 1), (a, -b, c), (b + 7, a, c), (a + 1 or 4, b, c), (a, b, -c if c else 5))
    )


def line_key(value: tuple[int, ...]) -> tuple[Fraction, ...]:
    return tuple(Fraction(part, value[0]) for part in value)


def spell_line(random: Random, value: tuple[int, ...]) -> str:
    k = random.choice((1, 1, 2, -1, 3))
    a, b, c = (k * part for part in value)
    ways = (f"{a}x+{b}y={c}", f"{b}y+{a}x={c}", f"{a}x+{b}y-{c}=0", f"{c}={a}x+{b}y", f"{a}x={c}-{b}y")
    return spaced(random, random.choice(ways).replace("+-", "-").replace("--", "+"))


def draw_numeral(random: Random) -> tuple[str, int]:
    base = random.choice((2, 3, 5, 7, 8, 9))
    return "".join(random.choice(string.digits[1:base]) for _ in range(random.randint(2, 6))), base


def change_numeral(random: Random, value: tuple[str, int]) -> tuple[str, int]:
    digits, base = value
    return random.choice(
        ((digits, base + 1), (digits[::-1], base), (digits + "1", base), (digits[:-1] or "1", base))
    )


def spell_numeral(random: Random, value: tuple[str, int]) -> str:
    digits, base = value
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return random.choice(
        (
            f"{digits}_{base}",
            f"{digits}_{{{base}}}",
            rf"{digits}_{{\text{{{words[base]}}}}}",
            f"{digits}_{{({base})}}",
        )
    )


def draw_time(random: Random) -> tuple[int, int]:
    return random.randrange(24), random.randrange(60)


def change_time(random: Random, value: tuple[int, int]) -> tuple[int, int]:
    hour, minute = value
    return random.choice((((hour + 12) % 24, minute), ((hour + 1) % 24, minute), (hour, (minute + 1) % 60)))


def spell_time(random: Random, value: tuple[int, int]) -> str:
    hour, minute = value
    half = "p" if hour >= 12 else "a"
    face = f"{(hour - 1) % 12 + 1}:{minute:02d}"
    return random.choice(
        (rf"{face}\text{{ {half}.m.}}", f"{face} {half}m", rf"\text{{{face} {half.upper()}M}}")
    )


def draw_named(random: Random) -> frozenset[tuple[str, int]]:
    names = random.sample(("x", "y", "AB", "n", "a_1", "r"), 2)
    return frozenset((name, random.randint(-20, 20)) for name in names)


def change_named(random: Random, value: frozenset[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    (first, one), (second, two) = sorted(value)
    return random.choice((
        frozenset(((first, two), (second, one))), frozenset(((first, one + 1), (second, two))),
        frozenset((("q", one), (second, two))), frozenset(((first, one),)),
    ))  # fmt: skip


def spell_named(random: Random, value: frozenset[tuple[str, int]]) -> str:
    parts = [f"{name}{random.choice(('=', ' = '))}{number}" for name, number in value]
    random.shuffle(parts)
    return random.choice((", ", r"\text{ and }", r",\ ")).join(parts)


WORDS = (
    "odd",
    "even",
    "increasing",
    "Monday",
    "Tuesday",
    "no solution",
    "isosceles",
    "Evelyn",
    "parabola",
    "all primes",
)


def spell_words(random: Random, value: str) -> str:
    said = random.choice((value, value.lower(), value.upper(), value.capitalize()))
    return random.choice(
        (rf"\text{{{said}}}", rf"\textbf{{{said}}}", rf"\mathrm{{{said}}}", rf"\text{{ {said} }}.")
    )


KINDS: dict[str, Kind] = {
    "number": Kind(draw_number, change_number, spell_number),
    "polynomial": Kind(draw_polynomial, change_polynomial, spell_polynomial),
    "surd": Kind(draw_surd, change_surd, spell_surd),
    "set": Kind(draw_members, change_members, spell_members),
    "point": Kind(draw_point, change_point, spell_point),
    "interval": Kind(draw_interval, change_interval, spell_interval),
    "quantity": Kind(draw_quantity, change_quantity, spell_quantity),
    "matrix": Kind(draw_matrix, change_matrix, spell_matrix),
    "calls": Kind(draw_calls, change_calls, spell_calls),
    "line": Kind(draw_line, change_line, spell_line),
    "numeral": Kind(draw_numeral, change_numeral, spell_numeral),
    "time": Kind(draw_time, change_time, spell_time),
    "named": Kind(draw_named, change_named, spell_named),
    "words": Kind(lambda r: r.choice(WORDS), lambda r, v: r.choice(WORDS), spell_words),
}  # fmt: skip


def key(name: str, value: Hashable) -> Hashable:
    """What two equal values of a kind have in common."""
    return line_key(value) if name == "line" else value  # type: ignore[arg-type]


_ALIKE = ({"point", "interval"}, {"number", "quantity", "numeral"}, {"named", "line"})


def unlike(name: str) -> list[str]:
    """Kinds whose answers are never those of this one."""
    alike = set().union(*(group for group in _ALIKE if name in group), {name})
    return sorted(KINDS.keys() - alike)
