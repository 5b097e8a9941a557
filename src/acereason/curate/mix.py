"""SFT mixes scaled along both axes: p prompts × r responses, each smaller set inside every larger
one.

Prompts stand in the order of chance(seed, id), the responses of a prompt in the order of
chance(seed, id, sample); a mix takes the first p prompts and of each the first r responses. So
mix(p, r) ⊆ mix(p', r') whenever p <= p' and r <= r', as the paper's sets v1 … v7 need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from acereason.draws import chance
from acereason.errors import DataError
from acereason.problems import Problem, Response


class MixManifest(msgspec.Struct, frozen=True):
    """What a mix holds: sizes, how many (prompt, response) places had no response, and a hash of
    the (problem id, sample, text) triples in their order, which names the mix."""

    prompts: int
    responses_per_prompt: int
    responses: int
    missing: int
    seed: int
    ids: list[str]
    hash: str


def nested_prompts(problems: Iterable[Problem], seed: int) -> list[Problem]:
    """The problems in the order in which mixes take them."""
    return sorted(problems, key=lambda p: (chance(seed, "mix", p.id), p.id))


def nested_responses(responses: Iterable[Response], seed: int) -> list[Response]:
    """The responses to one problem in the order in which mixes take them."""
    return sorted(responses, key=lambda r: (chance(seed, "mix", r.problem_id, r.sample), r.sample, r.text))


def mix(
    problems: Iterable[Problem],
    responses: Mapping[str, Sequence[Response]],
    prompts: int | None,
    per_prompt: int | None,
    seed: int,
) -> tuple[list[Response], MixManifest]:
    """The mix of `prompts` × `per_prompt`; None takes all there are.

    Only prompts with at least one response take part. Raises DataError when there are fewer
    prompts than asked for; a prompt with too few responses gives what it has, counted in the
    manifest."""
    usable = nested_prompts((p for p in problems if responses.get(p.id)), seed)
    if prompts is not None and prompts > len(usable):
        raise DataError(
            f"a mix of {prompts:,} prompts was asked for, but only {len(usable):,} have a response;"
            " lower `prompts` or ask the teacher for more"
        )
    chosen = usable[:prompts]
    taken = [nested_responses(responses[p.id], seed)[:per_prompt] for p in chosen]
    rows = [response for part in taken for response in part]
    missing = sum((per_prompt or len(part)) - len(part) for part in taken)
    largest = per_prompt or max(map(len, taken), default=0)
    ids = [problem.id for problem in chosen]
    return rows, MixManifest(len(ids), largest, len(rows), missing, seed, ids, rows_hash(rows))


def rows_hash(rows: Iterable[Response]) -> str:
    """A hash that names a list of responses: problem, sample and text of each, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(msgspec.json.encode([row.problem_id, row.sample, row.text]))
    return digest.hexdigest()
