"""Decontamination: no prompt may share its text with a question that the model will be judged on.

An n-gram is n consecutive tokens of `text.py`: numbers are tokens, operators ride on their operand.

    any hit      a prompt that shares one n-gram with a question is dropped (the paper: n = 9 for
                 math, 14 for code)
    min_share    it is dropped only when shared / min(prompt's, question's) n-grams >= min_share
    boilerplate  n-grams that stand in more than max(floor, share * prompts) prompts are wording of
                 templates or stock phrases, nobody's question, and do not count as shared

In every mode a prompt whose tokens all equal a question's is dropped; this is also the only rule
for questions of less than n tokens. The paper publishes n, not its normalisation. Every dropped
prompt has a row in the report. n-grams are counted once per prompt and once per question.

The boilerplate rule is blind to a leaked question with more than `floor` copies: deduplicate first.
Not covered: paraphrases and translations of a question.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from acereason.curate.dedup import chunks
from acereason.curate.funnel import Funnel
from acereason.curate.text import I64, U64, encode, ngrams, sequence_hashes, tokens
from acereason.problems import Problem

MATH_N, CODE_N = 9, 14  # recipe: math prompts, code prompts
EVIDENCE_SHARE = 0.3  # ours: above all pairs that share stock phrases only, below all real copies (docs)
FILTER_BITS = 24

Rule = Literal["equal", "ngram", "url", "date"]


class Boilerplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which n-grams are nobody's question: those in more than
    max(floor, share * prompts) prompts."""

    share: float = 1e-4
    floor: int = 20


SHOWN = 300  # characters of a dropped prompt in the report


class Overlap(msgspec.Struct, frozen=True):
    """Why a prompt was dropped: the question it shares text with, one shared n-gram, and how much.

    prompt: its id. text: how it begins, since what is dropped is published nowhere else.
    share: shared / min(prompt's, question's) distinct n-grams; 1 when all is equal."""

    prompt: str
    benchmark: str
    question: str
    ngram: str
    share: float
    rule: Rule
    text: str


class Index(NamedTuple):
    """The benchmarks' n-grams: `grams` sorted; those of row g stand in questions
    `where[first[g] : first[g + 1]]`; `sizes` counts the distinct n-grams of each question."""

    names: list[str]
    questions: list[str]
    whole: dict[int, int]
    grams: U64
    first: I64
    where: I64
    sizes: I64
    sieve: npt.NDArray[np.bool_]
    n: int


def _slot(hashes: U64) -> U64:
    return hashes >> np.uint64(64 - FILTER_BITS)


def build_index(benchmarks: Mapping[str, Iterable[str]], n: int) -> Index:
    """Index the questions of several benchmarks for n-grams of n tokens."""
    pairs = [(name, question) for name in benchmarks for question in benchmarks[name]]
    names, questions = [name for name, _ in pairs], [question for _, question in pairs]
    encoded = encode(questions)
    hashes, owner = ngrams(encoded, n)
    both = np.unique(np.stack([hashes, owner.astype(np.uint64)]), axis=1)
    grams, first = np.unique(both[0], return_index=True)
    where = both[1].astype(np.int64)
    sieve = np.zeros(1 << FILTER_BITS, np.bool_)
    sieve[_slot(grams)] = True
    whole: dict[int, int] = {}
    for position, key in enumerate(sequence_hashes(encoded).tolist()):
        if encoded.starts[position] < encoded.starts[position + 1]:
            whole.setdefault(key, position)
    bounds = np.append(first, len(where))
    sizes = np.bincount(where, minlength=len(questions))
    return Index(names, questions, whole, grams, bounds, where, sizes, sieve, n)


class Hits(NamedTuple):
    """What prompts share with the benchmarks: (prompt, row of `Index.grams`) pairs, distinct;
    `sizes` counts the distinct n-grams of every prompt, `equal` is the question of equal tokens or
    -1."""

    prompt: I64
    gram: I64
    sizes: I64
    equal: I64


def find_hits(texts: Sequence[str], index: Index) -> Hits:
    """The n-grams that each text shares with the benchmarks; numbers are relative to `texts`."""
    encoded = encode(texts)
    hashes, owner = ngrams(encoded, index.n)
    order = np.lexsort((hashes, owner))
    hashes, owner = hashes[order], owner[order]
    fresh = np.ones(len(hashes), np.bool_)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    hashes, owner = hashes[fresh], owner[fresh]
    sizes = np.bincount(owner, minlength=len(texts))
    maybe = np.flatnonzero(index.sieve[_slot(hashes)])
    gram = np.searchsorted(index.grams, hashes[maybe])
    known = gram < len(index.grams)
    known[known] = index.grams[gram[known]] == hashes[maybe][known]
    whole = [index.whole.get(key, -1) for key in sequence_hashes(encoded).tolist()]
    return Hits(owner[maybe][known], gram[known], sizes, np.array(whole, np.int64))


def join_hits(parts: Sequence[Hits]) -> Hits:
    """The hits of consecutive lists of texts as those of one list."""
    if not parts:
        return Hits(*(np.zeros(0, np.int64) for _ in Hits._fields))
    offsets = np.cumsum([0] + [len(part.sizes) for part in parts])
    shifted = [part.prompt + offset for part, offset in zip(parts, offsets, strict=False)]
    return Hits(np.concatenate(shifted), *(np.concatenate(x) for x in list(zip(*parts, strict=True))[1:]))


class Decision(NamedTuple):
    """One prompt to drop: its position, the question's, the shared row of `Index.grams` (-1:
    all)."""

    prompt: int
    question: int
    gram: int
    share: float


def decide(
    hits: Hits, index: Index, min_share: float = 0.0, boilerplate: Boilerplate | None = None
) -> list[Decision]:
    """The prompts to drop with the question that each overlaps most, in the prompts' order."""
    prompt, gram = hits.prompt, hits.gram
    if boilerplate:
        often = max(boilerplate.floor, boilerplate.share * len(hits.sizes))
        telling = (np.bincount(gram, minlength=len(index.grams)) <= often)[gram]
        prompt, gram = prompt[telling], gram[telling]
    equal = np.flatnonzero(hits.equal >= 0).tolist()
    decisions = {p: Decision(p, int(hits.equal[p]), -1, 1.0) for p in equal}
    bounds = np.flatnonzero(np.diff(prompt, prepend=-1, append=-1))
    for start, end in itertools.pairwise(bounds.tolist()):
        p = int(prompt[start])
        if p not in decisions:
            decision = _worst(p, gram[start:end], int(hits.sizes[p]), index)
            if decision.share >= min_share:
                decisions[p] = decision
    return [decisions[p] for p in sorted(decisions)]


def _worst(p: int, grams: I64, size: int, index: Index) -> Decision:
    """The question that shares most with prompt p; of equals, the first."""
    questions = np.concatenate([index.where[index.first[g] : index.first[g + 1]] for g in grams])
    of = np.repeat(grams, index.first[grams + 1] - index.first[grams])
    distinct, shared = np.unique(questions, return_counts=True)
    shares = shared / np.minimum(index.sizes[distinct], size)
    best = int(np.argmax(shares))
    gram = of[questions == distinct[best]].min()
    return Decision(p, int(distinct[best]), int(gram), float(shares[best]))


def explain(problem: Problem, decision: Decision, index: Index) -> Overlap:
    """The report's row of a decision, with the shared n-gram in words."""
    words = tokens(problem.question)
    if decision.gram < 0:
        ngram = " ".join(words)
    else:
        hashes, _ = ngrams(encode([problem.question]), index.n)
        at = int(np.flatnonzero(hashes == index.grams[decision.gram])[0])
        ngram = " ".join(words[at : at + index.n])
    question = index.questions[decision.question]
    rule: Rule = "equal" if decision.gram < 0 else "ngram"
    name = index.names[decision.question]
    return Overlap(
        problem.id, name, question, ngram, round(decision.share, 6), rule, problem.question[:SHOWN]
    )


def decontaminate(
    problems: Iterable[Problem | str],
    benchmarks: Mapping[str, Iterable[str]] | Sequence[str],
    n: int = MATH_N,
    min_share: float = 0.0,
    boilerplate: Boilerplate | None = None,
) -> tuple[list[Problem], list[Overlap], Funnel]:
    """The problems that share no text with the benchmarks' questions, and a report of the others.

    problems may be questions; their ids are then their places, from 1. benchmarks: questions by benchmark
    name, or a list of them. The defaults are the paper's rule for math.

    >>> held_out = ["What is the sum of the digits of the number 2024 times 7?"]
    >>> asked = ["Tell me: what is the sum of the digits of the number 2024 times 7?", "What is 2 + 2?"]
    >>> kept, report, _ = decontaminate(asked, held_out)
    >>> [problem.question for problem in kept], [row.prompt for row in report]
    (['What is 2 + 2?'], ['1'])
    """
    asked = [_record(given, place) for place, given in enumerate(problems, 1)]
    benchmarks = benchmarks if isinstance(benchmarks, Mapping) else {"benchmark": benchmarks}
    index = build_index(benchmarks, n)
    texts = chunks((problem.question for problem in asked), 1024)
    hits = join_hits([find_hits(part, index) for part in texts])
    decisions = decide(hits, index, min_share, boilerplate)
    report = [explain(asked[d.prompt], d, index) for d in decisions]
    drop = {d.prompt for d in decisions}
    kept = [problem for i, problem in enumerate(asked) if i not in drop]
    counts: dict[str, int] = {}
    for row in report:
        reasons(row, n, counts)
    return kept, report, Funnel("decontaminate", len(asked), len(kept), counts)


def _record(given: Problem | str, place: int) -> Problem:
    return Problem(str(place), "math", given) if isinstance(given, str) else given


def reasons(row: Overlap, n: int, counts: dict[str, int]) -> None:
    """Add a row of the report to the counts of the funnel's reasons."""
    reason = f"{row.benchmark}: {'equal' if row.rule == 'equal' else f'{n}-gram'}"
    counts[reason] = counts.get(reason, 0) + 1


def by_source(
    problems: Iterable[Problem], urls: Iterable[str] = (), released_until: str | None = None
) -> tuple[list[Problem], list[Overlap], Funnel]:
    """Drop problems taken from a benchmark's pages, or released after a date (the paper:
    2024-08-01).

    urls: the benchmark problems' addresses, compared with `meta["url"]` without scheme, `www.`,
    query and final slash. released_until: ISO date; problems without a date stay and are
    counted."""
    problems, known = list(problems), {_address(url) for url in urls}
    kept: list[Problem] = []
    report: list[Overlap] = []
    reasons: dict[str, int] = {}
    for problem in problems:
        url = _address(str(problem.meta.get("url") or ""))
        late = released_until and problem.released and problem.released[:10] > released_until
        if url and url in known:
            report.append(Overlap(problem.id, "", "", url, 1.0, "url", problem.question[:SHOWN]))
            reasons["benchmark's address"] = reasons.get("benchmark's address", 0) + 1
        elif late:
            report.append(
                Overlap(problem.id, "", "", str(problem.released), 0.0, "date", problem.question[:SHOWN])
            )
            reasons["released too late"] = reasons.get("released too late", 0) + 1
        else:
            kept.append(problem)
    if released_until and (undated := sum(not p.released for p in kept)):
        reasons["note: no release date"] = undated
    return kept, report, Funnel("decontaminate by source", len(problems), len(kept), reasons)


def _address(url: str) -> str:
    url = url.strip().lower().split("?")[0].split("#")[0].rstrip("/")
    return url.removeprefix("https://").removeprefix("http://").removeprefix("www.")
