"""The page over a large run: 200,000 metric rows, 100,000 responses. Prints seconds and MiB.

first paint   from opening the address to the first contentful paint, as Chromium says it; the server just
              started ("cold"), and again afterwards ("warm")
first curve   the same to the first curve drawn
every row     until all has been read and drawn
filter        from the question to the answer of /api/responses
live          from a row written to the row drawn
memory        the largest resident set of the server

python benchmarks/view.py [--rows 200000] [--responses 100000] [--folder /tmp/view-benchmark]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from browser import Browser, executable
from view_run import Row

GROUP, PROMPTS = 8, 16
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def metric_row(step: int, rows: int) -> Row:
    """A row as reinforcement learning writes it, about 800 bytes."""
    share = step / rows
    seconds = {"sample": 30.1234567, "judge": 2.1234567, "learn": 20.1234567, "publish": 1.1234567}
    stage: Row = {"stage": f"stage-{int(4 * share)}", "stage_step": step, "domain": "math", "budget": 8192}
    entropy = {
        "H_target": 0.3,
        "H_T": 0.3 + 0.01 * (step % 7),
        "H_T_se": 0.0012345,
        "H_1": 0.4 + step % 11 / 99,
    }
    groups = {"truncated": 0.1234567, "all_right": 0.2123456, "all_wrong": 0.1123456, "learning_groups": 87}
    learning = {"loss": -0.000123456 * (step % 13), "gradient_norm": 0.1234567, "lr": 1e-6}
    return {
        "kind": "rl",
        "step": step,
        **stage,
        "group": 8,
        "epoch": 1,
        "T": 0.9 + 0.1 * share,
        **entropy,
        "reward": 0.2 + share / 2,
        "length": {"mean": 1234.5678 + step % 100, "p50": 1100.0, "p95": 4000.123456},
        **groups,
        "outcomes": {"correct": 512, "wrong": 400, "no_answer": 100, "timeout": 12},
        "by_level": {str(level): 0.9 - level / 10 for level in range(1, 6)},
        "tokens": 1264012,
        **learning,
        "learned_tokens": 1000000,
        "logprob_difference": {"mean": 1.2e-7, "max": 2.3e-5, "k3": 3.4e-13},
        "seconds": {**seconds, "total": 54.0},
        "overlap": {"seconds": 10.5, "share": 0.3456789},
    }


def response_row(step: int, prompt: int, sample: int) -> Row:
    """A row of a responses file, about 1,700 bytes."""
    right = (step + prompt + sample) % 3 == 0
    return {
        "problem_id": f"problem-{step % 50}-{prompt}",
        "sample": sample,
        "text": f"Let us compute {step} + {prompt}. " * 60 + f"</think>\n\\boxed{{{step + prompt + sample}}}",
        "tokens": 700 + sample,
        "finish": "length" if sample == 7 else "stop",
        "temperature": 0.93,
        "outcome": "correct" if right else "wrong",
        "reward": int(right),
        "extracted": str(step + prompt),
        "detail": "",
        "family": f"family-{prompt % 5}",
        "level": prompt % 4 + 1,
        "weight": 1.2e-5 * sample,
    }


def make(folder: Path, rows: int, responses: int) -> None:
    """A run's folder of that size."""
    (folder / "responses").mkdir(parents=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, rows + 1):
            file.write(json.dumps(metric_row(step, rows), separators=(",", ":")) + "\n")
    for step in range(1, responses // (GROUP * PROMPTS) + 2):
        lines = [
            json.dumps(response_row(step, prompt, sample), separators=(",", ":"))
            for prompt in range(PROMPTS)
            for sample in range(GROUP)
        ]
        (folder / "responses" / f"stage-0-{step:06d}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "recipe.json").write_text(json.dumps({"name": "large", "seed": 1}))


def peak_mebibytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def opened(browser: Browser, address: str, ready: str) -> float:
    """Seconds from opening the address to `ready` in the page."""
    browser.open("about:blank")
    begun = time.perf_counter()
    browser.open(address)
    browser.until(ready, 120)
    return time.perf_counter() - begun


def filters(address: str, run: str) -> dict[str, list[float]]:
    """Seconds of each kind of filter, three times each; the last query is for a text that is nowhere."""
    queries = {
        "all": "",
        "outcome": "outcome=wrong",
        "step, cut": "step=300&truncated=yes",
        "family, page 100": "family=family-3&start=5000",
        "common text": "text=compute",
        "rare text": "text=compute 77 + 3",
        "no such text": "text=nowhere to be found",
    }
    taken: dict[str, list[float]] = {}
    url = f"{address}api/responses?run={run}"
    for name, query in queries.items():
        for _ in range(3):
            begun = time.perf_counter()
            with urllib.request.urlopen(f"{url}&{query.replace(' ', '%20')}") as answer:
                found: Any = json.loads(answer.read())
            taken.setdefault(name, []).append(time.perf_counter() - begun)
        print(
            f"  filter, {name:18} {min(taken[name]):.3f} s   {found['matching']} found, "
            f"{found['searched']:.0%} searched"
        )
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--responses", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/view-benchmark"))
    arguments = parser.parse_args()
    if executable() is None:
        sys.exit("this benchmark needs Chromium on PATH")
    folder = arguments.folder / "large"
    if not folder.exists():
        make(folder, arguments.rows, arguments.responses)
    size = (folder / "metrics.jsonl").stat().st_size / 2**20
    size_responses = sum(path.stat().st_size for path in (folder / "responses").iterdir()) / 2**20
    print(f"metrics.jsonl {size:.0f} MiB, responses {size_responses:.0f} MiB")
    command = [sys.executable, "-m", "acereason.cli", "view", str(arguments.folder), "--port", "0"]
    drawn = "charts.get('reward')?.plot"
    whole = f"{drawn} && !document.querySelector('header').textContent.includes('reading')"
    profile = tempfile.mkdtemp()
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        Browser(Path(profile)) as browser,
    ):
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        address = found[0]
        print(f"first curve, cold    {opened(browser, f'{address}#/run/large', drawn):.2f} s")
        print(f"first paint, cold    {browser.ask(PAINT) / 1000:.2f} s")
        begun = time.perf_counter()
        browser.until(whole, 120)
        print(f"every row drawn      {time.perf_counter() - begun:.2f} s later")
        curves, paints = [], []
        for _ in range(5):
            curves.append(opened(browser, f"{address}#/run/large", drawn))
            paints.append(browser.ask(PAINT) / 1000)
        print(f"first paint, warm    {statistics.median(paints):.2f} s")
        print(f"first curve, warm    {statistics.median(curves):.2f} s")
        print(
            f"overview, warm       {opened(browser, address, 'document.querySelector(`.overview td`)'):.2f} s"
        )
        listed = "document.querySelectorAll('.listing tr').length > 50"
        print(f"responses, cold      {opened(browser, f'{address}#/run/large/responses', listed):.2f} s")
        browser.until("!document.querySelector('[role=status].soft').textContent.includes('indexed')", 60)
        taken = filters(address, "large")
        print(f"filter, worst        {max(max(times) for times in taken.values()):.3f} s")
        opened(browser, f"{address}#/run/large", whole)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metric_row(arguments.rows + 1, arguments.rows)) + "\n")
        begun = time.perf_counter()
        last = f"charts.get('reward').plot.data[0].at(-1) === {arguments.rows + 1}"
        browser.until(last, 60)
        print(f"live                 {time.perf_counter() - begun:.2f} s from a row written to the row drawn")
        print(f"memory of the server {peak_mebibytes(server.pid):.0f} MiB at most")
        server.terminate()
    shutil.rmtree(profile, ignore_errors=True)
    shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
