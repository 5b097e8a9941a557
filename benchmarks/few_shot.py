"""What a run's base model does without any training: its held-out problems, each after worked examples of its
family from the run's SFT data.

    python benchmarks/few_shot.py runs/base-1 MODEL [-k 1] [--shots 4]

MODEL is the base: a Hugging Face folder, whole or with the run's vocabulary. Temperature, nucleus and budget
are the run's; a response ends with its first boxed answer, for a base model would go on with a problem of its
own. Writes `few-shot.json` into the run's folder, in the form of its evaluations; `docs/base_table.py`
reads it.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from acereason import config
from acereason.config import Evaluation
from acereason.draws import draw_seed
from acereason.evaluate.summary import Result, by_domain
from acereason.files import read_jsonl, write_atomic
from acereason.policy import halves
from acereason.policy.model import load_model, load_tokenizer
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Request
from acereason.verify import Judge

END = "\n\n"


def examples(data: Path, shots: int) -> dict[str, str]:
    """By family: so many worked problems as one text."""
    traces = {trace.problem_id: trace.text for trace in read_jsonl(data / "traces.jsonl", Response)}
    found: dict[str, list[str]] = defaultdict(list)
    for problem in read_jsonl(data / "sft.jsonl", Problem):
        if problem.id in traces and len(own := found[problem.meta["family"]]) < shots:
            own.append(f"{problem.question}\n<think>\n{traces[problem.id]}{END}")
    return {family: "".join(texts) for family, texts in found.items()}


def texts(
    policy: Policy, before: dict[str, str], problems: list[Problem], k: int, settings: Evaluation
) -> Iterator[tuple[int, int, str]]:
    """(problem, sample, response) as they finish; `before` stands before the problems of a family."""
    begin, encode = policy.tokenizer.bos_token or "", policy.tokenizer.encode
    prompts = [
        encode(f"{begin}{before[p.meta['family']]}{p.question}\n<think>\n", add_special_tokens=False)
        for p in problems
    ]
    how: dict[str, Any] = {
        "budget": settings.budget,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
    }
    requests = [
        Request(prompt, key=(i, j), seed=draw_seed("few-shot", i, j), **how)
        for i, prompt in enumerate(prompts)
        for j in range(k)
    ]

    def over(_: Request, tokens: np.ndarray, __: np.ndarray) -> bool:
        said = policy.text(tokens[-12:])
        return "}" in said or END in said

    sampler = EmbeddedSampler(policy.model, slots=32, threads=torch.get_num_threads())
    for done in sampler.sample(requests, over):
        response = policy.text(done.tokens).partition(END)[0]
        boxed, closed, _ = response.partition("\\boxed{")[2].partition("}")
        head = response.partition("\\boxed{")[0]
        yield *done.request.key, head + (f"\\boxed{{{boxed}}}" if closed else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("-k", type=int, default=1)
    parser.add_argument("--shots", type=int, default=4)
    options = parser.parse_args()
    data = options.run / "data"
    recipe = config.parse(json.loads((options.run / "recipe.json").read_text()))
    model = load_model(options.model, context=2048)
    if halves.available(model.device):
        halves.halve(model)
    policy = Policy(model, load_tokenizer(options.model), "plain")
    problems = by_domain(list(read_jsonl(data / "held_out.jsonl", Problem)))["math"]
    before = examples(data, options.shots)
    right: list[list[bool | None]] = [[None] * options.k for _ in problems]
    with Judge(workers=1) as judge, torch.no_grad():
        for i, j, text in texts(policy, before, problems, options.k, recipe.evaluation):
            right[i][j] = judge.verify(problems[i], text).reward == 1
    families = [str(p.meta["family"]) for p in problems]
    result = Result([p.id for p in problems], right, families, [[] for _ in problems])
    write_atomic(options.run / "few-shot.json", msgspec.json.encode({"math": result}))
    print(f"{np.mean([np.mean(row) for row in right]):.3f} of {len(problems)} problems, k = {options.k}")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
