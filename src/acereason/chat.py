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

_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_OPENING = re.compile(r"```[ \t]*py(?:thon)?[\d.]*(?![\w+#-])[^\n]*", re.IGNORECASE)
_CLOSING = re.compile(r"^[ \t]*```", re.MULTILINE)
_BEFORE_FENCE = re.compile(r"([ \t]*)(?:[-*+]|\d{1,9}[.)])?[ \t]*")  # blanks, and the mark of a list's item


def final_part(text: str) -> str | None:
    """What stands after the last `</think>`; None when the thinking was not closed.

    `text` is a response to a prompt that already opened `<think>`."""
    end = text.rfind(END_THINK)
    tail = text[end + len(END_THINK) :]
    return None if end < 0 or THINK in tail else tail


def boxed_answer(text: str | None) -> str | None:
    """The content of the last `\\boxed{…}` of `text`, in linear time; None when there is none, or when
    the last one that was opened never closes: then the response was not finished.

    Of nested boxes the innermost is the last. Escaped braces do not count for the balance."""
    box: tuple[int, int] | None = None
    last_opened = -1
    opened: list[int] = []  # where each open brace's box content starts; −1 for other braces
    for match in _BRACES.finditer(text or ""):
        mark = match[0]
        if mark == "}":
            start = opened.pop() if opened else -1
            if start >= 0 and (box is None or start > box[0]):
                box = (start, match.start())
        elif mark[-1] == "{" and mark != "\\{":
            opened.append(match.end() if len(mark) > 1 else -1)
            last_opened = max(last_opened, opened[-1])
    if text is None or box is None or box[0] < last_opened:
        return None
    return text[box[0] : box[1]].strip()


def code_block(text: str | None) -> str | None:
    """The content of the last closed block of `text` that is marked as Python (`python`, `py`, `python3`,
    in any case); None when there is none.

    The block ends at the first fence that starts a line, or failing that at the first at all. One that stands
    indented, in a list say, loses the indentation of its fence. Linear: an opening without any fence behind
    it can only be the last one."""
    for opening in reversed(list(_OPENING.finditer(text or ""))):
        assert text is not None
        start = opening.end() + 1  # behind the rest of its line
        closing = _CLOSING.search(text, start)
        end = closing.start() if closing else text.find("```", start)
        if end >= 0:
            return _dedented(text[start:end].rstrip() + "\n", _before(text, opening.start()))
    return None


def _before(text: str, fence: int) -> str:
    return text[text.rfind("\n", 0, fence) + 1 : fence]


def _dedented(code: str, before: str) -> str:
    """Code without the columns that its fence is indented by; a line that has fewer loses what it has."""
    blanks = _BEFORE_FENCE.fullmatch(before)
    in_item = blanks is not None and blanks[1] != before
    if not before or blanks is None or (in_item and not code[: len(before)].isspace()):
        return code
    return re.sub(rf"^[ \t]{{1,{len(before)}}}", "", code, flags=re.MULTILINE)
