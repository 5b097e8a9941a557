"""`serve`: a model behind OpenAI's routes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acereason.cli.common import Model, PromptFormat, embedded, out, until_told
from acereason.errors import need
from acereason.native import mkl as fastmath


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="where to listen; others can use the model there")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to listen; 0 takes a free one")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="what the model is called; default its folder's name")
    ] = None,
    token: Annotated[str, typer.Option(help="what callers must send as a bearer token")] = "",
    slots: Annotated[int, typer.Option(min=1, help="responses written at once")] = 64,
    format: PromptFormat = None,
) -> None:
    """A small OpenAI-compatible server over the embedded engine: /v1/models, /v1/completions and
    /v1/chat/completions, with log-probabilities of the distribution that samples.

    For `calibrate --server`, `evaluate URL --tokenizer MODEL`, curation's teacher, and any OpenAI client."""
    for module in ("starlette", "uvicorn"):
        need(module, "server")
    fastmath.enable()
    from acereason.serving.serve import serve as listen

    policy, sampler = embedded(model, format, slots)
    called = name or Path(model).expanduser().resolve().name if Path(model).exists() else name or model
    with until_told():
        listen(
            policy, sampler, called, host, port, token, format is None,
            lambda url: out.print(f"{called} at {url}  (Ctrl-C ends it)", markup=False, soft_wrap=True),
        )  # fmt: skip
