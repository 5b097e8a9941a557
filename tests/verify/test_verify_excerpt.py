"""What is kept of a wrong answer: bounded, a piece of what was said, and with the first difference in it."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.problems import Test
from acereason.verify.compare import piece
from acereason.verify.excerpt import BEFORE, KEPT, excerpt

WORDS = st.lists(st.sampled_from(["1", "-7", "ab", "abc", "é", "[", "x" * 700, "x" * 699 + "y"]), max_size=9)


def difference(ours: list[str], theirs: list[str]) -> tuple[int, int] | None:
    """The first word that differs, and the character in it."""
    for place, (a, b) in enumerate(zip_longest(ours, theirs, fillvalue="")):
        if a != b:
            return place, next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    return None


@pytest.mark.parametrize("kind", ["stdin", "functional"])
@settings(max_examples=60)
@given(st.integers(0, 900), WORDS, WORDS, st.booleans())
def test_the_piece_is_bounded_and_shows_the_first_difference(
    kind: Any, padding: int, ours: list[str], theirs: list[str], wide: bool
) -> None:
    same, gap = [str(n) for n in range(padding)], "  " if wide else " "
    expected, answer = " ".join(same + ours), gap.join(same + theirs)
    got = excerpt(Test(kind, "", expected), answer.encode())
    assert len(got.text) <= KEPT and got.size == len(answer.encode())
    assert answer[got.at :].startswith(got.text)
    assert bool(got.at) == bool(got.expected_at)
    differs = difference(same + ours, same + theirs)
    if differs is not None:
        place, character = differs
        before = gap.join((same + theirs)[:place])
        there = len(before) + (len(gap) if before and place < len(same + theirs) else 0) + character
        assert got.at <= there <= got.at + len(got.text)
        assert answer[got.at : there].split() == expected[got.expected_at :][: there - got.at].split() or wide


@pytest.mark.parametrize("kind", ["stdin", "functional"])
def test_any_bytes_and_any_size_are_looked_at(kind: Any) -> None:
    for data in (b"\xff\xfe" * 600, b'"' * 40_000, b'"\\' * 40_000, b"1," * (1 << 19), b"", b"9" * 70_000):
        got = excerpt(Test(kind, "", "1," * 40_000), piece(data))
        assert len(got.text) <= KEPT and got.size == len(data)


def test_a_difference_far_into_one_long_word_is_shown() -> None:
    expected = "0" * 5000 + "1" + "0" * 5000
    got = excerpt(Test("stdin", "", expected), b"0" * 5001 + b"1")
    assert got.at == got.expected_at == 5000 - BEFORE and "1" in got.text
