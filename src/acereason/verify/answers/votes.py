"""Which answers say the same: a vote counts values, not spellings.

0.5, 1/2 and \\frac12 are one answer, right or wrong. Two texts that the exact comparison cannot decide are
one only when they are equal but for spaces.
"""

from __future__ import annotations

from collections.abc import Sequence

from acereason.verify.answers.decide import decide

LONGEST = 400  # characters of an answer that is compared by value


def alike(answers: Sequence[str | None]) -> list[int | None]:
    """A number for each answer, the same for the same value; None for a missing one."""
    texts = [None if answer is None else " ".join(answer.split()) for answer in answers]
    numbers: dict[str, int] = {}
    first: list[str] = []  # of each value
    for text in dict.fromkeys(texts):
        if text is not None:
            numbers[text] = next((i for i, other in enumerate(first) if _same(other, text)), len(first))
            if numbers[text] == len(first):
                first.append(text)
    return [None if text is None else numbers[text] for text in texts]


def _same(one: str, other: str) -> bool:
    if "".join(one.split()) == "".join(other.split()):
        return True
    if max(len(one), len(other)) > LONGEST:
        return False
    return decide(one, other) is True or decide(other, one) is True
