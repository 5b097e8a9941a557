"""What is cut out of a response: the thinking, the final answer, the code block.

A response continues a thinking that its prompt opened with `<think>\\n`; it counts as finished thinking only
after `</think>`. How problems are put is in `prompts`; its names are here, too.
"""

from __future__ import annotations

import re

from acereason.prompts import (
    CODE_REQUEST,
    END_THINK,
    END_TURN,
    MATH_REQUEST,
    SPECIAL_TOKENS,
    SYSTEM_1_1,
    THINK,
    TURN,
    Format,
    instruction,
    prompt,
)

__all__ = [
    "CODE_REQUEST",
    "END_THINK",
    "END_TURN",
    "MATH_REQUEST",
    "SPECIAL_TOKENS",
    "SYSTEM_1_1",
    "THINK",
    "TURN",
    "Format",
    "boxed_answer",
    "code_block",
    "final_part",
    "instruction",
    "prompt",
]

FENCE = "```python"

_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_CLOSING = re.compile(r"^[ \t]*```", re.MULTILINE)


def final_part(text: str) -> str | None:
    """What stands after the last `</think>`; None when the thinking was not closed.

    `text` is a response to a prompt that already opened `<think>`."""
    end = text.rfind(END_THINK)
    tail = text[end + len(END_THINK) :]
    return None if end < 0 or THINK in tail else tail


def boxed_answer(text: str | None) -> str | None:
    """The content of the last balanced `\\boxed{…}` of `text`, in linear time; None when there is
    none.

    Of nested boxes the innermost is the last. Escaped braces do not count for the balance."""
    found: tuple[int, int] | None = None
    opened: list[int] = []  # where each open brace's box content starts; −1 for other braces
    for match in _BRACES.finditer(text or ""):
        mark = match[0]
        if mark == "}":
            start = opened.pop() if opened else -1
            if start >= 0 and (found is None or start > found[0]):
                found = (start, match.start())
        elif mark[-1] == "{" and mark != "\\{":
            opened.append(match.end() if len(mark) > 1 else -1)
    if text is None or found is None:
        return None
    return text[found[0] : found[1]].strip()


def code_block(text: str | None) -> str | None:
    """The content of the last closed ```` ```python ```` block of `text`; None when there is none.

    The block ends at the first fence that starts a line, or failing that at the first at all.
    Linear: an opening without any fence behind it can only be the last one."""
    if text is None:
        return None
    start = text.rfind(FENCE)
    while start >= 0:
        line_end = text.find("\n", start)
        if line_end >= 0:
            closing = _CLOSING.search(text, line_end)
            end = closing.start() if closing else text.find("```", line_end)
            if end >= 0:
                return text[line_end + 1 : end].rstrip() + "\n"
        start = text.rfind(FENCE, 0, start)
    return None
