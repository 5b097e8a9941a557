"""Duplicates: exact ones by a hash of tokens, near ones by MinHash with every candidate confirmed.

    exact   equal token sequences (see `text.py` for what a token is)
    near    Jaccard similarity of the sets of word 5-grams >= threshold, and equal *decisive* tokens
            in equal order: numbers, operators, single letters, names in capitals, short quotes,
            words such as "maximum", "not", "two"

Two problems that differ in one constant therefore stay two, however long they are. Candidates come
from 84 MinHash values in 14 bands of 6: a pair at Jaccard 0.85 is found with probability 0.998, at
0.8 with 0.986. The hash of the decisive tokens is part of every band's key, so the instances of a
template never meet. Confirmed pairs are joined into clusters (union-find). Of each cluster stays
the member with a checked answer (`meta["answer_checked"]`), then any answer, then the most tests,
then the longest question, then the smallest (id, content). Which records stay does not depend on
the order in which they arrive.

Not covered: translations and paraphrases; a reordering of sentences that hold numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np

from acereason.curate.funnel import Funnel
from acereason.curate.text import I64, U64, Encoded, encode, ngrams, sequence_hashes
from acereason.draws import finalise
from acereason.problems import Problem

SHINGLE = 5  # words
BANDS, ROWS = 14, 6
CHUNK = 256  # texts hashed together: their arrays stay in the cache
CROWD = 32  # in a larger bucket each member meets only this many neighbours

_multipliers = finalise(np.arange(1, BANDS * ROWS + 1, dtype=np.uint64)) | np.uint64(1)
_band_salts = finalise(np.arange(1001, 1001 + BANDS, dtype=np.uint64))
_NAME = re.compile(r"\b[A-Z]{2,4}\b")
_QUOTED = re.compile(r"""[`"“]([^\s`"“”][^`"“”\n]{0,28})[`"”]""")


def rank(problem: Problem) -> tuple[int, int, int]:
    """How much a member of a cluster deserves to be the one that stays; larger is better."""
    checked = 0 if problem.answer is None else 1 + bool(problem.meta.get("answer_checked"))
    return checked, len(problem.tests), len(problem.question)


def _tie(problem: Problem) -> tuple[str, bytes]:
    return problem.id, hashlib.blake2b(msgspec.json.encode(problem), digest_size=16).digest()


def best(get: Callable[[int], Problem], members: Iterable[int]) -> int:
    """The member of a cluster that stays; `get(i)` is the problem at position i."""
    problems = {i: get(i) for i in members}
    top = max(map(rank, problems.values()))
    return min((i for i in problems if rank(problems[i]) == top), key=lambda i: _tie(problems[i]))


def losers(get: Callable[[int], Problem], clusters: Iterable[Iterable[int]]) -> dict[int, int]:
    """All members of the clusters but the best of each, with the member that stays instead."""
    out: dict[int, int] = {}
    for cluster in clusters:
        members = list(cluster)
        stays = best(get, members)
        out.update((i, stays) for i in members if i != stays)
    return out


def chunks(texts: Iterable[str], size: int = CHUNK) -> Iterator[list[str]]:
    """The texts in lists of at most `size`."""
    part: list[str] = []
    for text in texts:
        part.append(text)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def exact_keys(texts: Iterable[str]) -> U64:
    """One 64-bit key per text, equal for texts of equal tokens."""
    parts = [sequence_hashes(encode(part)) for part in chunks(texts, 2048)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def groups(keys: U64) -> list[list[int]]:
    """The positions of equal keys, for keys that occur more than once."""
    order, starts = _sorted(keys)
    bounds = np.append(starts, len(keys))
    crowded = np.flatnonzero(np.diff(bounds) > 1)
    return [order[bounds[g] : bounds[g + 1]].tolist() for g in crowded]


def _sorted(keys: U64) -> tuple[I64, I64]:
    """An order that brings equal keys together, and where each run of them begins."""
    order = np.argsort(keys, kind="stable")
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = np.diff(keys[order]) != 0
    return order, np.flatnonzero(fresh)


def _keep(
    problems: Sequence[Problem], clusters: Iterable[Iterable[int]], name: str, reason: str
) -> tuple[list[Problem], Funnel]:
    dropped = losers(problems.__getitem__, clusters)
    kept = [problem for i, problem in enumerate(problems) if i not in dropped]
    return kept, line(name, len(problems), len(dropped), reason)


def line(name: str, before: int, dropped: int, reason: str) -> Funnel:
    """The funnel line of a step that drops for one reason."""
    return Funnel(name, before, before - dropped, {reason: dropped} if dropped else {})


EXACT = "dedup exact", "equal question"
NEAR = "dedup near", "near-duplicate"


def exact(problems: Iterable[Problem]) -> tuple[list[Problem], Funnel]:
    """One problem of each set with equal question tokens, in the order of the input."""
    problems = list(problems)
    return _keep(problems, groups(exact_keys(problem.question for problem in problems)), *EXACT)


def shingles(encoded: Encoded) -> tuple[U64, I64]:
    """5-gram hashes with their text, texts sorted; a shorter text has its whole sequence as one."""
    hashes, owner = ngrams(encoded, SHINGLE)
    short = np.flatnonzero(np.diff(encoded.starts) < SHINGLE)
    if not len(short):
        return hashes, owner
    owner = np.concatenate([owner, short])
    order = np.argsort(owner, kind="stable")
    return np.concatenate([hashes, sequence_hashes(encoded)[short]])[order], owner[order]


def band_keys(encoded: Encoded) -> U64:
    """The bucket of each text in each band: array [texts, BANDS]."""
    hashes, owner = shingles(encoded)
    firsts = np.flatnonzero(np.diff(owner, prepend=-1))
    keys = np.zeros((len(encoded), BANDS), np.uint64)
    if not len(encoded):
        return keys
    decisive = sequence_hashes(encoded, only_decisive=True)
    for band in range(BANDS):
        key = decisive ^ _band_salts[band]
        for multiplier in _multipliers[band * ROWS : (band + 1) * ROWS]:
            values = np.minimum.reduceat((hashes * multiplier) >> np.uint64(16), firsts)
            key = finalise(key ^ values)
        keys[:, band] = key
    return keys


def _bucket_pairs(keys: U64, tie: U64) -> Iterator[tuple[I64, I64]]:
    """Positions of equal keys, every one with its next CROWD neighbours in the order of `tie`."""
    order, starts = _sorted(keys)
    sizes = np.diff(np.append(starts, len(keys)))
    order = order[np.repeat(sizes > 1, sizes)]
    order = order[np.lexsort((tie[order], keys[order]))]
    for step in range(1, CROWD + 1):
        same = keys[order[step:]] == keys[order[:-step]]
        if not same.any():
            return
        yield order[:-step][same], order[step:][same]


def candidates(columns: Iterable[U64], tie: U64) -> I64:
    """Pairs (smaller, larger position) that share a bucket in some band: array [pairs, 2], sorted.

    columns: the keys [texts] of each band; tie: [texts], orders crowded buckets by content."""
    count, codes = max(len(tie), 1), np.zeros(0, np.int64)
    for keys in columns:
        for left, right in _bucket_pairs(keys, tie):
            paired = np.minimum(left, right) * count + np.maximum(left, right)
            codes = np.unique(np.concatenate([codes, paired]))
    return np.stack(np.divmod(codes, count), axis=1)


Features = tuple[frozenset[int], int, list[str]]  # 5-grams, decisive tokens, names and quotes


def _features(text: str) -> Features:
    encoded = encode([text])
    names = _NAME.findall(text) if not text.isupper() else []
    names += _QUOTED.findall(text)
    decisive = int(sequence_hashes(encoded, only_decisive=True)[0])
    return frozenset(shingles(encoded)[0].tolist()), decisive, names


def similar(a: str, b: str, threshold: float) -> bool:
    """The decision itself: equal decisive tokens and names, Jaccard of 5-gram sets >= threshold."""
    return _similar(_features(a), _features(b), threshold)


def _similar(
    a: tuple[frozenset[int], int, list[str]],
    b: tuple[frozenset[int], int, list[str]],
    threshold: float,
) -> bool:
    if a[1:] != b[1:]:
        return False
    common = len(a[0] & b[0])
    return common >= threshold * (len(a[0]) + len(b[0]) - common)


def clusters(pairs: I64, text: Callable[[int], str], threshold: float) -> list[list[int]]:
    """Connected components of the confirmed pairs. `text(i)` gives the question at position i."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while (up := parent.setdefault(i, i)) != i:
            parent[i] = i = parent[up]
        return i

    features: dict[int, Features] = {}
    for left, right in pairs.tolist():
        if (a := root(left)) == (b := root(right)):
            continue
        if len(features) > 2_000:  # a bound on memory; pairs are sorted, so little is lost
            features.clear()
        for i in (left, right):
            if i not in features:
                features[i] = _features(text(i))
        if _similar(features[left], features[right], threshold):
            parent[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for i in parent:
        members.setdefault(root(i), []).append(i)
    return [sorted(cluster) for cluster in members.values() if len(cluster) > 1]


def near(problems: Iterable[Problem], threshold: float = 0.8) -> tuple[list[Problem], Funnel]:
    """One problem of each cluster of near-duplicates, in the order of the input.

    threshold: the least Jaccard similarity of word 5-gram sets of a duplicate (ours; the paper
    gives none)."""
    problems = list(problems)
    parts = [encode(part) for part in chunks(problem.question for problem in problems)]
    if not parts:
        return [], line(NEAR[0], 0, 0, NEAR[1])
    keys = np.concatenate([band_keys(part) for part in parts])
    tie = np.concatenate([sequence_hashes(part) for part in parts])
    alike = clusters(candidates(keys.T, tie), lambda i: problems[i].question, threshold)
    return _keep(problems, alike, *NEAR)
