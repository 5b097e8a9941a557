"""Duplicates against naive references; constants keep problems apart; order never matters."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.curate.dedup import band_keys, candidates, exact, near, similar
from acereason.curate.text import decisive, encode, sequence_hashes, tokens
from acereason.problems import Problem, Test

LIST = "farmer garden bottle river letter engine window market purple train violin orange tower"
WORDS = LIST.split()


def problem(name: str, question: str, **fields: object) -> Problem:
    return Problem(id=name, domain="math", question=question, **fields)  # type: ignore[arg-type]


def story(random_state: random.Random, words: int = 60) -> list[str]:
    out = random_state.choices(WORDS, k=words)
    for _ in range(4):
        out[random_state.randrange(words)] = str(random_state.randrange(100))
    return out


def naive_similar(a: str, b: str, threshold: float) -> bool:
    left, right = tokens(a), tokens(b)
    if [t for t in left if decisive(t)] != [t for t in right if decisive(t)]:
        return False

    def grams(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}

    x, y = grams(left), grams(right)
    return len(x & y) >= threshold * len(x | y)


def test_equal_questions_in_other_dress_are_one() -> None:
    dressed = [
        problem("a", "Find $x^{2}$ for \\(x = 1{,}000\\)."),
        problem("b", "find x^2   for x=1000"),
    ]
    kept, funnel = exact([*dressed, problem("c", "find x^2 for x=1001")])
    assert [p.id for p in kept] == ["a", "c"]
    assert (funnel.before, funnel.after, funnel.reasons) == (3, 2, {"equal question": 1})


def test_the_best_member_stays_wherever_it_stands() -> None:
    text = "How many apples does the farmer have after the market closes for the day"
    members = [
        problem("1", text + "."),
        problem("2", text, answer="7"),
        problem("3", text, answer="7", meta={"answer_checked": True}),
        problem("4", text, answer="7", tests=(Test("stdin", "", ""),)),
        problem("5", text + "?????"),
    ]
    for _ in range(20):
        random.shuffle(members)
        assert [p.id for p in exact(members)[0]] == ["3"]
        assert [p.id for p in exact([m for m in members if m.id != "3"])[0]] == ["4"]
        assert [p.id for p in exact([m for m in members if m.id in "15"])[0]] == ["5"]


@given(st.lists(st.text("ab1 +", max_size=6), max_size=30))
@settings(deadline=None)
def test_exact_equals_naive(questions: list[str]) -> None:
    problems = [problem(str(i), q) for i, q in enumerate(questions)]
    kept, _ = exact(problems)
    assert len(kept) == len({tuple(tokens(q)) for q in questions})
    again, funnel = exact(kept)
    assert again == kept and funnel.reasons == {}


@pytest.mark.parametrize(
    "swap",
    [
        ("17", "18"), ("+", "-"), ("maximum", "minimum"), ("two", "three"), ("AB", "AC"),
        ("ABC", "ACB"), ("x", "y"), ("not", ""), ("f(2)", "f'(2)"), ("5!", "5"), ("cat", "dog"),
    ],
)  # fmt: skip
def test_one_decisive_change_keeps_two(swap: tuple[str, str]) -> None:
    long = " ".join(story(random.Random(1), 400))
    text = f'{long} maximum two AB ABC x is not 17 + y f(2) and 5! or "cat" {long}'
    a, b = problem("a", text), problem("b", text.replace(swap[0], swap[1], 1))
    assert len(near([a, b], threshold=0.5)[0]) == 2
    assert len(exact([a, b])[0]) == 2


def test_templates_with_other_numbers_all_stay() -> None:
    text = "A farmer has {} apples and gives {} of them to each of his {} friends. How many are left?"
    problems = [problem(f"{i}", text.format(i % 10, i // 10 % 10, i // 100)) for i in range(1000)]
    assert near(exact(problems)[0])[0] == problems


@given(st.integers(0, 2**32), st.floats(0.3, 0.95))
@settings(max_examples=25, deadline=None)
def test_near_equals_naive_clusters(seed: int, threshold: float) -> None:
    state = random.Random(seed)
    texts: list[str] = []
    for _ in range(4):
        words = story(state)
        for _ in range(4):
            texts.append(" ".join(words))
            for at in state.sample(range(len(words)), state.randrange(3)):
                if words[at].isalpha():
                    words[at] = state.choice(WORDS)
    encoded = encode(texts)
    pairs = candidates(band_keys(encoded).T, sequence_hashes(encoded)).tolist()
    for i, j in pairs:  # what is confirmed is what the naive rule says
        assert similar(texts[i], texts[j], threshold) == naive_similar(texts[i], texts[j], threshold)
    for i in range(len(texts)):  # and what matters becomes a candidate
        for j in range(i + 1, len(texts)):
            if naive_similar(texts[i], texts[j], 0.95):
                assert [i, j] in pairs


def test_near_recall_and_order_independence() -> None:
    state = random.Random(3)
    problems, planted = [], []
    for i in range(400):
        words = story(state, 100)
        problems.append(problem(f"p{i}", " ".join(words)))
        at = state.choice([k for k, word in enumerate(words) if word.isalpha()])
        copy = [*words[:at], "completely", *words[at + 1 :]]
        if naive_similar(" ".join(words), " ".join(copy), 0.85):
            planted.append(problem(f"q{i}", " ".join(copy)))
    kept, funnel = near([*problems, *planted])
    assert funnel.reasons["near-duplicate"] >= 0.99 * len(planted) > 300
    everything = [*problems, *planted]
    for _ in range(3):
        state.shuffle(everything)
        assert {p.id for p in near(everything)[0]} == {p.id for p in kept}


def test_crowded_buckets_stay_bounded() -> None:
    """A template without numbers collides with itself everywhere; the pairs stay linear in the
    texts."""
    state = random.Random(5)
    base = state.choices(WORDS, k=60)
    texts = [" ".join([*base, f"{a}{b}{c}ish"]) for a in "bcdfghjk" for b in "lmnpqrst" for c in "vwxz"]
    encoded = encode(texts)
    pairs = candidates(band_keys(encoded).T, sequence_hashes(encoded))
    assert len(pairs) <= 14 * 32 * len(texts)
    kept, _ = near([problem(str(i), text) for i, text in enumerate(texts)])
    assert len(kept) == 1


def test_empty_and_short() -> None:
    assert near([])[0] == [] and exact([])[0] == []
    short = [problem("a", "2 + 2"), problem("b", "2+2"), problem("c", ""), problem("d", "...")]
    assert [p.id for p in near(short)[0]] == ["a", "d"]
