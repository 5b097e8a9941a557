"""Numbers, polynomials and surds for `math_pairs`: how a value is drawn, changed, and spelled."""

from __future__ import annotations

from fractions import Fraction
from random import Random


def integer(random: Random) -> int:
    """Small ones mostly, some of many digits."""
    return random.choice(
        (random.randint(-20, 20), random.randint(-999, 999), random.randint(-(10**12), 10**12))
    )


def near(random: Random, value: int) -> int:
    """Another whole number, easily taken for this one."""
    return value + random.choice((1, -1, 10, -10, 100, value or 1, -2 * value or 7, 9 * value or 3))


def spaced(random: Random, text: str) -> str:
    """The same mathematics with other delimiters and spacing."""
    wraps = ("%s", "%s", "$%s$", " %s ", r"\(%s\)", r"\displaystyle %s", "%s.", r"\,%s\;")
    return random.choice(wraps).replace("%s", text)


# numbers


def draw_number(random: Random) -> Fraction:
    """A fraction, often a whole number or a decimal."""
    top = integer(random)
    return random.choice(
        (Fraction(top), Fraction(top, random.randint(2, 30)), Fraction(top, 10 ** random.randint(1, 4)))
    )


def change_number(random: Random, value: Fraction) -> Fraction:
    turned = 1 / value if value else Fraction(1)
    scaled = [value * by for by in (-1, 10, Fraction(1, 10), 2, Fraction(1, 100))]
    other_top = Fraction(near(random, value.numerator), value.denominator)
    return random.choice([turned, *scaled, value + 1, value + Fraction(1, 1000), other_top])


def decimal(value: Fraction) -> str | None:
    """The finite decimal of a fraction; None when it has none of at most twelve digits."""
    for places in range(13):
        scaled = value * 10**places
        if scaled.denominator == 1:
            digits = str(abs(scaled.numerator)).rjust(places + 1, "0")
            point = f"{digits[:-places]}.{digits[-places:]}" if places else digits
            return "-" * (value < 0) + point
    return None


def spell_number(random: Random, value: Fraction) -> str:
    top, bottom = value.numerator, value.denominator
    k = random.randint(2, 9)
    sign = "-" if value < 0 else ""
    ways = [
        f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", rf"{sign}\dfrac{{{abs(top) * k}}}{{{bottom * k}}}",
        rf"\tfrac{{{top}}}{{{bottom}}}", f"({top})/({bottom})", rf"\frac{{{-top}}}{{{-bottom}}}",
        rf"\frac{{{top + bottom}}}{{{bottom}}}-1", rf"{k}\cdot\frac{{{top}}}{{{k * bottom}}}",
    ]  # fmt: skip
    finite = decimal(value)
    if finite is not None:
        ways += [
            finite,
            finite + ("0" if "." in finite else ".0"),
            rf"{finite} \times 10^{{0}}",
            f"x = {finite}",
        ]
    if bottom == 1:
        ways += [
            str(top),
            str(top),
            f"{top:,}",
            f"{top:,}".replace(",", "{,}"),
            f"{top:,}".replace(",", r",\!"),
            f"+{top}" if top > 0 else str(top),
        ]
    elif abs(value) > 1:
        whole, rest = divmod(abs(top), bottom)
        ways += [rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}", f"{sign}{whole} {rest}/{bottom}"]
    return spaced(random, random.choice(ways))


# polynomials in x and y: ((i, j), coefficient) pairs


Polynomial = frozenset[tuple[tuple[int, int], int]]


def draw_polynomial(random: Random) -> Polynomial:
    terms = {
        (random.randint(0, 3), random.randint(0, 1)): random.randint(-9, 9)
        for _ in range(random.randint(2, 4))
    }
    terms[(random.randint(1, 3), 0)] = random.choice((1, 2, 3, -1, -4))
    return frozenset((powers, factor) for powers, factor in terms.items() if factor)


def change_polynomial(random: Random, value: Polynomial) -> Polynomial:
    terms = dict(value)
    powers = random.choice(sorted(terms))
    way = random.randrange(4)
    if way == 0:
        terms[powers] += random.choice((1, -1, 2))
    elif way == 1:
        terms[powers] *= -1
    elif way == 2:
        terms[powers[0] + 1, powers[1]] = terms.pop(powers)
    else:
        terms[powers[1], powers[0]] = terms.pop(powers)
    return frozenset((powers, factor) for powers, factor in terms.items() if factor)


def monomial(random: Random, powers: tuple[int, int], factor: int) -> str:
    letters = []
    for letter, power in zip("xy", powers, strict=True):
        if power:
            letters.append(
                letter if power == 1 else random.choice((f"{letter}^{power}", f"{letter}^{{{power}}}"))
            )
    random.shuffle(letters)
    product = random.choice(("", r"\cdot ", " ")).join(letters)
    if not letters:
        return str(factor)
    return product if factor == 1 else f"-{product}" if factor == -1 else f"{factor}{product}"


def spell_polynomial(random: Random, value: Polynomial) -> str:
    terms = [monomial(random, powers, factor) for powers, factor in sorted(value)]
    random.shuffle(terms)
    text = "+".join(terms).replace("+-", random.choice(("-", " - "))) or "0"
    k = random.randint(2, 5)
    ways = [
        text,
        text,
        f"({text})",
        rf"\frac{{{k}({text})}}{{{k}}}",
        f"-(-({text}))",
        f"{text}+{k}-{k}",
        f"{k}({text})-{k - 1}({text})",
    ]
    return spaced(random, random.choice(ways))


# a + b√c with c free of squares


def draw_surd(random: Random) -> tuple[int, int, int]:
    return random.randint(-9, 9), random.choice((1, -1, 2, 3, -5)), random.choice((2, 3, 5, 6, 7, 10))


def change_surd(random: Random, value: tuple[int, int, int]) -> tuple[int, int, int]:
    a, b, c = value
    return random.choice(
        ((a + 1, b, c), (a, -b, c), (a, b, 11), (-a, b, c), (a, b + 1 or 3, c), (b, a, c) if a else (1, b, c))
    )


def spell_surd(random: Random, value: tuple[int, int, int]) -> str:
    a, b, c = value
    root = random.choice(
        (
            rf"{b}\sqrt{{{c}}}",
            rf"{b}\cdot\sqrt{{{c}}}",
            f"{b}*sqrt({c})",
            rf"\frac{{{b * c}}}{{\sqrt{{{c}}}}}",
            f"{b}({c})^{{1/2}}",
            rf"{'-' * (b < 0)}\sqrt{{{b * b * c}}}",
        )
    )
    text = (
        root if a == 0 else random.choice((f"{a}+{root}", f"{root}+{a}", rf"\frac{{{2 * a}+2({root})}}{{2}}"))
    )
    return spaced(random, text.replace("+-", "-"))
