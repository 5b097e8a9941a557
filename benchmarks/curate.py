"""Deduplication and decontamination of synthetic prompts: time, memory, and what is found of what
was planted.

    python benchmarks/curate.py --prompts 1000000 --workers 2       one run, figures as JSON
    python benchmarks/curate.py --curve 100000 1000000              peak memory against size
    python benchmarks/curate.py --prompts 50000 --peer              beside datasketch, paired on the
    same file

Of N prompts 5 % are exact duplicates in other dress (spaces, LaTeX delimiters, numbering), 5 %
near-duplicates (one to six words replaced, dropped or added; Jaccard of word 5-grams measured on
whitespace-separated words, apart from the code under test), 1 % hold a benchmark question or 15
words of one, and 1 % differ from another prompt in exactly one number. Everything else must stay:
each deletion among it is counted as false.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from acereason.curate.bulk import decontaminate_file, dedup_file
from acereason.files import read_jsonl
from acereason.problems import Problem

SYLLABLES = [f"{c}{v}" for c in ("b", "d", "kl", "m", "n", "st", "tr", "z") for v in "aeo"]
VOCABULARY = ["".join(w) for w in itertools.product(SYLLABLES, repeat=3)]
LIST = "the of and is in that for with are given find how many number when each then from which"
COMMON = LIST.split()
QUESTIONS = 2000


def words_of(state: random.Random, low: int = 35, high: int = 110) -> list[str]:
    """A prompt as words: 30 % common words, rare ones, five numbers and a formula."""
    out = [
        state.choice(COMMON) if state.random() < 0.3 else state.choice(VOCABULARY)
        for _ in range(state.randint(low, high))
    ]
    for _ in range(5):
        out.insert(state.randrange(len(out)), str(state.randrange(1000)))
    formula = f"$x^2 + {state.randrange(100)}x = \\frac{{{state.randrange(100)}}}{{7}}$"
    out.insert(state.randrange(len(out)), formula)
    return out


def base(seed: int, number: int) -> list[str]:
    return words_of(random.Random(f"{seed}/{number}"))


def question(number: int) -> str:
    return " ".join(words_of(random.Random(f"question/{number}"), 20, 60))


def dressed(words: list[str], state: random.Random) -> str:
    text = "  ".join(words) if state.random() < 0.5 else "\n".join(words)
    text = text.replace("$x^2", r"\(x^{2}").replace("$", r"\)").replace(r"\frac", r"\dfrac")
    return f"{state.randrange(1, 99)}. {text}?" if state.random() < 0.5 else text


def is_word(word: str) -> bool:
    return word.isalpha() and len(word) > 5


def edited(words: list[str], state: random.Random) -> list[str]:
    out = list(words)
    for _ in range(state.choice([1, 1, 1, 1, 2, 2, 3, 6])):
        at = state.choice([i for i, word in enumerate(out) if is_word(word)])
        kind = state.randrange(3)
        out[at : at + (kind != 0)] = [] if kind == 1 else [state.choice(VOCABULARY)]
    return out


def jaccard(a: list[str], b: list[str]) -> float:
    x, y = ({tuple(w[i : i + 5]) for i in range(len(w) - 4)} for w in (a, b))
    return len(x & y) / len(x | y)


def one_number(words: list[str], state: random.Random) -> list[str]:
    out = list(words)
    at = state.choice([i for i, word in enumerate(out) if word.isdigit()])
    out[at] = str(int(out[at]) + 1)
    return out


def leaked(words: list[str], state: random.Random) -> str:
    asked = question(state.randrange(QUESTIONS)).split()
    if state.random() < 0.5:
        start = state.randrange(len(asked) - 15)
        asked = asked[start : start + 15]
    at = state.randrange(len(words))
    return " ".join([*words[:at], *asked, *words[at:]])


def records(count: int, seed: int) -> Iterator[tuple[Problem, dict[str, object]]]:
    """Prompts in a mixed order, with what was planted about each."""
    kinds = ["exact"] * 5 + ["near"] * 5 + ["leak", "number"] + ["base"] * 88
    places = list(range(count))
    random.Random(seed).shuffle(places)
    for place in places:
        kind, state = kinds[place % 100], random.Random(f"{seed}/edit/{place}")
        label: dict[str, object] = {"id": str(place), "kind": kind}
        if kind == "base":
            text = " ".join(base(seed, place))
        elif kind == "leak":
            text = leaked(base(seed, place), state)
        else:
            original = place + 12  # in the same hundred, and nobody else's original
            label["of"] = str(original)
            words = base(seed, original)
            if kind == "exact":
                text = dressed(words, state)
            else:
                changed = (edited if kind == "near" else one_number)(words, state)
                label["jaccard"] = jaccard(words, changed)
                text = " ".join(changed)
        yield Problem(str(place), "math", text, answer="1" if place % 3 else None), label


def generate(folder: Path, count: int, seed: int) -> tuple[Path, Path]:
    path, labels = folder / "prompts.jsonl", folder / "labels.jsonl"
    with path.open("wb") as prompts, labels.open("wb") as notes:
        for problem, label in records(count, seed):
            prompts.write(msgspec.json.encode(problem) + b"\n")
            notes.write(msgspec.json.encode(label) + b"\n")
    return path, labels


def score(labels: Path, deduped: set[str], clean: set[str]) -> dict[str, float]:
    """Shares found of what was planted, and deletions of what had to stay."""
    found: dict[str, list[bool]] = {"exact": [], "near": [], "near, any Jaccard": [], "leak": []}
    wrong = {"differ in one number": 0, "unrelated": 0}
    touched = set()
    notes = [json.loads(line) for line in labels.open()]
    for note in notes:
        name, kind, of = note["id"], note["kind"], note.get("of")
        gone = name not in deduped or (of is not None and of not in deduped)
        if kind in ("exact", "near"):
            touched |= {name, of}
            found["near, any Jaccard" if kind == "near" else "exact"].append(gone)
            if kind == "near" and note["jaccard"] >= 0.85:
                found["near"].append(gone)
        elif kind == "number":
            touched |= {name, of}
            wrong["differ in one number"] += gone
        elif kind == "leak":
            found["leak"].append(name not in clean)
    kept = [n["id"] for n in notes if n["id"] not in touched and n["kind"] != "leak"]
    wrong["unrelated"] = sum(name not in clean for name in kept)
    return {
        **{f"recall, {kind}": sum(hits) / max(1, len(hits)) for kind, hits in found.items()},
        **{f"planted, {kind}": len(hits) for kind, hits in found.items()},
        **{f"false deletions, {kind}": count for kind, count in wrong.items()},
    }


def peak_gib(workers: int) -> dict[str, float]:
    """Largest resident memory: of this process, of the largest worker, and of all together."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20 if workers > 1 else 0.0
    return {
        "peak GiB, main": own,
        "peak GiB, a worker": child,
        "peak GiB, all processes": own + workers * child,
    }


def processor() -> float:
    """Processor seconds of this process and of those it waited for: what a busy machine changes
    least."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run(folder: Path, path: Path, labels: Path, workers: int) -> dict[str, float]:
    start, used = time.perf_counter(), processor()
    dedup_file(path, folder / "deduped.jsonl", workers=workers)
    middle, used = time.perf_counter(), processor() - used
    benchmarks = {"synthetic": [question(i) for i in range(QUESTIONS)]}
    decontaminate_file(
        folder / "deduped.jsonl", folder / "clean.jsonl", folder / "report.jsonl", benchmarks, 9,
        workers=workers,
    )  # fmt: skip
    end = time.perf_counter()
    memory = peak_gib(workers)
    ids = [{p.id for p in read_jsonl(folder / f"{x}.jsonl", Problem)} for x in ("deduped", "clean")]
    return {
        "dedup seconds": middle - start,
        "dedup processor seconds": used,
        "decontaminate seconds": end - middle,
        **memory,
        **score(labels, *ids),
    }


def grams_of(question: str) -> list[str]:
    words = question.lower().split()
    return list({" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))})


def peer_datasketch(path: Path, labels: Path) -> dict[str, float]:
    """datasketch: 84 permutations in an LSH index, word 5-grams, first come first kept."""
    from datasketch import MinHash, MinHashLSH

    start = processor()
    index, kept = MinHashLSH(num_perm=84, params=(14, 6)), set()
    for problem in read_jsonl(path, Problem):
        sketch = MinHash(num_perm=84)
        sketch.update_batch([gram.encode() for gram in grams_of(problem.question)])
        if not index.query(sketch):
            index.insert(problem.id, sketch)
            kept.add(problem.id)
    return {"dedup processor seconds": processor() - start, **score(labels, kept, kept)}


def peer_rensa(path: Path, labels: Path) -> dict[str, float]:
    """rensa (Rust): the same with its R-MinHash and its LSH index."""
    from rensa import RMinHash, RMinHashLSH

    start = processor()
    index, kept = RMinHashLSH(threshold=0.8, num_perm=84, num_bands=14), set()
    for problem in read_jsonl(path, Problem):
        sketch = RMinHash(num_perm=84, seed=1)
        sketch.update(grams_of(problem.question))
        if not index.query(sketch):
            index.insert(int(problem.id), sketch)
            kept.add(problem.id)
    return {"dedup processor seconds": processor() - start, **score(labels, kept, kept)}


def curve(sizes: list[int], workers: int) -> None:
    """One fresh process a size, so that peaks do not mix."""
    for size in sizes:
        command = [sys.executable, __file__, "--prompts", str(size), "--workers", str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        result = json.loads(done.stdout)
        print(f"{size:>10,} prompts {result['peak GiB, all processes']:6.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--curve", type=int, nargs="*")
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    if options.curve:
        curve(options.curve, options.workers)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # generated in another process: its memory must not count
        arguments = f"pathlib.Path({name!r}), {options.prompts}, {options.seed}"
        make = f"import curate, pathlib; curate.generate({arguments})"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        subprocess.run([sys.executable, "-c", make], check=True, env=environment)
        path, labels = folder / "prompts.jsonl", folder / "labels.jsonl"
        result = {"prompts": options.prompts, "megabytes": path.stat().st_size / 1e6}
        result |= run(folder, path, labels, options.workers)
        if options.peer:
            for name, peer in (("datasketch", peer_datasketch), ("rensa", peer_rensa)):
                result |= {f"{name}: {key}": value for key, value in peer(path, labels).items()}
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
