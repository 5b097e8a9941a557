"""Files larger than memory: the decisions of `dedup.py` and `decontaminate.py`, in parallel.

One pass computes the keys of every prompt, the bands' keys go to scratch files, and one band at a
time comes back. In memory stay about 60 bytes a prompt, plus what is a duplicate or a hit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from acereason.curate.decontaminate import (
    Boilerplate,
    Hits,
    Index,
    build_index,
    decide,
    explain,
    find_hits,
    join_hits,
    reasons,
)
from acereason.curate.dedup import (
    BANDS,
    CHUNK,
    EXACT,
    NEAR,
    band_keys,
    candidates,
    clusters,
    groups,
    line,
    losers,
)
from acereason.curate.funnel import Funnel
from acereason.curate.stream import Lines, Part, in_order, read_part
from acereason.curate.text import U64, encode, sequence_hashes
from acereason.files import replacing

FEW = 20_000  # below this many prompts the start of a worker costs more than it saves


def _keys(part: Part) -> tuple[U64, U64]:
    """Whole-text key [texts] and band keys [BANDS, texts] of a part."""
    encoded = encode(problem.question for problem in read_part(part))
    return sequence_hashes(encoded), np.ascontiguousarray(band_keys(encoded).T)


def dedup_file(
    source: Path,
    target: Path,
    threshold: float | None = 0.8,
    workers: int = 1,
    merged: Path | None = None,
) -> list[Funnel]:
    """Exact and near deduplication of a JSON Lines file of problems; the lines' order stays.

    threshold: None leaves near-duplicates. merged: a file for lines [id dropped, id that stays], so
    that responses to a dropped problem can follow it."""
    lines = Lines(source)
    keep = np.ones(len(lines), np.bool_)
    with TemporaryDirectory(dir=target.parent, prefix=".bands-") as scratch:
        bands = [Path(scratch) / f"{band:02}" for band in range(BANDS)]
        whole = _spill(lines, bands, workers)
        exact = losers(lines.problem, groups(whole))
        keep[list(exact)] = False
        alive = np.flatnonzero(keep)
        columns = (np.fromfile(band, np.uint64)[alive] for band in bands)
        pairs = candidates(columns if threshold is not None else (), whole[alive])
    alike = clusters(alive[pairs], lambda i: lines.problem(i).question, threshold or 0.0)
    near = losers(lines.problem, alike)
    keep[list(near)] = False
    lines.copy(keep, target)
    if merged:
        _write_merged(lines, exact, near, merged)
    steps = [(EXACT, len(lines), len(exact)), (NEAR, len(alive), len(near))]
    return [
        line(name, before, count, reason)
        for (name, reason), before, count in steps[: 1 + (threshold is not None)]
    ]


def _write_merged(lines: Lines, exact: dict[int, int], near: dict[int, int], target: Path) -> None:
    with replacing(target) as out:
        for dropped, stays in sorted((exact | near).items()):
            pair = [lines.problem(i).id for i in (dropped, near.get(stays, stays))]
            if pair[0] != pair[1]:
                out.write(msgspec.json.encode(pair) + b"\n")


def _spill(lines: Lines, bands: list[Path], workers: int) -> U64:
    """Write each band's keys to its file; return the whole-text keys."""
    whole = [np.zeros(0, np.uint64)]
    workers = workers if len(lines) > FEW else 1
    with ExitStack() as stack:
        files = [stack.enter_context(band.open("wb")) for band in bands]
        for keys, columns in in_order(_keys, lines.parts(CHUNK * 2), workers):
            whole.append(keys)
            for file, column in zip(files, columns, strict=True):
                file.write(column.tobytes())
    return np.concatenate(whole)


def _hits(part: Part, index: Index, domain: str | None) -> Hits:
    problems = read_part(part)
    return find_hits([p.question if domain in (None, p.domain) else "" for p in problems], index)


def decontaminate_file(
    source: Path,
    target: Path,
    report: Path,
    benchmarks: Mapping[str, Iterable[str]],
    n: int,
    min_share: float = 0.0,
    boilerplate: Boilerplate | None = None,
    domain: str | None = None,
    workers: int = 1,
) -> Funnel:
    """`decontaminate` for a file: the kept lines to `target`, one `Overlap` a line to `report`.

    domain: only problems of this domain are looked at; the others pass."""
    lines = Lines(source)
    index = build_index(benchmarks, n)
    workers = workers if len(lines) > FEW else 1
    find = partial(_hits, index=index, domain=domain)
    hits = join_hits(list(in_order(find, lines.parts(2048), workers)))
    keep, counts = np.ones(len(lines), np.bool_), dict[str, int]()
    with replacing(report) as out:
        for decision in decide(hits, index, min_share, boilerplate):
            row = explain(lines.problem(decision.prompt), decision, index)
            out.write(msgspec.json.encode(row) + b"\n")
            keep[decision.prompt] = False
            reasons(row, n, counts)
    after = lines.copy(keep, target)
    name = "decontaminate" if domain is None else f"decontaminate {domain}"
    return Funnel(name, len(lines), after, counts)
