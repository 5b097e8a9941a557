"""Reading a unit, a counting word or a percent sign off a number.

Units that measure the same thing compare after conversion, as exact factors of a base unit. A word
that is no known unit counts as a counting word ("7 apples") when it is plain: no digits, no number
words, and none of the words with which an answer hedges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from acereason.verify.answers.parse import Unparsed, word_set


@dataclass(frozen=True, slots=True)
class Quantity:
    """The text of a number, its unit in canonical spelling, and a scale word's factor."""

    number: str
    unit: str = ""
    percent: bool = False
    scale: int = 1


# name: (what it measures, its first spelling, factor to the base unit)
_MEASURES: dict[str, tuple[str, str, Fraction]] = {}
for _kind, _entries in {
    "length": "mm millimeter 1/1000, cm centimeter 1/100, dm decimeter 1/10, m meter 1,"
    " km kilometer 1000, in inch 127/5000, ft foot feet 381/1250, yd yard 1143/1250,"
    " mi mile 201168/125",
    "time": "ms millisecond 1/1000, s sec second 1, min minute 60, h hr hour 3600, day 86400,"
    " week 604800, month 2629746, yr year 31556952",
    "mass": "mg milligram 1/1000000, g gram 1/1000, kg kilogram 1, t ton tonne 1000,"
    " lb pound 45359237/100000000, oz ounce 45359237/1600000000",
    "volume": "ml milliliter 1/1000, cl 1/100, l liter litre 1, gallon 473176473/125000000",
    "angle": "degree deg 1, rad radian 0",
    "money": "dollar buck usd 1, cent 1/100, penny 1/100",
}.items():
    for _entry in _entries.split(","):
        *_names, _factor = _entry.split()
        for _name in _names:
            _MEASURES[_name] = (_kind, _names[0], Fraction(_factor))
_IRREGULAR = {
    "inches": "inch",
    "metre": "meter",
    "centimetre": "centimeter",
    "kilometre": "kilometer",
    "pennies": "penny",
    "feet": "foot",
    "people": "person",
    "kmh": "km h",
    "kph": "km h",
    "mph": "mi h",
}
_BARE = word_set(
    "mm cm dm km mi ft yd sec min hr hrs hour hours minutes seconds days mg kg lb lbs oz ml mL deg"
    " degrees dollars cents euros units mph kmh meters metres miles feet inches years months weeks"
    " grams liters litres square cubic pounds percent"
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_HEDGES = word_set(
    "or and maybe either neither nor not possibly perhaps probably about approximately approx"
    " roughly around between than least most to from mod modulo if else unless except no none but"
    " plus minus times divided over is are was be accept accepted wrong right correct incorrect"
    " answer also zero one two three four five six seven eight nine ten eleven twelve dozen half"
    " third quarter twice double triple any all some both each every other otherwise could would"
    " might may more fewer less greater smaller larger up down false untrue invalid impossible never"
    " negative squared cubed factorial root inverse reciprocal power pi infinity thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
    " fourth fifth sixth seventh eighth ninth tenth hundredth thousandth millionth couple score gross"
)
_PLURALS = {"halves": "half"}
_GROUPS = re.compile(
    r"(?P<number>.*?)(?P<unit>(?:\s*(?:/|\\cdot)?\s*\\text\{[^{}]*\}(?:\^\{?-?\d\}?)?)+)", re.DOTALL
)
_PLAIN = re.compile(
    r"(?P<number>.*?[\d)}.\]])\s*(?P<unit>(?:[A-Za-z]{2,}(?:[ /]+[A-Za-z]+)*|[mg]/[smh])(?:\^\{?-?\d\}?)?)",
    re.DOTALL,
)
_BASE = re.compile(r"(?P<number>-?\d+(?:\.\d+)?)_\{?(?P<base>\d{1,2})\}?")
_DEGREES = re.compile(
    r"(?P<number>(?:(?!sin|cos|tan|sec|csc|cot).)*?)\s*\^\s*\{?\\circ\s*\}?"
    r"\s*(?:C|F|\\text\{\s*[CF]\s*\})?",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z]+")


def split_unit(text: str) -> Quantity:
    """Number and unit of a quantity. Raises Unparsed when there are words that are no unit."""
    text = text.strip()
    if text.endswith("%"):
        return Quantity(_needed(text[:-1]), percent=True)
    degrees = _DEGREES.fullmatch(text)
    if degrees is not None:
        return Quantity(_needed(degrees["number"]), "degree")
    based = _BASE.fullmatch(text)
    if based is not None:
        return Quantity(based["number"], f"base {based['base']}")
    groups = _GROUPS.fullmatch(text)
    if groups is not None:
        return _quantity(groups["number"], groups["unit"])
    plain = _PLAIN.fullmatch(text)
    if plain is not None and _is_unit(plain["unit"], plain["number"]):
        return _quantity(plain["number"], plain["unit"])
    if "\\text" in text:
        raise Unparsed("words in the middle")
    return Quantity(text)


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
    words = [word.lower() for word in _WORD.findall(re.sub(r"\\(?:text|cdot)", " ", unit))]
    named = {_PLURALS.get(word, word.removesuffix("s")) for word in words} | set(words)
    if len(words) > 4 or _HEDGES & named or re.search(r"\d{2}|[?=<>]", unit):
        raise Unparsed("words that are no unit")
    if re.search(r"\\text\{[^{}]*\d", unit):
        raise Unparsed("a number among the words")
    scale = 1
    while words and words[0].removesuffix("s") in _SCALES:
        scale *= _SCALES[words.pop(0).removesuffix("s")]
    if words and words[0] in ("percent", "pct"):
        return Quantity(_needed(number), percent=True, scale=scale)
    power = re.search(r"\^\{?(-?\d)", unit)
    return Quantity(_needed(number), _canonical(words, power[1] if power else ""), scale=scale)


def _canonical(words: list[str], power: str) -> str:
    """One spelling of a unit: first names of measures, `square meters` as m^2, `per` left out."""
    for prefix, exponent in (("square", "2"), ("sq", "2"), ("cubic", "3"), ("cu", "3")):
        if words and words[0] == prefix and len(words) > 1:
            words, power = words[1:], exponent
    names = [_singular(word) for word in words if word != "per"]
    names = [_MEASURES[name][1] if name in _MEASURES else name for name in names]
    return " ".join(names) + (f"^{power}" if power else "")


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("s") and len(word) > 2 and not word.endswith("ss"):
        return _IRREGULAR.get(word[:-1], word[:-1])
    return word


def conversion(ours: str, theirs: str) -> Fraction | None:
    """What a number in `theirs` is multiplied with to be one in `ours`: 1 when either has no unit,
    when both are the same, or when both are counting words; None when they measure different
    things."""
    if not ours or not theirs or ours == theirs:
        return Fraction(1)
    a, b = _measure(ours), _measure(theirs)
    if a is None and b is None:
        return Fraction(1) if " " not in ours + theirs and "^" not in ours + theirs else None
    if "unit" in (ours.partition("^")[0], theirs.partition("^")[0]):
        return Fraction(1)
    if a is None or b is None or a[:2] != b[:2] or not a[2] or not b[2]:
        return None
    return (b[2] / a[2]) ** a[1]


def _measure(unit: str) -> tuple[str, int, Fraction] | None:
    """What a unit measures, in which power, and the factor of its first power."""
    name, _, power = unit.partition("^")
    if name not in _MEASURES:
        return None
    kind, _, factor = _MEASURES[name]
    return kind, int(power or 1), factor
