"""Studies on a real base model: its files, its vocabulary cut to them, and the command that goes on from the
records in docs/base-findings.

    acereason convert package:gemma-3-270m     # asks whether Gemma's terms are accepted
    python examples/base_studies.py runs/base-studies
    sh runs/base-studies/study.sh run F3 F5    # or: report F3 F5

The problems are those of `recipes/base.toml`, math alone, curated with a seed of their own. Arms are known
by what the files hold, so the records of another machine are found again.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from acereason import config
from acereason.cli.common import find_recipe
from acereason.curate import tasks
from acereason.files import read_jsonl
from acereason.policy import model as models
from acereason.policy import saved, vocabulary
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response

KINDS = ("sft", "traces", "rl", "held_out")
BASE = "package:gemma-3-270m"
CURATED = (
    "seed=221", "curate.split=test", "curate.tasks.math.sft_prompts=3600",
    "curate.tasks.math.rl_prompts=1200", "curate.tasks.math.held_out=320",
)  # fmt: skip
SETTINGS = (
    "model.context=512", "model.vocabulary=full", "placement.compute=bfloat16",
    "placement.parallel=replicate",
    "sft.optimizer=adamw", "sft.learning_rate=5e-5", "sft.batch_tokens=1600", "sft.micro_tokens=800",
    "sft.warmup=0.05", "curate.overlap_share=0.9", "rl.micro_tokens=1024", "stage.math.prompts=16",
    "stage.math.group=8", "stage.math.steps=50", "stage.math.learning_rate=4e-6", "stage.math.warmup=2",
    "stage.math.budget=112", "evaluation.budget=128", "evaluation.k=4", "sampling.slots=128",
)  # fmt: skip


def files(folder: Path) -> dict[str, Path]:
    """The math problems and traces, each kind in a file."""
    recipe = config.load(find_recipe("base"), CURATED)
    whole = folder / "curated"
    whole.mkdir(parents=True, exist_ok=True)
    tasks.write(tasks.make(recipe.curate, recipe.of_data, whole)[0], whole)
    rows = {kind: [json.loads(line) for line in (whole / f"{kind}.jsonl").open()] for kind in KINDS}
    math = {kind: [row for row in rows[kind] if row.get("domain") == "math"] for kind in rows}
    known = {row["id"] for row in math["sft"]}
    math["traces"] = [row for row in rows["traces"] if row["problem_id"] in known]
    made = {kind: folder / f"{kind}.jsonl" for kind in math}
    for kind, path in made.items():
        path.write_text("".join(json.dumps(_plain(row)) + "\n" for row in math[kind]))
    return made


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Without what the generator says of a problem."""
    meta = {key: value for key, value in row.get("meta", {}).items() if key in ("family", "level")}
    return {**row, "meta": meta} if "meta" in row else row


def cut(made: dict[str, Path], target: Path) -> None:
    """The base as a folder, with the tokens that the files need."""
    tokenizer, model = models.load_tokenizer(BASE), models.load_model(BASE)
    policy = Policy(model, tokenizer, saved.choose(BASE, tokenizer, "plain", None), base=BASE)
    problems = {kind: list(read_jsonl(made[kind], Problem)) for kind in ("sft", "rl", "held_out")}
    used = {token for some in problems.values() for problem in some for token in policy.prompt_ids(problem)}
    by_id = tasks.by_id(problems["sft"])
    for trace in read_jsonl(made["traces"], Response):
        used.update(policy.example(by_id[trace.problem_id], trace, 0).response)
    made_cut = vocabulary.cut(model, tokenizer, used)
    model.save_pretrained(target)
    made_cut.tokenizer.save_pretrained(target)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/base-studies")
    made, model = files(folder), folder / "gemma-3-270m"
    cut(made, model)
    data = [part for kind, path in made.items() for part in ("--data", f"{kind}={path}")]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    ours = ["--size", "small", "--split", "test", "--model", str(model), "-o", str(folder / "runs")]
    words = ["acereason", "study", '"$@"', *map(shlex.quote, [*ours, *data, *settings])]
    (folder / "study.sh").write_text(" ".join(words) + " --findings docs/base-findings\n")
    print(f"sh {folder / 'study.sh'} run F3 F5")


if __name__ == "__main__":
    main()
