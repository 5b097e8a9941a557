"""A synthetic run for the tests of the page: three stages, calibrations, evaluations, hostile responses."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

HOSTILE = (
    "</script><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\">"
    "<!--<script> {{data}} \x1b[31m \u202e\u2028 &lt;"
)
TRACE = {  # of "cár", "ry ", "0" and the rest
    "pieces": base64.b64encode(bytes([4, 3, 1, 11])).decode(),
    "logprob": base64.b64encode(bytes([0, 1, 2, 3])).decode(),
    "entropy": base64.b64encode(bytes([8, 32, 255, 0])).decode(),
}
STAGES = (("math-short", "math", 48, 60), ("math-long", "math", 96, 50), ("code", "code", 96, 40))


def accuracy(share: float, n: int = 500, k: int = 8) -> Row:
    se = math.sqrt(share * (1 - share) / n) * 0.8
    passes = {"1": share, "4": min(1, share * 1.35), "8": min(1, share * 1.5)}
    return {"accuracy": share, "se": se, "n": n, "k": k, "pass_at_k": passes}


def evaluation(step: int, stage: str, benchmark: str, share: float, **more: Any) -> Row:
    modes = {
        "chain": {
            "direct": {"share": 0.6 - share / 2, "accuracy": share / 2},
            "worked": {"share": 0.4 + share / 2, "accuracy": share},
        },
        "search": {"guess": {"share": 1 - share, "accuracy": 0.1}},
    }
    if share > 0.5:
        modes["search"]["try each"] = {"share": share, "accuracy": 0.8}
    row = {"kind": "evaluation", "step": step, "stage": stage, "benchmark": benchmark, **more}
    return {**row, **accuracy(share), "truncated": 0.02, "no_answer": 0.04, "modes": modes} | {
        "by_family": {name: accuracy(share * by, 170) for name, by in (("chain", 1.1), ("search", 0.9))}
    }


def rl_rows(random: np.random.Generator, first: int) -> list[Row]:
    rows: list[Row] = []
    step, reward, temperature = first, 0.34, 0.85
    for stage, domain, budget, steps in STAGES:
        reward = reward if domain == "math" else 0.4
        for at in range(steps):
            step, reward = step + 1, reward + 0.25 * (0.75 - reward) / steps * 3
            seen = float(np.clip(reward + random.normal(0, 0.03), 0, 1))
            h = 0.3 + 0.03 * random.normal() * math.exp(-at / 20) + 0.012 * random.normal()
            temperature += 0.15 * (0.3 - h)
            mean = budget * (0.55 - 0.15 * at / steps)
            wrong = 128 * (1 - seen)
            rows.append(
                {
                    "kind": "rl",
                    "step": step,
                    "stage": stage,
                    "stage_step": at + 1,
                    "domain": domain,
                    "budget": budget,
                    "group": 8,
                    "T": temperature,
                    "H_T": h,
                    "H_1": h * 1.25,
                    "H_target": None if domain == "code" else 0.3,
                    "reward": seen,
                    "truncated": 0.2 * math.exp(-at / 15),
                    "length": {"mean": mean, "p50": mean * 0.9, "p95": min(budget, mean * 1.8)},
                    "all_right": seen**3,
                    "all_wrong": (1 - seen) ** 3,
                    "outcomes": {"correct": 128 * seen, "wrong": wrong * 0.8}
                    | {"no_answer": wrong * 0.15, "timeout": wrong * 0.05},
                    "by_level": {str(n): float(seen ** (n / 2)) for n in range(1, 5)},
                    "loss": random.normal(0, 0.01),
                    "gradient_norm": random.lognormal(-1, 0.2),
                    "lr": 1e-6 if domain == "math" else 5e-6,
                    "overlap": {"seconds": 0.2, "share": 0.25},
                    "mfu": 0.4,
                    "mbu": 0.6,
                    "logprob_difference": {"mean": 1e-6, "max": 2e-5, "k3": 0 if at % 2 else 1e-9},
                    "tokens": int(128 * mean),
                    "learned_tokens": int(100 * mean),
                    "seconds": {"sample": 0.9, "judge": 0.1, "learn": 0.6, "publish": 0.02} | {"total": 1.62},
                }
            )
    return rows


def response_rows(random: np.random.Generator, stage: str) -> list[Row]:
    rows: list[Row] = []
    for problem in range(6):
        rewards = random.random(8) < [0.5, 0.2, 1, 0, 0.7, 0.4][problem]
        scale = rewards.std() or 1
        for sample, right in enumerate(rewards.tolist()):
            thinking = "\n".join(f"carry {i}: {i * 17 % 10}" for i in range(12))
            text = f"{thinking}\n</think>\nThe sum is \\boxed{{{41 + right}}}."
            cut = not right and sample == 3
            rows.append(
                {
                    "problem_id": f"{stage}/{problem}",
                    "sample": sample,
                    "temperature": 0.85,
                    "text": HOSTILE + thinking if cut else HOSTILE + text if sample == 1 else text,
                    "tokens": 40 + sample,
                    "finish": "length" if cut else "stop",
                    "outcome": "correct" if right else "no_answer" if cut else "wrong",
                    "reward": int(right),
                    "extracted": None if cut else str(41 + right),
                    "detail": HOSTILE if sample == 2 else "",
                    "advantage": (right - rewards.mean()) / scale,
                    "level": problem % 3 + 1,
                    "family": ["chain", "search"][problem % 2],
                }
            )
    return rows


def metric_rows(random: np.random.Generator) -> list[Row]:
    funnel = [("collected", 9000, 9000), ("dedup", 9000, 7300), ("decontaminate", 7300, 7180)]
    rows: list[Row] = [
        {"kind": "funnel", "step": 0, "name": name, "before": before, "after": after}
        | {"reasons": {"exact": 1200, "near": before - after} if after < before else {}}
        for name, before, after in funnel
    ]
    for step in range(1, 121):
        loss = 0.4 + 1.8 * math.exp(-step / 25) + random.normal(0, 0.02)
        lr = 5e-4 * (1 + math.cos(math.pi * step / 120)) / 2
        rows.append({"kind": "sft", "step": step, "epoch": (step + 39) // 40, "loss": loss, "lr": lr})
        if step % 40 == 0:
            epoch = step // 40
            about = {"epoch": epoch} if epoch < 3 else {}  # the last one is the stage's own
            for benchmark, top in (("math", 0.4), ("code", 0.35)):
                share = top * (1 - 0.6**epoch)
                rows.append(evaluation(step, "sft", benchmark, share, **about))
    for stage in ("math-short", "math-long"):
        points = [{"T": t, "H": 0.12 + 0.34 * (t - 0.4), "se": 0.006} for t in (0.4, 0.7, 1.0, 1.3)]
        rows.append(
            {"kind": "calibration", "step": 120, "stage": stage, "target": 0.3, "points": points}
            | {"T": 0.93, "check": {"H": 0.305, "se": 0.005}}
        )
    rows += rl_rows(random, 120)
    for step, stage, math_share, code_share in (
        (180, "math-short", 0.45, 0.31),
        (230, "math-long", 0.53, 0.33),
        (270, "code", 0.54, 0.52),
    ):
        rows.append(evaluation(step, stage, "math", math_share))
        rows.append(evaluation(step, stage, "code", code_share))
    return rows


def lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_run(folder: Path) -> Path:
    """A finished run's folder with three stages and hostile responses."""
    random = np.random.default_rng(0)
    (folder / "responses").mkdir(parents=True)
    (folder / "data").mkdir()
    metrics = metric_rows(random)
    (folder / "metrics.jsonl").write_text(lines(metrics))
    (folder / "recipe.json").write_text(json.dumps({"name": "demo", "note": HOSTILE}))
    machine = {"processor": "a processor", "cores": 2}
    manifest = {"recipe": "demo", "seed": 7, "recipe_sha256": "ab" * 32, "machine": machine}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for step, (stage, *_) in zip((180, 230, 270), STAGES, strict=True):
        for name in (stage, f"evaluation-math-{stage}"):
            for at in (step - 1, step) if name == stage else (step,):
                path = folder / "responses" / f"{name}-{at:06d}.jsonl"
                rows = response_rows(random, stage)
                rows[0] |= {"text": "cárry 0</think>\n41", "trace": TRACE}
                path.write_text(lines(rows))
    problems = [{"id": f"math-short/{n}", "question": f"Add {n} and 42.", "answer": "42"} for n in (0, 1)]
    (folder / "data" / "problems.jsonl").write_text(lines(problems))
    final = [row for row in metrics if row["kind"] == "evaluation" and row["step"] >= 120]
    stages = [
        {"name": name, "domain": "code" if name == "code" else "math", "steps": 50, "T": 0.93}
        | {
            "H_T": 0.304,
            "evaluation": {row["benchmark"]: row for row in final if row["stage"] == name},
        }
        for name in ("sft", "math-short", "math-long", "code")
    ]
    gain = {
        "math": {"mean": 0.226, "low": 0.191, "high": 0.262},
        "code": {"mean": 0.246, "low": 0.212, "high": 0.281},
    }
    per_stage = {name: gain for name, *_ in STAGES}
    wide = {"math": {"8": {"mean": -0.05, "low": -0.08, "high": -0.02}}}
    summary = {"stages": stages, "gain": gain, "gain_per_stage": per_stage, "seconds": 517.3}
    summary["gain_pass_at_k_per_stage"] = dict.fromkeys(per_stage, wide)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
