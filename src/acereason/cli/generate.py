"""`generate`: a batch of problems or prompts through a model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from acereason import progress
from acereason.cli.common import PromptFormat, ServedModel, ServedTokenizer, Silent, goes_on_with, out
from acereason.cli.evaluate import answering
from acereason.native import mkl as fastmath


def generate(
    model: Annotated[
        str, typer.Argument(help="a Hugging Face folder or hub id, or servers' URLs with commas")
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="problems; or rows with prompt, continued as it stands, or messages; or a question a line",
        ),
    ],
    target: Annotated[Path, typer.Option("--out", "-o", help="responses, JSON Lines; there: gone on with")],
    samples: Annotated[int, typer.Option("-k", min=1, help="responses per row")] = 1,
    budget: Annotated[
        int, typer.Option(min=1, help="most response tokens; cut to what the context leaves")
    ] = 32768,
    temperature: Annotated[float, typer.Option(help="sampling temperature")] = 0.6,
    top_p: Annotated[float, typer.Option(help="probability mass kept")] = 0.95,
    format: PromptFormat = None,
    seed: Annotated[int, typer.Option(help="of the draws")] = 1,
    tokenizer: ServedTokenizer = None,
    served_model: ServedModel = None,
    quiet: Silent = False,
) -> None:
    """A batch: problems or prompts in, responses out, a line each. Killed anywhere, the same command goes on.

    `acereason verify` judges what comes out of problems with answers or tests."""
    fastmath.enable()
    from acereason import generate as generating
    from acereason.policy import saved

    saved.check_name(format)
    with ExitStack() as stack:
        settings, served = (temperature, top_p, budget, seed), (tokenizer, served_model)
        policy, sampler, protocol = answering(stack, model, format, served, settings)
        asks = generating.read(source, policy)
        wanted = generating.BatchSettings(samples, protocol)
        shown = stack.enter_context(progress.for_terminal(quiet).task("generate", samples * len(asks)))
        stack.enter_context(goes_on_with())
        asked = generating.generate(asks, policy, sampler, wanted, target, shown)
    out.print(f"{target}: {samples * len(asks)} responses, {asked} of them new", markup=False, soft_wrap=True)
