"""Reading a unit, a counting word, a currency or a percent sign off a number, and what they measure.

One table says what a unit measures, as powers of base dimensions, and its exact factor. Units of the
same dimensions compare after conversion (1 m² is 10000 cm²); percent, degrees, each currency, lengths,
times … are different measures. A word that is no known unit counts as a counting word ("7 apples") when
it is plain: no digits, no number words, and none of the words with which an answer hedges.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from acereason.verify.answers.clean import CURRENCIES
from acereason.verify.answers.tokens import Unparsed, word_set


@dataclass(frozen=True, slots=True)
class Quantity:
    """The text of a number, its unit in canonical spelling, and a scale word's factor."""

    number: str
    unit: str = ""
    percent: bool = False
    scale: int = 1


# dimension: its units as "spellings… factor to the base unit"; the first one is canonical
_TABLE = {
    "length": "mm millimeter 1/1000, cm centimeter 1/100, dm decimeter 1/10, m meter mtr 1,"
    " km kilometer 1000, in inch 127/5000, ft foot 381/1250, yd yard 1143/1250, mi mile 201168/125",
    "time": "ms millisecond 1/1000, s sec second 1, min minute 60, h hr hour 3600, day 86400, week 604800,"
    " month 2629746, yr year 31556952",
    "mass": "mg milligram 1/1000000, g gram gm 1/1000, kg kilogram 1, t ton tonne 1000,"
    " lb pound 45359237/100000000, oz ounce 45359237/1600000000",
    "length^2": "acre 316160658/78125, hectare 10000",
    "length^3": "ml milliliter cc 1/1000000, cl centiliter 1/100000, l liter litre 1/1000,"
    " gallon 473176473/125000000000",
    "length time^-1": "mph 1397/3125, kmh kph kmph 5/18",
    "mass length time^-2": "newton 1",
    "mass length^2 time^-2": "joule 1",
    "mass length^2 time^-3": "watt 1",
    "angle": "degree deg 1",
    "radian": "radian rad 1",
    "celsius": "celsius 1",
    "fahrenheit": "fahrenheit 1",
    "kelvin": "kelvin 1",
    "dollar": "dollar buck usd 1, cent penny 1/100",
    "euro": "euro eur 1",
    "sterling": "sterling gbp 1",
    "yen": "yen jpy 1",
    "yuan": "yuan rmb 1",
    "rupee": "rupee inr 1",
    "byte": "byte 1, bit 1/8",
}
_Dimensions = tuple[tuple[str, int], ...]
_UNITS: dict[str, tuple[str, _Dimensions, Fraction]] = {}


def _dimensions(text: str) -> _Dimensions:
    powers = (part.partition("^") for part in text.split())
    return tuple(sorted((name, int(power or 1)) for name, _, power in powers))


for _what, _entries in _TABLE.items():
    for _entry in _entries.split(","):
        *_spellings, _factor = _entry.split()
        _UNITS |= dict.fromkeys(_spellings, (_spellings[0], _dimensions(_what), Fraction(_factor)))
_IRREGULAR = {
    "inches": "inch", "feet": "foot", "metre": "meter", "centimetre": "centimeter", "kilometre": "kilometer",
    "millimetre": "millimeter", "pennies": "penny", "people": "person", "centuries": "century",
}  # fmt: skip
_BARE = word_set(
    "mm cm dm km mi ft yd sec min hr hrs hour hours minutes seconds days mg kg lb lbs oz ml mL deg gm"
    " degrees dollars cents euros units mph kmh meters metres miles feet inches years months weeks"
    " grams liters litres square cubic pounds percent percentage pct sq cu"
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_HEDGES = word_set(
    "or and maybe either neither nor not possibly perhaps probably about approximately approx"
    " roughly around between than least most to from mod modulo if else unless except no none but"
    " plus minus times divided over is are was be accept accepted wrong right correct incorrect"
    " answer also zero one two three four five six seven eight nine ten eleven twelve dozen half"
    " third quarter twice double triple all some both each every other otherwise could would"
    " might may more fewer less greater smaller larger up down false untrue invalid impossible never"
    " negative factorial root inverse reciprocal power pi infinity thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
    " fourth fifth sixth seventh eighth ninth tenth hundredth thousandth millionth couple score gross"
    " am pm noon midnight before after"
)
_PLURALS = {"halves": "half"}
_PREFIXES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_SUFFIXES = {"squared": 2, "cubed": 3}
_PERCENT = ("percent", "pct", "percentage")
_TEXTS = r"\\text\{(?:[^{}]|\{[^{}]*\})*\}"
_POWER = r"(?:\^(?:-?\d|\{-?\d\}))"
_GROUPS = re.compile(rf"(?P<number>.*?)(?P<unit>(?:\s*(?:/|\\cdot)?\s*{_TEXTS}{_POWER}?)+)", re.DOTALL)
_PLAIN = re.compile(
    r"(?P<number>.*?[\d)}.\]])\s*(?P<unit>(?:[A-Za-z]{2,}(?:[ /]+[A-Za-z]+)*|[mg]/[smh])" + _POWER + "?)",
    re.DOTALL,
)
_BASE_WORDS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_BASES = {word: base for base, word in enumerate(_BASE_WORDS.split(), start=2)}
_BASE = re.compile(
    r"(?P<number>-?\d+(?:\.\d+)?)_\s*(?:\{\s*)?\(?(?:\\text\{\s*)?(?:base )?(?P<base>\d{1,2}|[a-z]{3,8})"
    r"\s*\}?\)?\s*\}?"
)
_DEGREES = re.compile(
    r"(?P<number>(?:(?!sin|cos|tan|sec|csc|cot).)*?)\s*\^\s*\{?\\circ\s*\}?"
    r"\s*(?:(?P<scale>[CF])|\\text\{\s*(?P<text_scale>[CF])\s*\})?",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z]+")
_PIECE = re.compile(r"[A-Za-z]+|/|\^\{?(-?\d)\}?")
_MARKS = re.compile("[" + "".join(CURRENCIES) + "]")


def split_unit(text: str) -> Quantity:
    """Number and unit of a quantity. Raises Unparsed when there are words that are no unit."""
    text = text.strip()
    marks = set(_MARKS.findall(text)) if not text.isascii() else ()
    if marks:
        return _money(text, marks)
    if text.endswith("%"):
        return Quantity(_needed(text[:-1]), percent=True)
    degrees = _DEGREES.fullmatch(text) if "\\circ" in text else None
    if degrees is not None:
        scale = degrees["scale"] or degrees["text_scale"]
        named = {"C": "celsius", "F": "fahrenheit"}[scale] if scale else "degree"
        return Quantity(_needed(degrees["number"]), named)
    based = _BASE.fullmatch(text) if "_" in text else None
    if based is not None:
        return Quantity(based["number"], f"base {_base(based['base'])}")
    groups = _GROUPS.fullmatch(text) if "\\text" in text else None
    if groups is not None:
        return _quantity(groups["number"], groups["unit"])
    plain = _PLAIN.fullmatch(text)
    if plain is not None and _is_unit(plain["unit"], plain["number"]):
        return _quantity(plain["number"], plain["unit"])
    if "\\text" in text:
        raise Unparsed("words in the middle")
    return Quantity(text)


def _money(text: str, marks: set[str] | tuple[()]) -> Quantity:
    """An amount with a sign of currency before or behind it, or with the currency's name as well."""
    if len(marks) > 1:
        raise Unparsed("several currencies")
    currency = CURRENCIES[min(marks)]
    inside = split_unit(_MARKS.sub(" ", text))
    if inside.percent or (inside.unit and conversion(currency, inside.unit) is None):
        raise Unparsed("a currency beside another unit")
    return Quantity(inside.number, inside.unit or currency, scale=inside.scale)


def _base(text: str) -> int:
    if text.isdigit():
        return int(text)
    if text not in _BASES:
        raise Unparsed("no base")
    return _BASES[text]


def _needed(number: str) -> str:
    if not number.strip():
        raise Unparsed("a unit without a number")
    return number


def _is_unit(unit: str, number: str) -> bool:
    """Letters after a number are a unit when they are known as one, or are plain words after a
    plain number; `2xy` and `3 sin` are not."""
    words = _WORD.findall(unit)
    if words[0] in _BARE or (len(words) == 2 and len(words[0]) == 1):
        return True
    return re.fullmatch(r"[-+\d., /]+", number) is not None and len(words[0]) > 3


def _quantity(number: str, unit: str) -> Quantity:
    said = re.sub(r"\\text\s*|\\cdot(?![A-Za-z])", " ", unit).replace("\\", " ")
    words = [word.lower() for word in _WORD.findall(said)]
    named = {_PLURALS.get(word, word.removesuffix("s")) for word in words} | set(words)
    if not words or len(words) > 4 or _HEDGES & named or re.search(r"\d{2}|[?=<>]|(?<![\^{-])\d", said):
        raise Unparsed("words that are no unit")
    scale = 1
    while words and words[0].removesuffix("s") in _SCALES:
        scale *= _SCALES[words[0].removesuffix("s")]
        said = said.lower().replace(words.pop(0), " ", 1)
    if words and words[0] in _PERCENT:
        return Quantity(_needed(number), percent=True, scale=scale)
    return Quantity(_needed(number), _canonical(said.lower()), scale=scale)


def _canonical(said: str) -> str:
    """One spelling of a unit: `square meters per hour` is `m^2 h^-1`."""
    powers: dict[str, int] = {}  # in the order of appearance
    last, sign, prefix = "", 1, 1
    for match in _PIECE.finditer(said):
        piece = match[0]
        if piece in ("/", "per"):
            sign = -1
        elif piece in _PREFIXES:
            prefix = _PREFIXES[piece]
        elif match[1] or piece in _SUFFIXES:
            if last not in powers:
                raise Unparsed("the power of no unit")
            powers[last] += sign * (int(match[1] or _SUFFIXES.get(piece, 1)) - 1)
        else:
            last = _named(piece)
            powers[last] = powers.get(last, 0) + sign * prefix
            prefix = 1
    return " ".join(name if power == 1 else f"{name}^{power}" for name, power in powers.items())


def _named(word: str) -> str:
    name = word if word in _UNITS else _singular(word)
    return _UNITS[name][0] if name in _UNITS else name


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("s") and len(word) > 2 and not word.endswith("ss"):
        return _IRREGULAR.get(word[:-1], word[:-1])
    return word


@lru_cache(maxsize=1024)
def conversion(ours: str, theirs: str) -> Fraction | None:
    """What a number in `theirs` is multiplied with to be one in `ours`: 1 when either has no unit,
    when both are the same, or when both are counting words; None when they measure different
    things."""
    if not ours or not theirs or ours == theirs:
        return Fraction(1)
    a, b = _measure(ours), _measure(theirs)
    if a is None and b is None:
        return Fraction(1) if " " not in ours + theirs and "^" not in ours + theirs else None
    if _is_length_unit(ours, b) or _is_length_unit(theirs, a):
        return Fraction(1)
    if a is None or b is None or a[0] != b[0]:
        temperatures = {"celsius", "fahrenheit", "degree"}
        return Fraction(1) if "degree" in (ours, theirs) and {ours, theirs} <= temperatures else None
    return b[1] / a[1]


def _is_length_unit(unit: str, measure: tuple[_Dimensions, Fraction] | None) -> bool:
    """`units`, `units^2`: lengths on a grid, of no said size."""
    name, _, power = unit.partition("^")
    if name != "unit":
        return False
    if measure is None:
        return not power
    return not power or measure[0] == (("length", int(power)),)


def _measure(unit: str) -> tuple[_Dimensions, Fraction] | None:
    """Dimensions and factor of a canonical unit; None when a word of it is unknown."""
    powers: Counter[str] = Counter()
    factor = Fraction(1)
    for part in unit.split():
        name, _, power = part.partition("^")
        if name not in _UNITS:
            return None
        _, dimensions, size = _UNITS[name]
        factor *= size ** int(power or 1)
        for dimension, exponent in dimensions:
            powers[dimension] += exponent * int(power or 1)
    return tuple(sorted((d, p) for d, p in powers.items() if p)), factor
