"""The families keep their promises: right is right, wrong is wrong, traces grow, modes known."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.procedural import FAMILIES, generate, mode_of, teach
from procedural_texts import right, tokens, words

CELLS = [(name, level) for name, family in FAMILIES.items() for level in family.levels]
CODE = [name for name, family in FAMILIES.items() if family.domain == "code"]


@pytest.mark.parametrize(("name", "level"), CELLS)
def test_right_is_right_and_wrong_is_wrong(name: str, level: int) -> None:
    for number, problem in enumerate(generate([name], [level], 25, 11, "train")):
        rng = random.Random(number)
        for _ in range(4):
            good, bad = teach(problem, rng), teach(problem, rng, wrong=True)
            assert right(problem, good), (problem, good.text)
            assert not right(problem, bad), (problem, bad.text)
            assert good.finish == "stop"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CELLS), st.integers(0, 2**32))
def test_any_seed(cell: tuple[str, int], seed: int) -> None:
    name, level = cell
    rng = random.Random(seed)
    problem = FAMILIES[name].problem(rng, level)
    assert problem.domain == FAMILIES[name].domain
    assert problem.id.startswith(f"{name}-{level}-")
    assert (problem.meta["family"], problem.meta["level"]) == (name, level)
    assert json.loads(json.dumps(problem.meta)) is not None
    assert right(problem, teach(problem, rng))
    assert not right(problem, teach(problem, rng, wrong=True))
    natural = teach(problem, rng, wrong=None)
    assert right(problem, natural) != natural.meta["wrong"]


@pytest.mark.parametrize("name", FAMILIES)
def test_several_different_right_responses(name: str) -> None:
    problems = generate([name], None, 40, 12, "train")
    different, modes = 0, Counter[str]()
    for number, problem in enumerate(problems):
        rng = random.Random(number)
        texts = {teach(problem, rng).text for _ in range(16)}
        different += len(texts) >= 3
        modes.update(mode_of(problem, text) for text in texts)
    assert different >= 0.9 * len(problems)
    assert len(modes) >= (2 if name == "check" else 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_traces_grow_with_the_level_and_fit_the_budgets(name: str) -> None:
    means = []
    for level in FAMILIES[name].levels:
        problems = generate([name], [level], 100, 13, "train")
        lengths = sorted(
            len(tokens(teach(problem, random.Random(n)).text)) for n, problem in enumerate(problems)
        )
        assert lengths[95] <= 112
        means.append(statistics.mean(lengths))
    assert means == sorted(means)
    assert means[-1] >= 1.2 * means[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_response_has_a_mode(name: str) -> None:
    for number, problem in enumerate(generate([name], None, 60, 14, "train")):
        rng = random.Random(number)
        for wrong in (False, True):
            text = teach(problem, rng, wrong).text
            assert mode_of(problem, text) != "other", text
            for cut in range(0, len(text), 7):
                assert mode_of(problem, text[:cut])
        for text in ("", "</think>", "\n</think>\n\\boxed{3}", "I do not know"):
            assert mode_of(problem, text) == "other"


@pytest.mark.parametrize("name", CODE)
def test_tests_are_json_and_show_the_edges(name: str) -> None:
    for problem in generate([name], None, 40, 15, "train"):
        assert problem.function == "f"
        assert 6 <= len(problem.tests) <= 10
        outputs = set()
        for test in problem.tests:
            assert test.type == "functional"
            assert isinstance(json.loads(test.input), list)
            outputs.add(test.output)
            json.loads(test.output)
        assert len(outputs) > 2


@pytest.mark.parametrize("name", CODE)
def test_a_constant_never_passes(name: str) -> None:
    for problem in generate([name], None, 30, 16, "train"):
        most = Counter(test.output for test in problem.tests).most_common(1)[0][1]
        assert most < len(problem.tests)


def test_answers_cannot_be_guessed() -> None:
    for name in FAMILIES:
        if FAMILIES[name].domain == "math":
            answers = Counter(p.answer for p in generate([name], None, 400, 17, "train"))
            assert answers.most_common(1)[0][1] <= 0.15 * 400, name


def test_few_words() -> None:
    found: set[str] = set()
    for number, problem in enumerate(generate(list(FAMILIES), None, 1500, 18, "train")):
        rng = random.Random(number)
        found |= words(problem.question) | words(teach(problem, rng, wrong=None).text)
    assert len(found) < 250


def test_the_natural_share_of_wrong_responses() -> None:
    problem = generate(["lists"], None, 1, 19, "train")[0]
    rng = random.Random(0)
    wrong = sum(teach(problem, rng, wrong=None).meta["wrong"] for _ in range(2000))
    assert wrong / 2000 == pytest.approx(FAMILIES["lists"].slip, abs=0.05)
