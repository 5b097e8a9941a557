"""Judge every program of tests/attacks and say whether each verdict is the right one.

    verify_attacks.py namespaces|bare [JOBS [MODE]]

Started by test_verify_attacks.py inside an outer containment: namespaces, a read-only file system
with a fresh /tmp, limits. Prints one JSON object. After each program a known one is judged, so a
judge that was damaged shows; at the end processes and canaries are looked for. With JOBS the
programs come round again until so many were judged, each time with another comment, so that no
verdict is remembered; `curve` then holds the resident MiB, descriptors and processes on the way.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from acereason.problems import Problem, Response, Test
from acereason.verify import Judge

HERE = Path(__file__).parents[1] / "attacks"
PAIRS = ((987654, 123457), (44, 1000), (7, 7))
KNOWN = "a, b = map(int, input().split())\nprint(a - b)  # {}"


def problem(kind: str) -> Problem:
    """Given two integers, give their difference."""
    if kind == "call":
        tests = [Test("functional", f"[{a}, {b}]", str(a - b)) for a, b in PAIRS]
    else:
        tests = [Test("stdin", f"{a} {b}\n", f"{a - b}\n") for a, b in PAIRS]
    function = "difference" if kind == "call" else None
    return Problem(
        f"difference-{kind}", "code", "", tests=tuple(tests), function=function,
        time_limit=0.5, memory_limit=256,
    )  # fmt: skip


def response(code: str) -> Response:
    return Response("difference", 0, f"</think>\n```python\n{code}\n```")


def programs() -> Iterator[tuple[str, str, str, str]]:
    for path in sorted(HERE.glob("*.py")):
        code = path.read_text()
        header = dict(line[2:].split(": ", 1) for line in code.splitlines()[:3])
        for kind in ("stdin", "call") if header["kind"] == "both" else (header["kind"],):
            yield path.stem, kind, header["must"], code


def processes() -> set[str]:
    """Processes that are not merely waiting to be reaped (nobody reaps orphans in here)."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{entry}/stat").read_text().rpartition(") ")[2][0] != "Z":
                found.add(entry)
    return found


def canaries() -> list[str]:
    places = ("/tmp", "/dev/shm", "/var/tmp", "/", os.getcwd())
    return [f"{place}/{name}" for place in places for name in os.listdir(place) if "canary" in name]


def resident(pid: str) -> int:
    """Bytes of a process in memory; 0 when it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def sizes(jobs: int, before: set[str]) -> tuple[int, int, int, int, int]:
    """After so many jobs: MiB of this process and of those below it, descriptors, processes."""
    below = processes() - before
    mine, theirs = resident("self") >> 20, sum(map(resident, below)) >> 20
    return jobs, mine, theirs, len(os.listdir("/proc/self/fd")), len(below)


def rounds(jobs: int) -> Iterator[tuple[str, str, str, str]]:
    """Every program once, or again and again with another comment until `jobs` verdicts are due."""
    every = list(programs())
    yield from every
    for number in range(len(every), jobs // 2):
        name, kind, must, code = every[number % len(every)]
        yield f"{name} {number}", kind, must, f"{code}\n# {number}"


def main() -> None:
    before = processes()
    wrong: list[str] = []
    count, curve = 0, []
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    mode = sys.argv[3] if len(sys.argv) > 3 else "strict"
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(90)]  # as in a caller with many files open
    with Judge(1, mode=mode, namespaces=sys.argv[1] == "namespaces") as judge:
        for name, kind, must, code in rounds(jobs):
            verdict = judge.verify(problem(kind), response(code))
            known = judge.verify(problem("stdin"), response(KNOWN.format(f"{name} {kind}")))
            count += 1
            if count % 100 == 0:
                curve.append(sizes(2 * count, before))
                print(curve[-1], file=sys.stderr, flush=True)
            if (verdict.outcome == "correct") != (must == "accept") or verdict.reward is None:
                wrong.append(f"{name} ({kind}): {verdict.outcome}, {verdict.detail}")
            if not verdict.detail.isprintable():
                wrong.append(f"{name} ({kind}): control characters in the detail")
            if known.outcome != "correct":
                wrong.append(f"after {name} ({kind}) a known program was {known.outcome}")
        lost = judge.counters["lost"]
    for descriptor in spare:
        os.close(descriptor)
    time.sleep(1)
    left = len(processes() - before)
    print(json.dumps({"count": count, "wrong": wrong, "lost": lost, "left": left,
                      "canaries": canaries(), "curve": curve}))  # fmt: skip


if __name__ == "__main__":
    main()
