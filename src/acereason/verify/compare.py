"""Is a program's answer the expected one? Answers are hostile: of any size, and made to cost.

Standard output is compared word by word. Lines end at a newline only; outer blank lines do not count, nor do
blanks (space, tab, carriage return, form feed, vertical tab) at the ends of a line or how many stand between
two words. Two words are equal as text or as exact decimal numbers: an optional sign, ASCII digits with at
most one point, an optional exponent, no zero in front of another digit. So 1.50 is 1.5 and 1e2 is 100, while
007, 1_000, inf and digits of other scripts equal only themselves.

Results of calls are compared as JSON values by type: `true` is not 1 and "1" is not 1, but 1 is 1.0, since
JSON has one kind of number. A key that comes twice is no object.

Nothing here holds more of an answer than a piece of it, or as much as the expected text justifies, and every
comparison ends at the first difference.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import zip_longest
from typing import Any

CHUNK = 1 << 16  # bytes, or characters
_WORD = re.compile(r"\n[ \t\r\f\v\n]*|[^ \t\r\f\v\n]+")
_BLANKS = " \n\t\r\f\v"
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TOKEN = re.compile(
    rb'[ \t\r\n]*+(?:([\[\]{},:])|("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")'
    rb"|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null))"
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an output file: `read(start, count)` gives its bytes, from 0 to `size`."""

    read: Callable[[int, int], bytes]
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, CHUNK at a time; fewer than `size` if the file was cut."""
        for start in range(0, self.size, CHUNK):
            yield self.read(start, min(CHUNK, self.size - start))


def piece(answer: bytes | Piece) -> Piece:
    """Bytes at hand as a piece."""
    if isinstance(answer, Piece):
        return answer
    return Piece(lambda start, count: answer[start : start + count], len(answer))


class _Unequal(Exception):
    """Nothing that may follow can make it equal."""


def same_output(expected: str, answer: bytes | Piece) -> bool:
    """Whether a program's standard output is the expected one."""
    if same_text(expected, answer):
        return True
    longest = len(expected) + CHUNK
    try:
        theirs = _words(_decoded(piece(answer)), longest)
        ours = _words(_sliced(expected), longest)
        return all(_same_word(a, b) for a, b in zip_longest(ours, theirs))
    except (UnicodeDecodeError, _Unequal):
        return False


def same_text(expected: str, answer: bytes | Piece) -> bool:
    """Whether the answer is the expected text to the byte."""
    if isinstance(answer, bytes):
        return answer == expected.encode("utf-8", "surrogatepass")
    place = 0
    for part in _sliced(expected):
        data = part.encode("utf-8", "surrogatepass")
        if answer.size < place + len(data) or answer.read(place, len(data)) != data:
            return False
        place += len(data)
    return place == answer.size


def _sliced(text: str) -> Iterator[str]:
    return (text[start : start + CHUNK] for start in range(0, len(text), CHUNK))


def _decoded(answer: Piece) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in answer.chunks():
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _words(chunks: Iterator[str], longest: int) -> Iterator[str]:
    """Words, and a newline for every line's end that lies between two of them."""
    begun, lines, rest = False, 0, ""
    for chunk in chunks:
        text = rest + chunk
        whole = 1 + max(text.rfind(blank) for blank in _BLANKS)
        rest = text[whole:]
        if len(rest) > longest:
            raise _Unequal
        for match in _WORD.finditer(text, 0, whole):
            word = match[0]
            if word[0] == "\n":
                lines += word.count("\n")
                continue
            if begun and lines:
                yield from ("\n" for _ in range(lines))
            begun, lines = True, 0
            yield word
    if rest:
        if begun and lines:
            yield from ("\n" for _ in range(lines))
        yield rest


def _same_word(a: str | None, b: str | None) -> bool:
    return a == b or (a is not None and b is not None and same_number(a, b))


def same_number(a: str, b: str) -> bool:
    """Whether both are exact decimal numbers, and the same."""
    if not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
        return False
    try:
        return Decimal(a) == Decimal(b)
    except InvalidOperation:  # an exponent of more than 18 digits
        return False


def same_result(expected: str, answer: bytes | Piece) -> bool:
    """Whether the JSON of a call's result is the expected JSON value. NaN equals nothing."""
    if same_text(expected, answer) and "NaN" not in expected and "Infinity" not in expected:
        return True
    ours, given = expected.encode("utf-8", "surrogatepass"), piece(answer)
    if given.size > 8 * len(ours) + 1024:  # longer than any spelling of it that `json` writes
        return False
    theirs = given.read(0, given.size)
    try:
        return _same_json(ours, theirs)
    except (ValueError, RecursionError, _Unequal):
        return False


def _same_json(ours: bytes, theirs: bytes) -> bool:
    """Token by token; objects, whose keys may be in another order, as a whole."""
    a, b, depth = _Tokens(ours), _Tokens(theirs), 0
    while True:
        x, y = a.next(), b.next()
        if x == y == b"{":
            if not _same_value(a.object(), b.object()):
                return False
        elif not (x == y or _same_token(x, y)):
            return False
        depth += (x == b"[") - (x == b"]")
        if depth <= 0:
            return a.end() and b.end()


class _Tokens:
    """The tokens of a JSON text, one at a time."""

    def __init__(self, text: bytes) -> None:
        self._text, self._start, self._place = text, 0, 0

    def next(self) -> bytes:
        """The next token; _Unequal where there is none."""
        match = _TOKEN.match(self._text, self._place)
        if match is None:
            raise _Unequal
        self._place, self._start = match.end(), match.start(match.lastindex or 0)
        return match[match.lastindex or 0]

    def object(self) -> Any:
        """The value of the object whose opening brace was the last token."""
        start, depth = self._start, 1
        while depth:
            token = self.next()
            depth += (token == b"{") - (token == b"}")
        return _value(self._text[start : self._place])

    def end(self) -> bool:
        """Whether only blanks are left."""
        return not self._text[self._place :].strip(b" \t\r\n")


def _value(text: bytes) -> Any:
    return json.loads(text, parse_int=Decimal, parse_constant=_refuse, object_pairs_hook=_object)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(made := dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return made


def _same_token(x: bytes, y: bytes) -> bool:
    """Strings as what they say, numbers as what they are worth; all else is equal as text only."""
    kinds = b'"', b"-0123456789"
    return any(x[:1] in kind and y[:1] in kind for kind in kinds) and _same_value(_value(x), _value(y))


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_value(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_value, a, b))
    if isinstance(a, Decimal | float) and isinstance(b, Decimal | float):
        return a == b and math.isfinite(a)
    return type(a) is type(b) and bool(a == b)
