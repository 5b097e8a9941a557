"""Answers that are words, and times of day."""

from __future__ import annotations

import re

from acereason.verify.answers.clean import without_texts
from acereason.verify.answers.parse import parse
from acereason.verify.answers.tokens import Unparsed

_SYNONYMS = {
    "does not exist": "dne", "doesnt exist": "dne", "undefined": "dne",
    "no solutions": "no solution",
    "all reals": "all real numbers",
    "no real solutions": "no real solution",
}  # fmt: skip
_WORD = r"[A-Za-z]+(?:['\-][A-Za-z]+)*\.?"
_WORDS = re.compile(rf"{_WORD}(?: {_WORD})*")
_CLOCK = re.compile(
    r"(\d{1,2})(?::(\d{2}))?\s*(?:\\text\{)?\s*(?:([APap])\s?\.?\s?[Mm]\.?|([Nn]oon)|([Mm]idnight))\s*\}?"
    r"|(\d{1,2}):(\d{2})\s*([ap])"
)
_NOON = {"noon": (12, 0), "midnight": (0, 0)}
_SIMPLE_GROUP = re.compile(r"\{\s*(\\?\w+)\s*\}")
_PIECE = re.compile(r"\\?[A-Za-z]+|\d+(?:[.,]\d+)*|[^\s\w'\"?~.,;!]")
_ARTICLE = re.compile(r"\s*(?:the|an?)\s+(?=[a-z]{2})")


def words_of(text: str) -> str | None:
    """The words of a text in lower case, without articles and punctuation; None when it is none."""
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
    lower = [word.lower().strip(".'-") for word in words]
    if len(lower) > 1 and lower[0] in ("a", "an", "the"):
        lower = lower[1:]
    said = " ".join(lower).replace("'", "")
    return _SYNONYMS.get(said, said)


def same_words(ours: str, theirs: str) -> bool:
    """Whether two texts that no grammar reads are the same but for case, articles and punctuation."""
    plain = (_ARTICLE.sub("", without_texts(text).lower(), count=1) for text in (ours, theirs))
    a, b = (_PIECE.findall(_SIMPLE_GROUP.sub(r" \1 ", text)) for text in plain)
    return bool(a) and a == b and any(len(word) > 2 and word.isalpha() for word in a)


def clock(text: str) -> tuple[int, int] | None:
    """Hour (0 to 23) and minute of a time that says which half of the day it is in."""
    if text.lower() in _NOON:
        return _NOON[text.lower()]
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hour, minute = int(match[1] or match[6]), int(match[2] or match[7] or 0)
    late = (match[3] or match[8] or ("p" if match[4] else "a")).lower() == "p"
    if not 1 <= hour <= 12 or minute > 59:
        return None
    return hour % 12 + 12 * late, minute
