"""What is kept of a wrong answer: its text, or a piece of it around the first difference.

Whoever reads the response later sees what the program said beside what was expected. Bounded, whatever a
program wrote."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import zip_longest

from acereason.problems import Got, Test
from acereason.verify.compare import CHUNK, Piece, piece, same_number

KEPT = 1000  # characters of an answer
BEFORE = 200  # of them at most before the difference
LOOKED = CHUNK  # bytes in which the difference is looked for
_BLANKS = " \n\t\r\f\v"
_WORDS = {
    "stdin": re.compile(r"\n[ \t\r\f\v\n]*|[^ \t\r\f\v\n]+"),
    "functional": re.compile(r'[\[\]{},:]|"(?:[^"\\]|\\.)*"?|[^\s\[\]{},:"]+'),
}
Places = tuple[int, int]  # in the answer, in the expected text


def excerpt(test: Test, answer: bytes | Piece) -> Got:
    """The answer if it is short, else KEPT characters of it from a little before the first difference."""
    given = piece(answer)
    data = given.read(0, min(given.size, LOOKED))
    text = data.decode("utf-8", "replace")
    if len(text) <= KEPT and len(data) == given.size:
        return Got(text, size=given.size)
    at, expected_at = _begin(test, text)
    return Got(text[at : at + KEPT], at, expected_at, given.size)


def _begin(test: Test, text: str) -> Places:
    """Where to begin in both texts; the same words lie before. At the very beginning where that shows the
    difference, or where none is found."""
    seen: deque[Places] = deque(maxlen=BEFORE)
    for word, expected in zip_longest(*(_words(test, one) for one in (text, test.output[:LOOKED]))):
        (a, said), (b, wanted) = word or (len(text), ""), expected or (len(test.output[:LOOKED]), "")
        if not _same(said, wanted):
            return _before(seen, (a, b), _common(said, wanted))
        if not said.startswith("\n"):
            seen.append((a, b))
    return 0, 0


def _before(seen: deque[Places], here: Places, common: int) -> Places:
    """BEFORE characters before the difference, which stands `common` characters into the words at `here`."""
    a, b = here
    if a + common <= KEPT // 2 and b + common <= KEPT // 2:
        return 0, 0
    if common > BEFORE:
        return a + common - BEFORE, b + common - BEFORE
    near = [places for places in seen if a + common - places[0] <= BEFORE]
    return near[0] if near else here


def _words(test: Test, text: str) -> Iterator[tuple[int, str]]:
    """The words with their places; a line's end is one, whatever blanks stand around it."""
    start = len(text) - len(text.lstrip(_BLANKS))
    for match in _WORDS[test.type].finditer(text, start):
        word = match[0]
        yield match.start(), "\n" * word.count("\n") if word[0] == "\n" else word


def _common(a: str, b: str) -> int:
    """Characters with which both begin."""
    shorter = min(len(a), len(b))
    return next((place for place in range(shorter) if a[place] != b[place]), shorter)


def _same(a: str, b: str) -> bool:
    return a == b or same_number(a, b)
