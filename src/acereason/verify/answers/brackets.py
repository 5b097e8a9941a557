"""Cutting a text outside of its brackets."""

from __future__ import annotations

from collections.abc import Callable

_OPEN, _CLOSE = "([{", ")]}"


def split(text: str, separator: Callable[[str, int], int]) -> list[str]:
    """Cut outside of brackets. `separator(text, position)` gives the length of a separator or 0."""
    parts, start, position, depth = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        depth += (character in _OPEN) - (character in _CLOSE)
        length = separator(text, position) if depth == 0 else 0
        if length:
            parts.append(text[start:position])
            start = position = position + length
        else:
            position += 1
    return [*parts, text[start:]]


def unbalanced(text: str) -> bool:
    """Whether a bracket closes before it opened, or stays open."""
    depth = 0
    for character in text:
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth < 0:
            return True
    return depth != 0
