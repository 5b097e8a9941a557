"""Multiple choice: the options are shown under letters, and the answer is the letter in the box.

    \\boxed{B}   \\boxed{(b)}   \\boxed{\\text{B.}}   \\boxed{B) 42}   \\boxed{B: the text}

`Problem.answer` is the right letter and `meta["options"]` the texts in the order shown. A box that holds an
option's text and no letter counts when it is the text of exactly one option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from acereason.chat import boxed_answer
from acereason.problems import Problem, Verdict
from acereason.verify.domains import Domain, Mode, Tools

DOMAIN = "acereason.verify.choices:CHOICES"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REQUEST = "Please place the letter of your answer inside \\boxed{}."
_LATEX = re.compile(r"\\(?:text|textbf|mathbf|mathrm|textit|rm|bf)\b\s*")
_LETTER = re.compile(r"\(?\s*([A-Za-z])\s*(?:[).:,\-–]|$)(?:\s.*|)", re.DOTALL)


def ask(problem: Problem) -> str:
    """The question, its options under letters, and the request."""
    return f"{problem.question}\n\n{shown(problem.meta.get('options', []))}\n\n{REQUEST}"


def shown(options: Sequence[str]) -> str:
    """Options under letters, one a line."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def letter_of(answer: str, options: Sequence[str]) -> str | None:
    """The letter that an answer names; None when it names none of the options."""
    bare = _LATEX.sub("", answer).replace("{", "").replace("}", "").replace("$", "").strip().strip(".")
    match = _LETTER.fullmatch(bare)
    if match and match[1].upper() in LETTERS[: len(options)]:
        return match[1].upper()
    texts = ["".join(option.split()).lower() for option in options]
    same = [i for i, text in enumerate(texts) if text == "".join(answer.split()).lower()]
    return LETTERS[same[0]] if len(same) == 1 else None


def _at_once(problem: Problem, answer: str, _: Mode) -> Verdict:
    options = problem.meta.get("options", [])
    wanted = (problem.answer or "").strip().upper()
    if not wanted or wanted not in LETTERS[: len(options)]:
        return Verdict("unjudged", None, detail=f"problem {problem.id} names no letter of its options")
    named = letter_of(answer, options)
    if named == wanted:
        return Verdict("correct", 1, extracted=named)
    return Verdict("wrong", 0, extracted=named or answer, detail="" if named else "names no option")


def _judge(problem: Problem, answer: str, tools: Tools) -> Verdict:
    return _at_once(problem, answer, tools.mode)


CHOICES = Domain("choice", ask, boxed_answer, _judge, _at_once)
