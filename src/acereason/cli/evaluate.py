"""`evaluate`: the paper's benchmarks with honest errors."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from acereason import progress
from acereason.cli.common import PromptFormat, ServedModel, ServedTokenizer, embedded, goes_on_with, out
from acereason.errors import ConfigError
from acereason.native import mkl as fastmath

if TYPE_CHECKING:
    from acereason.evaluate.benchmarks.store import AnswerProtocol

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="a Hugging Face folder or hub id, or servers' URLs with commas")
    ] = None,
    benchmarks: Annotated[
        str | None, typer.Option("--benchmarks", "-b", help="aime24,lcb_v5=FOLDER,mine=FILE.jsonl")
    ] = None,
    problems: Annotated[
        Path | None,
        typer.Option(
            "--problems", "-p", help="a file of problems: JSON Lines, JSON, Parquet or CSV, also packed"
        ),
    ] = None,
    responses: Annotated[
        Path | None, typer.Option(help="grade these generations instead: JSON Lines of problem_id and text")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="where answers and tables go")] = None,
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="samples per question; default the paper's")
    ] = None,
    budget: Annotated[int, typer.Option(help="most response tokens")] = 32768,
    temperature: Annotated[float, typer.Option(help="sampling temperature")] = 0.6,
    top_p: Annotated[float, typer.Option(help="probability mass kept")] = 0.95,
    format: PromptFormat = None,
    seed: Annotated[int, typer.Option(help="of the draws")] = 1,
    tokenizer: ServedTokenizer = None,
    served_model: ServedModel = None,
    concurrency: Annotated[int, typer.Option(min=1, help="requests in flight per server")] = 256,
    deadline: Annotated[float, typer.Option(help="seconds for one response of a server")] = 3600.0,
    judges: Annotated[int, typer.Option(min=1, help="judging processes")] = 2,
    mode: Annotated[
        str | None, typer.Option(help="strict, lcb, math_verify or acereason; default the benchmark's")
    ] = None,
    thinking: Annotated[
        bool, typer.Option("--thinking/--no-thinking", help="whether --responses hold a thinking part")
    ] = True,
    any_count: Annotated[
        bool, typer.Option(help="accept a benchmark of another number of questions")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """avg@k and pass@k on the paper's benchmarks or problems of one's own, with errors. Resumable in --out.

    Known benchmarks: aime24 aime25 aime26 hmmt25 brumo25 amc23 math500 math gsm8k minerva olympiadbench
    gpqa_diamond mmlu_pro humaneval humaneval_plus mbpp mbpp_plus lcb_v5 lcb_v6, and lcb_FIRST_AFTER for any
    window of LiveCodeBench, e.g. lcb_2024-10-01_2025-02-01."""
    if (model is None) == (responses is None):
        raise ConfigError("give a model or servers to ask, or --responses to grade, and not both")
    if (benchmarks is None) == (problems is None):
        raise ConfigError("give --benchmarks or --problems")
    fastmath.enable()
    from acereason.evaluate.benchmarks import job
    from acereason.policy import saved

    saved.check_name(format)
    with ExitStack() as stack:
        source: job.FromModel | job.FromFile
        if responses is not None:
            source = job.FromFile(responses, thinking)
        else:
            settings, pace = (temperature, top_p, budget, seed), (concurrency, deadline)
            served = (tokenizer, served_model)
            source = job.FromModel(*answering(stack, model or "", format, served, settings, pace))
        asked = job.named(benchmarks, not any_count) if benchmarks else job.of_problems(cast(Path, problems))
        target = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shown = progress.for_terminal(as_json)
        if folder is not None:
            stack.enter_context(goes_on_with())
        results = job.run(asked, source, target, k=k, judges=judges, mode=mode, progress=shown)
    if as_json:
        out.print_json(json.dumps({s.name: _brief(s) for s in results}))
        return
    _show(results)
    if folder is not None:
        out.print(f"{folder}: results.json, results.md for a model card, pass_at_k.svg", markup=False)


def answering(
    stack: ExitStack,
    model: str,
    format: str | None,
    served: tuple[str | None, str | None],
    settings: tuple[float, float, int, int],
    pace: tuple[int, float] = (256, 3600.0),
) -> tuple[Any, Any, AnswerProtocol]:
    """Policy, sampler, and what their responses depend on.

    served     tokenizer of a served model, and its name there
    settings   temperature, top-p, budget, seed
    pace       requests in flight per server, and seconds for one response"""
    from acereason.evaluate.benchmarks.job import fingerprint
    from acereason.evaluate.benchmarks.store import AnswerProtocol

    (tokenizer, name), (temperature, top_p, budget, seed) = served, settings
    if not model.startswith(("http://", "https://")):
        about = (model, "embedded", fingerprint(model))
        policy, sampler = embedded(model, format)
    elif tokenizer is None:
        raise ConfigError("a served model needs --tokenizer: prompts are sent as token ids")
    else:
        from acereason.sample.servers.served import Served

        sampler = Served(model.split(","), name, concurrency=pace[0], deadline=pace[1])
        stack.callback(sampler.close)
        policy, about = sampler.policy(tokenizer, format), (str(sampler.name), "servers", "")
    protocol = AnswerProtocol(*about, policy.prompt.name, temperature, top_p, budget, seed)
    return policy, sampler, protocol


def _brief(score: Any) -> dict[str, Any]:
    """A score without what is kept per question; NaN, which JSON lacks, as null."""
    import msgspec

    data: dict[str, Any] = json.loads(msgspec.json.encode(score))
    return {key: value for key, value in data.items() if key not in ("ids", "right")}


def _show(results: list[Any]) -> None:
    from rich import box
    from rich.table import Table

    from acereason.evaluate.benchmarks import scores

    table = Table(*scores.COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for score in results:
        table.add_row(*scores.cells(score))
    out.print(table)
    for note in (*scores.notes(results), scores.LEGEND):
        out.print(note, markup=False)
