"""Official LiveCodeBench verdicts on our own programs, written into tests/evaluate/lcb_programs.jsonl.

    python benchmarks/lcb_official.py PATH/TO/LiveCodeBench [--write]

The path is a checkout of github.com/LiveCodeBench/LiveCodeBench, which is not part of this project; its
`check_correctness` judges each program with the default limit of 6 s. It runs programs without a sandbox,
so this script runs only those of the fixture, in namespaces without a network where `unshare` may make
them. Without `--write` it only says where the stored verdicts are others.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import pickle
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

CASES = Path(__file__).resolve().parents[1] / "tests" / "evaluate"
MARK = "@verdict "


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / name).read_text().splitlines()]


def sample(row: dict[str, Any]) -> dict[str, str]:
    """What the benchmark's own loader makes of a row; the pickles are those of this repository."""
    private = row["private_test_cases"]
    if not private.startswith("["):
        private = pickle.loads(zlib.decompress(base64.b64decode(private)))
    tests = json.loads(row["public_test_cases"]) + json.loads(private)
    name = json.loads(row["metadata"]).get("func_name")
    columns = {
        "inputs": [t["input"] for t in tests],
        "outputs": [t["output"] for t in tests],
        "fn_name": name,
    }
    return {"input_output": json.dumps(columns)}


def judge(checkout: str) -> None:
    """In the throw-away process: print one verdict a program."""
    sys.path.insert(0, checkout)
    from lcb_runner.evaluation.compute_code_generation_metrics import check_correctness

    samples = {row["question_id"]: sample(row) for row in read("lcb_problems.jsonl")}
    for number, case in enumerate(read("lcb_programs.jsonl")):
        try:
            results, _ = check_correctness(samples[case["question_id"]], case["code"], 6, debug=False)
            right = all(bool(value > 0) for value in results)
        except Exception:
            right = False  # its caller takes this as the result −2
        print(f"\n{MARK}{number} {int(right)}", flush=True)


def verdicts(checkout: Path) -> dict[int, bool]:
    inner = [sys.executable, __file__, str(checkout.resolve()), "--judge"]
    with tempfile.TemporaryDirectory() as folder:
        isolate = ["unshare", "--user", "--net", "--ipc", "--pid", "--fork", "--mount-proc"]
        if subprocess.run([*isolate, "true"], capture_output=True).returncode:
            isolate = []
        done = subprocess.run(
            [*isolate, *inner], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "TMPDIR": folder, "HOME": folder},
        )  # fmt: skip
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith(MARK)]
    if len(found) != len(read("lcb_programs.jsonl")):
        raise SystemExit(f"the runner ended early:\n{done.stderr[-2000:]}")
    return {int(number): right == "1" for number, right in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--judge", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge:
        judge(str(options.checkout))
        return
    cases, found = read("lcb_programs.jsonl"), verdicts(options.checkout)
    for number, case in enumerate(cases):
        if case.get("official") not in (None, found[number]):
            print(f"{case['question_id']}, {case['name']}: stored {case['official']}, now {found[number]}")
        case["official"] = found[number]
    print(f"{sum(found.values())} of {len(found)} pass")
    if options.write:
        lines = "".join(json.dumps(case) + "\n" for case in cases)
        (CASES / "lcb_programs.jsonl").write_text(lines)


if __name__ == "__main__":
    main()
