"""What a check found."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """error: the run would fail, or mean something else. warning: it may. note: what was found. `text` says
    how to mend it."""

    kind: Kind
    about: str
    text: str
