"""Lists and structs that stand in a table's cells as text: as JSON, or as Python writes them (pandas to CSV).

Only columns that are known to hold them are looked at, and a text that does not hold what its column should
is left as it is: `[1, 2]` may be an answer, and a question may begin with a bracket.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

MOST = 1 << 20  # characters that are read as Python
_ARRAY = re.compile(r"array\((\[.*?\])(?:,\s*dtype=\w+)?\)", re.DOTALL)


def _turns(value: Any) -> bool:
    return bool(value) and all(isinstance(t, Mapping) and ("role" in t or "from" in t) for t in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


_KNOWN: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("prompt", "messages", "conversations", "question", "problem"), _turns),
    **dict.fromkeys(("test_list", "test_imports"), _texts),
    **dict.fromkeys(
        ("reward_model", "extra_info", "verification_info", "metadata", "meta"),
        lambda v: isinstance(v, Mapping),
    ),
}


def opened(name: str, value: Any) -> Any:
    """The list or struct in a cell of that column, else the cell."""
    fits = _KNOWN.get(name)
    if fits is None or not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    cell = read_cell(value.strip())
    return cell if cell is not None and fits(cell) else value


def read_cell(text: str) -> Any:
    """What a text holds as JSON, or as Python writes it; None: neither."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        pass
    if len(text) > MOST:
        return None
    try:
        return ast.literal_eval(_ARRAY.sub(r"\1", text.strip()))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
