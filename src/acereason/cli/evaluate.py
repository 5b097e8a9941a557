"""`evaluate`: avg@k and pass@k with honest errors."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from acereason import config, fastmath, progress
from acereason.cli.common import Model, Problems, PromptFormat, embedded, out


def evaluate(
    model: Model,
    problems: Problems,
    k: Annotated[int, typer.Option("-k", help="samples per problem")] = 8,
    budget: Annotated[int, typer.Option(help="most response tokens")] = 32768,
    temperature: Annotated[float, typer.Option(help="sampling temperature")] = 0.6,
    top_p: Annotated[float, typer.Option(help="probability mass kept")] = 0.95,
    format: PromptFormat = "chatml-1.1",
    seed: Annotated[int, typer.Option(help="of the draws")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """avg@k and pass@k of a model on problems of one's own, with the question-level standard error."""
    settings = config.Evaluation(k, temperature, top_p, budget)
    fastmath.enable()
    from acereason.evaluate import evaluate as evaluation
    from acereason.evaluate.summary import by_domain
    from acereason.problems import Problem, read_jsonl
    from acereason.verify import Judge

    policy, sampler = embedded(model, format)
    results: dict[str, Any] = {}
    with Judge() as judge:
        for domain, part in by_domain(list(read_jsonl(problems, Problem))).items():
            with progress.for_terminal(as_json).task(domain, len(part) * k) as advance:
                groups = evaluation.evaluate(
                    policy, sampler, judge, part, settings, seed, lambda _: advance(1, "")
                )
            results[domain] = evaluation.summarise(groups)
    if as_json:
        out.print_json(json.dumps(results))
        return
    for domain, row in results.items():
        passes = "  ".join(f"pass@{n} {value:.1%}" for n, value in row["pass_at_k"].items())
        score = f"{row['accuracy']:.1%} ± {row['se']:.1%}"
        out.print(f"{domain}: avg@{row['k']} {score} over {row['n']} problems  {passes}", markup=False)
