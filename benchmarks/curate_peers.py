"""Whole deduplication pipelines of others on the file of `curate.py`, each in its own environment.

    V/bin/pip install 'datatrove[processing,io]' -e . && V/bin/python benchmarks/curate_peers.py datatrove
    V/bin/pip install text-dedup -e . && V/bin/python benchmarks/curate_peers.py text-dedup

    --prompts 20000 --rounds 3       ours and theirs take turns in this environment: A B A B …

Both run as they come, with word 5-grams and 14 buckets: datatrove's four MinHash stages (8 hashes a
bucket, its defaults), text-dedup's `minhash` command (84 permutations as 14 × 6). Ours does its exact and
its near step with one process. Processor seconds, children included, from the file of prompts to the file
of what stays; theirs read and write the formats that they document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from acereason.curate.bulk import dedup_file
from acereason.files import read_jsonl
from acereason.problems import Problem
from curate import generate, processor, score

Peer = Callable[[Path, Path], set[str]]


def ours(path: Path, folder: Path) -> set[str]:
    """Exact, then near; returns the ids that stay."""
    dedup_file(path, folder / "deduped.jsonl", workers=1)
    return {problem.id for problem in read_jsonl(folder / "deduped.jsonl", Problem)}


def datatrove(path: Path, folder: Path) -> set[str]:
    """Signatures, buckets, clusters, filter: four runs of its local executor."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config, at = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8), str(folder)

    def reader() -> JsonlReader:
        return JsonlReader(str(path.parent), glob_pattern=path.name, text_key="question", id_key="id")

    writer = JsonlWriter(f"{at}/kept", compression=None)
    for name, steps in (
        ("signatures", [reader(), MinhashDedupSignature(f"{at}/sig", config)]),
        ("buckets", [MinhashDedupBuckets(f"{at}/sig", f"{at}/buckets", config=config)]),
        ("cluster", [MinhashDedupCluster(f"{at}/buckets", f"{at}/remove", config=config)]),
        ("filter", [reader(), MinhashDedupFilter(f"{at}/remove"), writer]),
    ):
        tasks = 14 if name == "buckets" else 1
        LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=f"{at}/log-{name}").run()
    return {json.loads(line)["id"] for file in (folder / "kept").iterdir() for line in file.open()}


def text_dedup(path: Path, folder: Path) -> set[str]:
    """Its `minhash` command on the data set library's JSON."""
    subprocess.run(
        [sys.executable, "-m", "text_dedup.minhash", "--path", "json", "--data_files", str(path), "--split",
         "train", "--cache_dir", str(folder / "cache"), "--output", str(folder / "kept"), "--column",
         "question", "--ngram", "5", "--min_length", "1", "--num_perm", "84", "--b", "14", "--r", "6",
         "--num_proc", "1", "--threshold", "0.8"],
        check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    from datasets import load_from_disk

    return set(load_from_disk(str(folder / "kept"))["id"])


PEERS: dict[str, Peer] = {"datatrove": datatrove, "text-dedup": text_dedup}


def measured(peer: Peer, path: Path, labels: Path) -> dict[str, float]:
    """Processor seconds and what was found; the folder is fresh."""
    with tempfile.TemporaryDirectory() as folder:
        start = processor()
        kept = peer(path, Path(folder))
        seconds = processor() - start
    return {"processor seconds": seconds, **score(labels, kept, kept)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path, labels = generate(Path(name), options.prompts, 1)
        ratios, found = [], {}
        for _ in range(options.rounds):
            found = {peer: measured(run, path, labels) for peer, run in
                     (("ours", ours), (options.peer, PEERS[options.peer]))}  # fmt: skip
            ratios.append(found[options.peer]["processor seconds"] / found["ours"]["processor seconds"])
            print(f"{options.peer} / ours: {ratios[-1]:.2f}", file=sys.stderr, flush=True)
    print(json.dumps({"prompts": options.prompts, "ratio": statistics.median(ratios), **found}, indent=2))


if __name__ == "__main__":
    main()
