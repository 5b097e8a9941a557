"""Estimates from judged samples, each with the error it really has.

Input is a table *questions × samples* of verdicts: a boolean matrix, or one list per question
(ragged only when the caller says so). Every statistic needs just the number of right samples c_q
and of judged samples m_q of each question q, with p_q = c_q / m_q, over n questions:

    avg@k        mean of p_q
      se                 sd(p_q) / √n: the spread that new questions *and* new samples would show
      clustered_se       the same when the questions of one contest rise and fall together
      generation_noise   √(Σ_q s_q² / m_q) / n: what re-sampling the same questions would show,
                         s_q² the variance within a question; a part of se, never a substitute
    pass@k       mean of 1 − C(m_q − c_q, k) / C(m_q, k); bootstrap over questions
    majority@k   mean of "the most frequent answer is right"; sd / √n
    difference   mean of p_q(after) − p_q(before) on the same questions; sd / √n, paired bootstrap

Shares are in [0, 1], not in percent; intervals cover 95 %, and those of shares are cut at 0 and 1.
With a single question an error cannot be estimated and is NaN.

An incomplete table (a question or a sample missing, a verdict "unjudged") is refused: averaging
what happened to arrive rewards the model for what it did not answer. `allow_ragged` averages the
judged rest, question by question. How modes of responding add up to a gain is in `decompose`.

Sources: Chen et al. 2021 (arXiv 2107.03374) for pass@k; Miller 2024 (arXiv 2411.00640) for errors.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acereason.errors import DataError
from acereason.verify.answers.votes import alike

Floats = NDArray[np.float64]
Verdicts = Sequence[Sequence[bool | None]] | Mapping[str, Sequence[bool | None]] | NDArray[Any]

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_RESAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and 95 % interval, over `n` questions of `k` samples each
    (`k`: the fewest of any question when the table is ragged)."""

    mean: float
    se: float
    low: float
    high: float
    n: int
    k: int


@dataclass(frozen=True)
class Average(Estimate):
    """avg@k. `se` treats questions as independent draws; `clustered_se` is None without clusters,
    `generation_noise` None when a question has one sample."""

    clustered_se: float | None
    generation_noise: float | None


@dataclass(frozen=True)
class Difference(Estimate):
    """after − before on the same questions; `low` and `high` are normal, the others bootstrap."""

    boot_low: float
    boot_high: float


@dataclass(frozen=True)
class _Counts:
    """Right and judged samples of each question, float64 arrays of shape (questions,)."""

    right: Floats
    judged: Floats

    @property
    def share(self) -> Floats:
        return self.right / self.judged


def average(
    verdicts: Verdicts,
    *,
    clusters: Sequence[Hashable] | None = None,
    questions: int | None = None,
    samples: int | None = None,
    allow_ragged: bool = False,
) -> Average:
    """avg@k: the mean over questions of the share of right samples.

    `clusters` names each question's contest, in the order of the questions. `questions` and
    `samples` are how many there should be; `samples` defaults to the longest row.

    >>> result = average([[True, True], [True, False], [False, False]])
    >>> round(result.mean, 3), round(result.se, 3)
    (0.5, 0.289)
    """
    counts, kept = _complete(verdicts, questions, samples, allow_ragged)
    share = counts.share
    clustered = None
    if clusters is not None:
        if len(clusters) != len(verdicts):
            raise DataError(
                f"expected one cluster for each of {len(verdicts)} questions, found {len(clusters)}"
            )
        clustered = _clustered_error(share, [clusters[index] for index in kept])
    low, high = _normal(share, cut=True)
    return Average(
        mean=float(share.mean()),
        se=_error(share),
        low=low,
        high=high,
        n=len(share),
        k=int(counts.judged.min()),
        clustered_se=clustered,
        generation_noise=_generation_noise(counts),
    )


def pass_at_k(
    verdicts: Verdicts,
    k: int,
    *,
    questions: int | None = None,
    samples: int | None = None,
    allow_ragged: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Unbiased pass@k: the chance that of k samples, drawn without replacement from those of a
    question, at least one is right. The interval is a percentile bootstrap, `se` its sd.

    >>> pass_at_k([[1, 0, 0, 0], [1, 1, 1, 1]], k=2).mean
    0.75
    """
    counts, _ = _complete(verdicts, questions, samples, allow_ragged)
    fewest = int(counts.judged.min())
    if not 1 <= k <= fewest:
        raise DataError(
            f"pass@{k} needs 1 ≤ k ≤ the samples of every question, found one with {fewest}; "
            "sample more, or ask for a smaller k"
        )
    values = pass_rates(counts.right, counts.judged, k)
    means = bootstrap_means(values, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(means.std()), float(low), float(high), len(values), k)


def pass_rates(right: Floats, judged: Floats, k: int) -> Floats:
    """1 − C(m − c, k) / C(m, k) of each question, as a product of factors in [0, 1]."""
    known: dict[tuple[float, float], float] = {}
    for c, m in set(zip(right.tolist(), judged.tolist(), strict=True)):
        none_right = np.prod(1.0 - k / np.arange(m - c + 1, m + 1)) if m - c >= k else 0.0
        known[c, m] = float(1.0 - none_right)
    return np.array([known[pair] for pair in zip(right.tolist(), judged.tolist(), strict=True)])


def majority(
    verdicts: Verdicts,
    answers: Sequence[Sequence[str | None]] | Mapping[str, Sequence[str | None]],
    *,
    questions: int | None = None,
    samples: int | None = None,
    allow_ragged: bool = False,
) -> Estimate:
    """majority@k over all samples: is the most frequent extracted answer of a question right?

    Answers are compared by value (1/2 and 0.5 are one), right and wrong ones alike; None never votes,
    and a question without any answer counts 0. Tied answers share the question: the expectation over
    a random tie-break. An unjudged sample of a ragged table does not vote."""
    counts, kept = _complete(verdicts, questions, samples, allow_ragged)
    rows, answer_rows = _rows(verdicts), _aligned(verdicts, answers)
    values = np.array([_majority_right(rows[index], answer_rows[index]) for index in kept])
    low, high = _normal(values, cut=True)
    return Estimate(float(values.mean()), _error(values), low, high, len(values), int(counts.judged.min()))


def paired_difference(
    before: Verdicts,
    after: Verdicts,
    *,
    questions: int | None = None,
    allow_ragged: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """The gain from one checkpoint to another on the same questions; sample numbers may differ.

    Rows pair by position, or by question id when both tables are mappings. With `allow_ragged`,
    only questions that have a judged sample in both tables count.

    >>> gain = paired_difference({"a": [0, 0], "b": [1, 0]}, {"b": [1, 1], "a": [1, 0]})
    >>> gain.mean, gain.n
    (0.5, 2)
    """
    first, second = _pair(before, after)
    counts_before, kept_before = _complete(first, questions, None, allow_ragged)
    counts_after, kept_after = _complete(second, questions, None, allow_ragged)
    common = sorted(set(kept_before) & set(kept_after))
    if not common:
        raise DataError("expected questions judged in both tables, found none in common")
    at_before = np.searchsorted(kept_before, common)
    at_after = np.searchsorted(kept_after, common)
    gain = counts_after.share[at_after] - counts_before.share[at_before]
    low, high = _normal(gain, cut=False)
    boot_low, boot_high = np.quantile(bootstrap_means(gain, resamples, seed), [0.025, 0.975])
    return Difference(
        mean=float(gain.mean()),
        se=_error(gain),
        low=low,
        high=high,
        n=len(gain),
        k=int(min(counts_before.judged[at_before].min(), counts_after.judged[at_after].min())),
        boot_low=float(boot_low),
        boot_high=float(boot_high),
    )


def boundary_safe(share: float, se: float | None, n: int, k: int = 1) -> tuple[float, float]:
    """A 95 % interval of a share that stays within 0 and 1 and is no point at their ends: Wilson's, over as
    many answers as have the error `se` (at most n k), and over the n questions where there is none. So 0 of
    24 is 0 to 0.14. `n` questions of `k` samples, n > 0."""
    size = float(n)
    if se and 0 < share < 1:
        size = min(share * (1 - share) / se**2, n * k)
    z2 = Z95**2 / size
    centre, reach = share + z2 / 2, Z95 * math.sqrt(share * (1 - share) / size + z2 / (4 * size))
    low, high = (centre - reach) / (1 + z2), (centre + reach) / (1 + z2)
    return (low if share > 0 else 0.0), (high if share < 1 else 1.0)


def bootstrap_means(values: Floats, resamples: int, seed: int) -> Floats:
    """Means of `resamples` draws of len(values) values with replacement, fixed by the seed."""
    random = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        rows = min(_RESAMPLES_AT_ONCE, resamples - start)
        means.append(values[random.integers(0, len(values), (rows, len(values)))].mean(axis=1))
    return np.concatenate(means)


def _error(values: Floats) -> float:
    """sd / √n of independent values; NaN for a single one."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _normal(values: Floats, *, cut: bool) -> tuple[float, float]:
    mean, reach = float(values.mean()), Z95 * _error(values)
    if not cut or math.isnan(reach):
        return mean - reach, mean + reach
    return max(0.0, mean - reach), min(1.0, mean + reach)


def _clustered_error(share: Floats, clusters: Sequence[Hashable]) -> float:
    """√(G/(G−1) · Σ_g (Σ_{q∈g} (p_q − p̄))²) / n over G clusters.

    Equal to `_error` when every question is a cluster of its own; NaN for a single cluster."""
    sums: dict[Hashable, float] = {}
    for cluster, residual in zip(clusters, (share - share.mean()).tolist(), strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + residual
    groups = len(sums)
    if groups < 2:
        return math.nan
    square = sum(value * value for value in sums.values())
    return math.sqrt(groups / (groups - 1) * square) / len(share)


def _generation_noise(counts: _Counts) -> float | None:
    if counts.judged.min() < 2:
        return None
    # the variance of a mean of m Bernoulli samples, with m − 1 for the estimated mean
    variance = counts.share * (1 - counts.share) / (counts.judged - 1)
    return float(np.sqrt(variance.sum()) / len(variance))


def _majority_right(row: Sequence[bool | None], answers: Sequence[str | None]) -> float:
    if len(row) != len(answers):
        raise DataError(f"expected one answer for each of {len(row)} samples, found {len(answers)}")
    votes: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for verdict, answer in zip(row, alike(answers), strict=True):
        if answer is not None and verdict is not None:
            votes[answer] += 1
            right[answer] += bool(verdict)
    if not votes:
        return 0.0
    most = max(votes.values())
    tied = [answer for answer, count in votes.items() if count == most]
    return sum(right[answer] / most for answer in tied) / len(tied)


def _rows(verdicts: Verdicts) -> list[list[bool | None]]:
    """The table as lists; None and NaN are unjudged, everything but 0 and 1 is refused."""
    table = verdicts.values() if isinstance(verdicts, Mapping) else verdicts
    return [[_verdict(value) for value in row] for row in table]


def _verdict(value: Any) -> bool | None:
    if value is None or value != value:
        return None
    if value not in (0, 1):
        raise DataError(f"expected verdicts that are true, false or null, found {value!r}")
    return bool(value)


def _complete(
    verdicts: Verdicts, questions: int | None, samples: int | None, allow_ragged: bool
) -> tuple[_Counts, list[int]]:
    """Counts of the questions with a judged sample, and their positions in the table."""
    rows = _rows(verdicts)
    expected = samples if samples is not None else max(map(len, rows), default=0)
    missing_questions = max(0, (questions or 0) - len(rows)) + sum(not row for row in rows)
    missing_samples = sum(max(0, expected - len(row)) for row in rows if row)
    unjudged = sum(verdict is None for row in rows for verdict in row)
    if (missing_questions or missing_samples or unjudged) and not allow_ragged:
        raise DataError(
            f"expected {questions or len(rows)} questions × {expected} judged samples, found "
            f"{missing_questions} questions missing, {missing_samples} samples missing and "
            f"{unjudged} unjudged; complete the set, or pass allow_ragged to average the rest"
        )
    judged = [[verdict for verdict in row if verdict is not None] for row in rows]
    kept = [index for index, row in enumerate(judged) if row]
    if not kept:
        raise DataError(f"expected at least one judged sample, found none in {len(rows)} questions")
    right = np.array([sum(map(bool, judged[index])) for index in kept], dtype=np.float64)
    return _Counts(right, np.array([len(judged[index]) for index in kept], np.float64)), kept


def _aligned(
    verdicts: Verdicts, answers: Sequence[Sequence[str | None]] | Mapping[str, Sequence[str | None]]
) -> list[Sequence[str | None]]:
    if isinstance(verdicts, Mapping) and isinstance(answers, Mapping):
        return [answers.get(question, ()) for question in verdicts]
    rows = list(answers.values()) if isinstance(answers, Mapping) else list(answers)
    if len(rows) != len(verdicts):
        raise DataError(f"expected answers to {len(verdicts)} questions, found {len(rows)}")
    return rows


def _pair(before: Verdicts, after: Verdicts) -> tuple[Verdicts, Verdicts]:
    """Both tables in the same order of questions; refuses tables of different questions."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        lost, new = before.keys() - after.keys(), after.keys() - before.keys()
        if lost or new:
            raise DataError(
                f"expected the same questions in both tables, found {len(lost)} only before and "
                f"{len(new)} only after (such as {min(lost | new)!r})"
            )
        return before, {question: after[question] for question in before}
    if len(before) != len(after):
        raise DataError(f"expected the same questions in both tables, found {len(before)} and {len(after)}")
    return before, after
