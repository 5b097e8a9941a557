"""Check the folder of the short run that `.ci/run` makes: complete, consistent, opens without us."""

from __future__ import annotations

import json
import sys
from pathlib import Path

run = Path(sys.argv[1])
summary = json.loads((run / "summary.json").read_text())
names = [stage["name"] for stage in summary["stages"]]
assert names == ["sft", "math-short", "math-long", "code"], names
for stage in summary["stages"]:
    for domain in ("math", "code"):
        score = stage["evaluation"][domain]
        assert 0 <= score["accuracy"] <= 1 and score["n"] == 24 and score["k"] == 2, score
for domain in ("math", "code"):
    gain = summary["gain"][domain]
    assert gain["low"] <= gain["mean"] <= gain["high"], gain
rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
steps = [row["step"] for row in rows if row["kind"] in ("sft", "rl")]
assert steps == list(range(1, len(steps) + 1)), "steps are not counted through"
for row in rows:
    if row["kind"] == "rl":
        assert row["logprob_difference"]["max"] < 1e-3, row["logprob_difference"]
assert "<html" in (run / "report.html").read_text()[:2000].lower()

from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

model = AutoModelForCausalLM.from_pretrained(run / "models" / "code")
tokenizer = AutoTokenizer.from_pretrained(run / "models" / "code")
ids = tokenizer("Start at 5", return_tensors="pt").input_ids
assert model(input_ids=ids).logits.isfinite().all()
print(f"{run}: {len(steps)} steps, {len(rows)} rows, all stages evaluated")
