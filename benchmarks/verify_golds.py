"""Reference answers of real data against themselves and against what each becomes by one small change.

    python benchmarks/verify_golds.py FOLDER [--show]

FOLDER holds JSON Lines, JSON arrays and Parquet of problems; what stands in them under `answer`, `gt`,
`ground_truth` or `reward_model.ground_truth` is a reference. Prints how many references were refused
beside themselves, and which changed ones were accepted, by the kind of change. Some changes leave an
answer what it was (`a + b` for `b + a`), so acceptances are read by a person: docs/verifier.md has the
table.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from acereason.verify.answers.clean import unboxed
from acereason.verify.answers.decide import decide, put_to_math_verify
from acereason.verify.workers import MathWorker

KEYS = ("answer", "gt", "ground_truth")
LONGEST = 300  # characters of a reference


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file; none of a kind that is not known."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        yield from parquet.read_table(path).to_pylist()
    elif path.suffix == ".json":
        yield from (row for row in json.loads(path.read_text()) if isinstance(row, dict))
    elif path.suffix == ".jsonl":
        yield from map(json.loads, path.read_text().splitlines())


def references(folder: Path) -> list[str]:
    """Every different reference answer in a folder, in the order of the files."""
    texts: dict[str, None] = {}
    for path in sorted(folder.iterdir()):
        for row in rows(path):
            nested = row.get("reward_model") or {}
            known = [row[key] for key in KEYS if row.get(key) is not None]
            for value in known[:1] or nested.get("ground_truth") or []:
                text = str(value).rpartition("A: ")[2].strip()
                if 0 < len(text) <= LONGEST:
                    texts.setdefault(text)
    return list(texts)


def digit(text: str, which: int) -> str:
    """One digit made one larger."""
    places = [m.start() for m in re.finditer(r"\d", text)]
    place = places[which]
    return text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]


def letter(text: str) -> str:
    """The first lone letter made the next one."""
    match = re.search(r"(?<![A-Za-z\\{])[a-zA-Z](?![A-Za-z}])", text)
    return text if match is None else text[: match.start()] + chr(ord(match[0]) + 1) + text[match.end() :]


def swapped(text: str) -> str:
    """The first two of several, separated by commas, exchanged."""
    match = re.search(r"([^,()\[\]{}\\]+),([^,()\[\]{}\\]+)", text)
    return text if match is None else f"{text[: match.start()]}{match[2]},{match[1]}{text[match.end() :]}"


def bracket(text: str) -> str:
    """The first round bracket square, or the other way round."""
    match = re.search(r"[(\[]", text)
    other = {"(": "[", "[": "("}
    return text if match is None else text[: match.start()] + other[match[0]] + text[match.end() :]


def word(text: str) -> str:
    """The first word longer by a letter."""
    return re.sub(r"(?<!\\)\b([A-Za-z]{3,})", r"\1x", text, count=1)


CHANGES: dict[str, Callable[[str], str]] = {
    "first digit": lambda t: digit(t, 0),
    "last digit": lambda t: digit(t, -1),
    "digit inserted": lambda t: re.sub(r"(\d)", r"\g<1>3", t, count=1),
    "digit dropped": lambda t: re.sub(r"(\d)\d", r"\1", t, count=1),
    "sign": lambda t: t.replace("-", "", 1) if "-" in t else f"-{t}",
    "plus and minus": lambda t: re.sub(r"(?<=\w)(\s*)\+", r"\1-", t, count=1),
    "minus and plus": lambda t: re.sub(r"(?<=\w)(\s*)-", r"\1+", t, count=1),
    "letter": letter,
    "swapped": swapped,
    "bracket": bracket,
    "last left out": lambda t: re.sub(r",[^,()\[\]{}]+$", "", t),
    "one more": lambda t: f"{t}+1",
    "doubled": lambda t: f"2({t})",
    "turned over": lambda t: re.sub(r"\\frac\{(\w+)\}\{(\w+)\}", r"\\frac{\2}{\1}", t, count=1),
    "turned relation": lambda t: re.sub("<", ">", t, count=1),
    "closed": lambda t: re.sub(r"<|\\lt\b", r"\\le ", t, count=1),
    "no equation": lambda t: re.sub("=", r"\\ne ", t, count=1),
    "word": word,
    "not": lambda t: rf"\text{{not }}{t}",
    "hedged": lambda t: rf"{t}\text{{ or }}17",
    "listed": lambda t: f"{t}, 17",
    "power": lambda t: re.sub(r"\^", "", t, count=1),
    "root": lambda t: re.sub(r"\\sqrt", "", t, count=1),
    "no point": lambda t: re.sub(r"(?<=\d)\.(?=\d)", "", t, count=1),
    "negated bracket": lambda t: re.sub(r"\(", "-(", t, count=1),
    "percent": lambda t: t.replace(r"\%", r"^\circ") if "%" in t else t.replace(r"^\circ", r"\%"),
    "squared": lambda t: f"({t})^2",
}


def changed(reference: str) -> Iterator[tuple[str, str]]:
    """Kind and text of every change that makes the text another one."""
    for kind, change in CHANGES.items():
        try:
            text = change(reference)
        except IndexError:
            continue
        if text != reference:
            yield kind, text


def accepts(worker: MathWorker, reference: str, answer: str) -> bool:
    """The judge's verdict, math-verify's included."""
    verdict = decide(reference, answer)
    if verdict is not None:
        return verdict
    return worker.ask(*put_to_math_verify(reference, answer), seconds=20, whole=True) == "equal"


def main() -> None:
    """Count, and list acceptances."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="every accepted change, not only how many")
    options = parser.parse_args()
    golds = references(options.folder)
    refused = [gold for gold in golds if decide(gold, unboxed(gold)) is not True]
    worker = MathWorker()
    pairs, accepted = 0, Counter[str]()
    for gold in golds:
        for kind, text in changed(gold):
            pairs += 1
            if accepts(worker, gold, text):
                accepted[kind] += 1
                if options.show:
                    print(f"{kind}\t{gold!r}\t{text!r}")
    worker.close()
    print(f"{len(golds)} references, {len(refused)} refused beside themselves: {refused}")
    print(f"{pairs} changed, {accepted.total()} accepted: {dict(accepted.most_common())}")


if __name__ == "__main__":
    main()
