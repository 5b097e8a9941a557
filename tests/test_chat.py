"""What is cut out of a response: the last balanced box, the last closed block, the part after
thinking."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason import chat


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{5} and \boxed{6", None),
        (r"\boxed{5 and \boxed{6}", "6"),
        (r"\boxed{5} and \boxed{\frac{1}{2}", None),
        (r"\boxed{5} and \boxed 6", "5"),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{204\\}", "204\\\\"),
        (r"\boxed{}{5}{}", ""),
        (r"\boxed{5", None),
        (r"} \boxed{5}", "5"),
        (r"{ \boxed{5}", "5"),
        ("no box", None),
        (None, None),
    ],
)
def test_the_last_balanced_box(text: str | None, box: str | None) -> None:
    assert chat.boxed_answer(text) == box


def naive_box(text: str) -> str | None:
    """From the last `\\boxed{` on: count braces until they balance."""
    starts = [i for i in range(len(text)) if text.startswith("\\boxed{", i)]
    for start in starts[-1:]:
        depth, position = 1, start + 7
        while position < len(text):
            if text[position] == "\\":
                position += 1
            elif text[position] in "{}":
                depth += 1 if text[position] == "{" else -1
                if depth == 0:
                    return text[start + 7 : position].strip()
            position += 1
    return None


@given(st.lists(st.sampled_from(["\\boxed{", "{", "}", "\\{", "\\}", "a ", "1"]), max_size=24))
def test_box_agrees_with_counting_braces(parts: list[str]) -> None:
    text = "".join(parts)
    assert chat.boxed_answer(text) == naive_box(text)


@pytest.mark.parametrize(
    "unit", [r"\boxed{", r"\boxed{5}", "{", "}", "```python\n", "```py ", "``` ", "</think>", "\\"]
)
def test_extraction_is_linear_on_a_megabyte(unit: str) -> None:
    def spent(copies: int) -> float:
        text = unit * copies
        start = time.process_time()
        for extract in (chat.boxed_answer, chat.code_block, chat.final_part):
            extract(text)
        return time.process_time() - start

    copies = (1 << 20) // len(unit)
    spent(copies // 64)
    # a quadratic scan would take 64 × 64 times as long as the short text, and hours in all
    assert spent(copies) < 20


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("```python\na\n```\n```python\nb\n```", "b\n"),
        ("```python\na\n```\n```python\nb", "a\n"),
        ("so: ```python\na\n```", "a\n"),
        ("```python\nx = '```'\n```\n", "x = '```'\n"),
        ("```python\na```", "a\n"),
        ("```Python\na\n```", "a\n"),
        ("```py\na\n```", "a\n"),
        ("``` python3 title=x\na\n```", "a\n"),
        ("```PYTHON3.11\na\n```", "a\n"),
        ("```pycon\na\n```", None),
        ("```python-repl\na\n```", None),
        ("1. so:\n   ```python\n   if a:\n       b\n\n   c\n   ```\n", "if a:\n    b\n\nc\n"),
        ("- ```py\n  if a:\n    b\n  ```\n", "if a:\n  b\n"),
        ("2) ```py\nif a:\n    b\n```\n", "if a:\n    b\n"),
        ("\t```python\n\tif a:\n\t\tb\n\t```", "if a:\n\tb\n"),
        ("  ```python\n  a\nb\n  ```", "a\nb\n"),
        ("so: ```python\nif a:\n    b\n```", "if a:\n    b\n"),
        ("```\na\n```", None),
        ("print(1)", None),
        (None, None),
    ],
)
def test_the_last_closed_block(text: str | None, code: str | None) -> None:
    assert chat.code_block(text) == code


def test_thinking_must_be_closed() -> None:
    assert chat.final_part("a </think> b") == " b"
    assert chat.final_part("a </think> b </think> c") == " c"
    assert chat.final_part("a") is None
    assert chat.final_part("a </think> b <think> c") is None
