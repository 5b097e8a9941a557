"""The published rule filters for RL prompts: what cannot be asked alone or judged by one answer.

Math (AceReason-Nemotron 1.0, section 3.1): several parts, multiple choice, true/false, proofs,
figures, other languages, over-short prompts, over-long answers; here also missing answers and
answers given away. Code: interactive problems, special judges and several right answers, too few
tests; then tests that no reference solution passes, or that a known wrong solution does.

The papers name the kinds, not the patterns: the patterns are ours, tuned to prefer a lost problem
over a bad one. A rule reads the question's words, so it has errors both ways; every drop is counted
by its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from acereason.curate.funnel import NOTE, Funnel
from acereason.curate.text import tokens
from acereason.problems import Problem, Verdict

Judge = Callable[[Problem, str], Verdict]


class MathRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which rules for math hold. Lengths are ours: the papers print none."""

    several_parts: bool = True
    multiple_choice: bool = True
    true_false: bool = True
    proofs: bool = True
    figures: bool = True
    other_languages: bool = True
    answer_given: bool = True
    min_question_tokens: int = 4
    max_answer_characters: int = 100


class CodeRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which rules for code hold. `min_tests` is ours."""

    interactive: bool = True
    special_judge: bool = True
    figures: bool = True
    min_tests: int = 1


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


def _marks(*patterns: str) -> list[re.Pattern[str]]:
    """Marks that make an enumeration when they follow one another: (a) … (b)."""
    return [re.compile(pattern, re.MULTILINE) for pattern in patterns]


_ASK = r"(?i:find|what|how|determine|compute|calculate|prove|show|evaluate|express|write|is|if|for)"
_PARTS = [
    _marks(r"(?:^|[\s.;:?])\(?\s*a\s*\)\s", r"[\s.;:?]\(?\s*b\s*\)\s"),
    _marks(r"(?:^|[\s.;:?])\(\s*i\s*\)\s", r"[\s.;:?]\(\s*ii\s*\)\s"),
    _marks(rf"(?:^\s*1[.)]|\(1\))\s*{_ASK}\b", rf"(?:^\s*2[.)]|\(2\))\s*{_ASK}\b"),
]
_CHOICES = [
    _marks(r"\(\s*A\s*\)", r"\(\s*B\s*\)", r"\(\s*C\s*\)"),
    _marks(r"(?:^|\s)A[.:)]\s", r"\sB[.:)]\s", r"\sC[.:)]\s"),
]
_CHOICE = _any(
    r"which (?:one )?of the (?:following|statements|options)",
    r"\bmultiple[- ]choice\b",
    r"\bnone of the above\b",
    r"\bthe correct (?:option|choice|statement)",
)
_TRUTH = _any(
    r"\btrue or false\b",
    r"\btrue/false\b",
    r"\bis (?:it|this|the (?:following )?statement) (?:true|correct|false)\b",
    r"\b(?:determine|judge) (?:if|whether) (?:the|each|this) (?:following )?(?:statement|claim)",
)
_PROOF = _any(
    r"\b(?:prove|disprove|justify)\b",
    r"\b(?:show|demonstrate|verify) that\b",
    r"\bshow,? (?:how|why)\b",
    r"\bgive a proof\b",
)
_FIGURE = _any(
    r"\b(?:the|this|following|adjoining|accompanying|given) (?:figure|diagram|picture|image)\b",
    r"\bfigure \d",
    r"\b(?:figure|diagram|graph|picture|table|chart|map|grid) (?:is )?(?:shown|below|above)\b",
    r"\bshown (?:below|above|here|in (?:the )?fig)",
    r"\bas shown\b",
    r"\bsee (?:the )?fig",
    r"\[asy\]|!\[|<img|\\includegraphics|\[img",
    r"\.(?:png|jpe?g|gif|svg)\b",
)
_GIVEN = _any(
    r"\\boxed\s*\{\s*[^}\s]",
    r"(?:^|\n)[ \t]*\**(?:final )?(?:answer|ans|solution)\**\s*[:.]\s*\S",
)
_SENTINELS = {"", "proof", "notfound", "not found", "none", "n/a", "na", "unknown", "see solution"}
_BOOLEAN = {"true", "false", "yes", "no", "correct", "incorrect"}
_LIST = "the of and is in to that for are with be what find"
_ENGLISH = frozenset(_LIST.split())
_OTHERS = """
    el los las que una por est les une des sont der die und das ist ein il che gli een het och w
    jest
    се и"""
_FOREIGN = frozenset(_OTHERS.split())


def foreign(question: str) -> bool:
    """Whether a question is not in English: letters of another script, or another language's
    words."""
    letters = [c for c in question if c.isalpha()]
    if sum(not c.isascii() for c in letters) > 0.1 * max(len(letters), 1):
        return True
    words = Counter(re.findall(r"[^\W\d_]+", re.sub(r"\$[^$]*\$", " ", question.lower())))
    return sum(words[w] for w in _FOREIGN) > 1 + sum(words[w] for w in _ENGLISH)


def math_reason(problem: Problem, rules: MathRules) -> str | None:
    """Why a math problem is dropped; None: it stays."""
    question, answer = problem.question, (problem.answer or "").strip()
    if answer.lower() in _SENTINELS:
        return "no answer"
    if len(answer) > rules.max_answer_characters:
        return "over-long answer"
    if len(tokens(question)) < rules.min_question_tokens:
        return "over-short question"
    boolean = answer.strip(".").lower() in _BOOLEAN
    letter = bool(re.fullmatch(r"\(?[A-E]\)?|\\text\{\(?[A-E]\)?\}", answer))
    checks: list[tuple[bool, str, Callable[[], object]]] = [
        (rules.other_languages, "other language", lambda: foreign(question)),
        (rules.multiple_choice, "multiple choice", lambda: letter_choice(question, letter)),
        (rules.true_false, "true or false", lambda: boolean or _TRUTH.search(question)),
        (rules.proofs, "proof", lambda: _PROOF.search(question)),
        (rules.figures, "figure", lambda: _FIGURE.search(question)),
        (rules.several_parts, "several parts", lambda: _enumerated(question, _PARTS)),
        (rules.answer_given, "answer given in the question", lambda: _GIVEN.search(question)),
    ]
    return next((reason for holds, reason, applies in checks if holds and applies()), None)


def _enumerated(question: str, enumerations: list[list[re.Pattern[str]]]) -> bool:
    """Whether the marks of some enumeration follow one another."""

    def all_follow(marks: list[re.Pattern[str]]) -> bool:
        at = 0
        for mark in marks:
            if not (match := mark.search(question, at)):
                return False
            at = max(match.start(), match.end() - 1)
        return True

    return any(map(all_follow, enumerations))


def letter_choice(question: str, letter: bool) -> bool:
    """Options A, B, C in the text; or an answer that is a letter the question does not define."""
    if _CHOICE.search(question) or _enumerated(question, _CHOICES):
        return True
    return letter and not re.search(r"\$[^$]*[A-E][^$]*\$|\b[A-E]\b", question)


_INTERACTIVE = _any(
    r"\binteractive (?:problem|task)",
    r"\binteract(?:s|ion|ing)? with (?:the )?(?:judge|jury|grader|interactor)",
    r"\bflush(?:ing)? (?:the )?(?:output|standard|stdout|buffer)",
    r"\bfflush\b",
)
_GOOD = r"(?:possible |valid |correct |optimal |such |suitable )"
_SPECIAL = _any(
    r"\b(?:print|output|return|find|give|choose) any\b",
    r"\bany (?:one )?of (?:them|these)\b",
    r"\bin any order\b",
    rf"\bany {_GOOD}+(?:answer|solution|one|output)",
    rf"\b(?:multiple|several|many) {_GOOD}*(?:answers|solutions|outputs)\b",
    rf"\bmore than one {_GOOD}*(?:answer|solution)",
    r"\b(?:absolute|relative)(?: or (?:absolute|relative))? (?:error|precision)",
    r"\bspecial (?:judge|checker)",
)


def code_reason(problem: Problem, rules: CodeRules) -> str | None:
    """Why a code problem is dropped; None: it stays."""
    if len(problem.tests) < max(rules.min_tests, 1):
        return "no tests" if not problem.tests else f"fewer than {rules.min_tests} tests"
    if rules.interactive and _INTERACTIVE.search(problem.question):
        return "interactive"
    checker = problem.meta.get("checker") or _SPECIAL.search(problem.question)
    if rules.special_judge and checker:
        return "special judge or several right answers"
    return "figure" if rules.figures and _FIGURE.search(problem.question) else None


def by_rules(
    problems: Iterable[Problem], math: MathRules | None = None, code: CodeRules | None = None
) -> tuple[list[Problem], Funnel]:
    """Keep the problems that no rule of their domain drops; other domains pass."""
    kept, dropped, before = [], Counter[str](), 0
    for problem in problems:
        before += 1
        reason = None
        if problem.domain == "math" and math:
            reason = math_reason(problem, math)
        elif problem.domain == "code" and code:
            reason = code_reason(problem, code)
        if reason:
            dropped[f"{problem.domain}: {reason}"] += 1
        else:
            kept.append(problem)
    return kept, Funnel("rules", before, len(kept), dict(dropped))


def soundness(problem: Problem, judge: Judge) -> str | None:
    """Why the tests of a code problem cannot be trusted; a reason that starts with "note: " keeps
    it.

    Reference solutions stand in `meta["solutions"]`, known wrong ones in `meta["wrong_solutions"]`:
    at least one of the first must pass, and none of the second."""
    solutions, wrong = (list(problem.meta.get(x) or ()) for x in ("solutions", "wrong_solutions"))
    verdicts = []
    for solution in solutions:
        verdicts.append(judge(problem, solution).outcome)
        if verdicts[-1] == "correct":
            break
    if solutions and "correct" not in verdicts:
        return "could not judge" if "unjudged" in verdicts else "no reference solution passes"
    if any(judge(problem, solution).outcome == "correct" for solution in wrong):
        return "a wrong solution passes"
    return None if solutions else NOTE + "no reference solution"


def sound_tests(problems: Iterable[Problem], judge: Judge) -> tuple[list[Problem], Funnel]:
    """Keep code problems whose tests a reference solution passes and no known wrong one does."""
    kept, dropped, before = [], Counter[str](), 0
    for problem in problems:
        before += 1
        reason = soundness(problem, judge) if problem.domain == "code" else None
        if reason:
            dropped[reason] += 1
        if reason is None or reason.startswith(NOTE):
            kept.append(problem)
    return kept, Funnel("sound tests", before, len(kept), dict(dropped))
