"""A third domain: registered, by a dotted path, and the documented one."""

from __future__ import annotations

from pathlib import Path

import pytest

from acereason.errors import ConfigError
from acereason.problems import Problem, Response, Verdict
from acereason.verify import Judge, domains


def _judge_sorted(problem: Problem, answer: str, tools: domains.Tools) -> Verdict:
    if answer == "crash":
        raise ValueError("a bug in the domain")
    return Verdict("correct", 1) if answer.split() == sorted(answer.split()) else Verdict("wrong", 0)


SORTED = domains.Domain("sorted", lambda p: p.question, lambda t: t.strip() or None, _judge_sorted)


def test_a_domain_of_ones_own() -> None:
    domains.register(SORTED)
    problem = Problem("p", "sorted", "Say words in order.")
    with Judge(1) as judge:
        for text, outcome in (("a b c", "correct"), ("b a", "wrong"), ("crash", "unjudged")):
            assert judge.verify(problem, Response("p", 0, "</think>" + text)).outcome == outcome


def test_a_domain_by_dotted_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_domain.py").write_text(
        "from acereason.problems import Verdict\nfrom acereason.verify.domains import Domain\n"
        "SHORT = Domain('short', lambda p: p.question, str.strip,\n"
        "    lambda p, a, t: Verdict('correct', 1) if len(a) < 5 else Verdict('wrong', 0))\nOTHER = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Judge(1) as judge:
        problem = Problem("p", "my_domain:SHORT", "")
        assert judge.verify(problem, Response("p", 0, "</think> yes")).outcome == "correct"
    with pytest.raises(ConfigError, match="found a int"):
        domains.domain("my_domain:OTHER")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        domains.domain("my_domain:MISSING")


DOCUMENT = Path(__file__).parents[2] / "docs" / "add-a-domain.md"


def test_the_documented_domain_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "my_domains.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["pear", "fig", "apple"]
    problem = Problem("s1", "my_domains:SORTING", " ".join(words), meta={"words": words})
    with Judge(1) as judge:
        for text, outcome in (
            ("</think>Answer: apple fig pear", "correct"),
            ("</think>Answer: fig apple pear", "wrong"),
            ("</think>apple fig pear", "no_answer"),
        ):
            assert judge.verify(problem, Response("s1", 0, text)).outcome == outcome
    assert "alphabetical" in domains.domain("my_domains:SORTING").instruction(problem)
