"""Contamination: the paper's rule against a naive reference, the two modes it lacks, and the
report."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.curate.decontaminate import Boilerplate, by_source, decontaminate
from acereason.curate.text import tokens
from acereason.problems import Problem


def problems(*questions: str) -> list[Problem]:
    return [Problem(id=str(i), domain="math", question=q) for i, q in enumerate(questions)]


def _grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = tokens(text)
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


TEXTS = st.lists(st.text("ab 1", max_size=14), max_size=8)


@given(TEXTS, TEXTS, st.integers(1, 4), st.sampled_from([0.0, 0.3, 0.6, 1.0]))
@settings(max_examples=300, deadline=None)
def test_any_hit_and_share_equal_naive(
    prompts: list[str], questions: list[str], n: int, share: float
) -> None:
    def worst(prompt: str) -> float:
        shares = [0.0]
        for question in questions:
            a, b = _grams(prompt, n), _grams(question, n)
            if a & b:
                shares.append(len(a & b) / min(len(a), len(b)))
            if tokens(prompt) and tokens(prompt) == tokens(question):
                shares.append(1.0)
        return max(shares)

    kept, report, funnel = decontaminate(problems(*prompts), {"b": questions}, n, min_share=share)
    dropped = {str(i): worst(p) for i, p in enumerate(prompts) if worst(p) > 0 and worst(p) >= share}
    assert {row.prompt: row.share for row in report} == {
        name: round(value, 6) for name, value in dropped.items()
    }
    assert [p.id for p in kept] == [str(i) for i in range(len(prompts)) if str(i) not in dropped]
    assert funnel.before - funnel.after == len(report)
    for row in report:  # the n-gram named does stand in both
        for text in (prompts[int(row.prompt)], row.question):
            assert f" {row.ngram} " in f" {' '.join(tokens(text))} "


@given(TEXTS, TEXTS, st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_boilerplate_equals_naive(prompts: list[str], questions: list[str], n: int, floor: int) -> None:
    everywhere = [gram for prompt in prompts for gram in _grams(prompt, n)]
    stock = {gram for gram in everywhere if everywhere.count(gram) > floor}
    expected = set()
    for i, prompt in enumerate(prompts):
        for question in questions:
            equal = tokens(prompt) == tokens(question) and tokens(prompt)
            if equal or (_grams(prompt, n) & _grams(question, n)) - stock:
                expected.add(str(i))
    rule = Boilerplate(share=0.0, floor=floor)
    _, report, _ = decontaminate(problems(*prompts), {"b": questions}, n, boilerplate=rule)
    assert {row.prompt for row in report} == expected
    assert all(0 < row.share <= 1 for row in report)


def test_procedural_templates_survive_and_equal_prompts_do_not() -> None:
    """Prompts of one template share all their words; only a question that is asked again is a
    leak."""
    state = random.Random(0)

    def ask() -> str:
        a, b, c, d = (state.randrange(10) for _ in range(4))
        return f"Start with {a}, then add {b}, then multiply by {c}, and take the result modulo {d}."

    test = [ask() for _ in range(200)]
    train = problems(*(ask() for _ in range(3000)))
    equal = {p.id for p in train if p.question in test}
    assert equal
    assert len(decontaminate(train, {"test": test})[0]) == 0  # the paper's rule drops everything
    rule = Boilerplate(share=0.002, floor=5)
    kept, report, _ = decontaminate(train, {"test": test}, min_share=0.5, boilerplate=rule)
    assert {row.prompt for row in report if row.rule == "equal"} == equal
    assert len(kept) >= len(train) - len(equal) - 20


def test_short_questions_by_equality_only() -> None:
    train = problems("Compute 2 + 2.", "Compute 2 - 2.", "Now compute 2 + 2 and 3 + 3.", "")
    kept, report, _ = decontaminate(train, {"short": ["compute $2+2$", "", "."]})
    assert [row.prompt for row in report] == ["0"] and report[0].rule == "equal"
    assert len(kept) == 3


def test_by_source() -> None:
    train = [
        Problem("a", "code", "q", meta={"url": "http://www.site.org/p/1/?x=2"}),
        Problem("b", "code", "q", released="2024-08-01"),
        Problem("c", "code", "q", released="2024-08-02T00:00:00"),
        Problem("d", "code", "q", meta={"url": None}),
    ]
    kept, report, funnel = by_source(train, ["https://site.org/p/1"], "2024-08-01")
    assert [p.id for p in kept] == ["b", "d"]
    assert [(row.prompt, row.rule) for row in report] == [("a", "url"), ("c", "date")]
    assert funnel.reasons["note: no release date"] == 1


FIXTURE = Path(__file__).with_name("test_curate_contamination.jsonl")
ANSWER = "$\\frac{{m}}{{n}}$, where $m$ and $n$ are relatively prime positive integers. Find $m+n$"
STOCK = (
    f"The probability is {ANSWER} for a game of {{0}} rounds. "
    f"The answer can be written as {ANSWER}. "
    "Let $N$ be the number of games of {0} rounds. "
    "Find the remainder when $N$ is divided by $1000$."
)


def quality(**mode: Any) -> tuple[float, float, dict[str, list[bool]]]:
    """Precision and recall on the labelled prompts, among 60 others that use the stock phrases."""
    questions, *rows = (json.loads(line) for line in FIXTURE.read_text().splitlines())
    others = [Problem(f"stock{i}", "math", STOCK.format(i)) for i in range(60)]
    labelled = [Problem(str(i), "math", row["prompt"]) for i, row in enumerate(rows)]
    report = decontaminate(others + labelled, {"labelled": questions["questions"]}, **mode)[1]
    dropped = {row.prompt for row in report}
    right = [str(i) in dropped for i, row in enumerate(rows) if row["leaked"]]
    wrong = [str(i) in dropped for i, row in enumerate(rows) if not row["leaked"]]
    kinds: dict[str, list[bool]] = {}
    for i, row in enumerate(rows):
        kinds.setdefault(row["kind"], []).append(str(i) in dropped)
    return sum(right) / max(1, sum(right) + sum(wrong)), sum(right) / len(right), kinds


MODES: dict[str, dict[str, Any]] = {
    "any 9-gram": {},
    "any 14-gram": {"n": 14},
    "share 0.25": {"min_share": 0.25},
    "boilerplate": {"boilerplate": Boilerplate(0.0, 20)},
    "boilerplate, share 0.25": {"boilerplate": Boilerplate(0.0, 20), "min_share": 0.25},
}
# (precision, recall) of each mode; the three leaks that all modes miss are paraphrases
EXPECTED = {
    "any 9-gram": (15 / 20, 15 / 18),
    "any 14-gram": (15 / 19, 15 / 18),
    "share 0.25": (15 / 18, 15 / 18),
    "boilerplate": (1.0, 15 / 18),
    "boilerplate, share 0.25": (1.0, 15 / 18),
}


@pytest.mark.parametrize("name", MODES)
def test_labelled_prompts(name: str) -> None:
    precision, recall, kinds = quality(**MODES[name])
    assert (precision, recall) == pytest.approx(EXPECTED[name]), kinds
    assert all(kinds["copy"] + kinds["equal"]) and not any(kinds["plain"] + kinds["constant"])
