"""A response's text as its tokens come, and how much of it more tokens will not change.

Only the tokens behind the last settled piece are decoded, with that piece before them: what a token looks
like may depend on the one before it, and a character may take several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from acereason.serving.answers import Speller, first_stop

HALF = "\ufffd"  # half of a character


class Growing:
    """The text of one response. `enough` once it holds one of the caller's `stops`, or has its end token."""

    def __init__(self, speller: Speller, stops: Sequence[str] = ()) -> None:
        self._speller, self._stops = speller, stops
        self._longest = max(map(len, stops), default=0)
        self._window: list[int] = []  # tokens from the last settled piece on
        self._before = ""  # the text of that piece
        self._kept = 0  # its tokens
        self._count = 0
        self._marks = [(0, 0)]  # tokens, and characters that they settle
        self._place: int | None = None  # where a stop begins
        self.text, self.enough = "", False

    def add(self, tokens: Iterable[int]) -> None:
        """Take the next tokens; what comes behind an end is dropped."""
        for token in tokens:
            if self.enough:
                return
            self._count += 1
            if token in self._speller.ends:
                self.enough = True
            else:
                self._take(token)

    def _take(self, token: int) -> None:
        self._window.append(token)
        whole = self._speller.piece(self._window)
        new = whole[len(self._before) :]
        if not new or whole.endswith(HALF):
            return
        self._look(new)
        self._marks.append((self._count, len(self.text)))
        self._window = self._window[self._kept :]
        self._kept, self._before = len(self._window), self._speller.piece(self._window)

    def _look(self, new: str) -> None:
        """Add a piece of text; a stop may begin in the one before."""
        begin = max(0, len(self.text) - self._longest + 1)
        self.text += new
        place = first_stop(self.text[begin:], self._stops)
        if place is not None:
            self._place, self.enough = begin + place, True

    def settled(self) -> tuple[int, int]:
        """Tokens and characters that can be told: no half of a character, nor what may become a stop."""
        sure = self._place if self._place is not None else len(self.text) - self._begun()
        return next(mark for mark in reversed(self._marks) if mark[1] <= sure)

    def _begun(self) -> int:
        """How many characters at the end may be the beginning of a stop."""
        most = min(self._longest - 1, len(self.text))
        ends = (self.text[len(self.text) - n :] for n in range(most, 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stops)), 0)
