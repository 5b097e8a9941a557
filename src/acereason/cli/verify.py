"""`verify`: judge responses that were made anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from acereason.cli.common import err, out, until_told
from acereason.errors import ConfigError
from acereason.problems import Outcome
from acereason.published.responses import Unread

SHOWN = 5  # rows that could not be read


def verify(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="a problem's fields and `response` a row: JSON Lines, JSON, Parquet or CSV, also .gz"
        ),
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="verdicts, one per row, in order")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="judging processes")] = 2,
    mode: Annotated[
        str, typer.Option(help="strict, lcb, math_verify or acereason; docs/verifier.md")
    ] = "strict",
    thinking: Annotated[
        bool, typer.Option("--thinking/--no-thinking", help="whether responses have a thinking part")
    ] = True,
    serve: Annotated[
        bool, typer.Option("--serve", help="judge over HTTP instead: JSON in, JSON out")
    ] = False,
    host: Annotated[str, typer.Option(help="where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to listen")] = 8765,
    token: Annotated[str, typer.Option(help="what callers must send as a bearer token")] = "",
    domain: Annotated[
        list[str] | None, typer.Option(help="a domain of your own that is judged, too; may be repeated")
    ] = None,
) -> None:
    """Judge responses that were made anywhere: math answers by rule, programs by their tests in a sandbox."""
    if serve:
        from acereason.verify.serve import serve as listen

        with until_told():
            listen(host, port, workers, mode, token, out.print, tuple(domain or ()))
        return
    if source is None or target is None:
        raise ConfigError("give a file of responses and --out for the verdicts, or --serve")
    from acereason.verify.files import verify_file

    unread: list[Unread] = []
    counts = verify_file(source, target, workers, mode, thinking, unread.append)
    _show(counts, thinking)
    if unread:
        _say_unread(unread, target)
        raise typer.Exit(1)


def _show(counts: dict[str, int], thinking: bool) -> None:
    kinds = get_args(Outcome)
    rows = sum(counts.get(kind, 0) for kind in kinds)
    out.print("  ".join(f"{kind} {counts[kind]}" for kind in kinds if kind in counts))
    out.print(
        f"{rows} rows; of them "
        + ", ".join(
            f"{name} {counts.get(name, 0) / max(rows, 1):.1%}" for name in ("timeout", "undecided", "cached")
        )
        + f"; sandbox processes lost: {counts.get('lost', 0)}",
        soft_wrap=True,
    )
    if "agreed" in counts or "differed" in counts:
        differed = counts.get("differed", 0)
        told = counts.get("agreed", 0) + differed
        out.print(f"the file's own verdicts: {told - differed} of {told} agree, {differed} differ")
    if thinking and rows and counts.get("no_answer", 0) == rows:
        out.print("no response has an answer; for responses without </think> give --no-thinking")


def _say_unread(unread: list[Unread], target: Path) -> None:
    err.print(f"[bold red]set aside:[/] {len(unread)} rows that hold no response to judge:")
    for one in unread[:SHOWN]:
        err.print(f"  {one.place}: {one.reason}", markup=False, soft_wrap=True)
    err.print(f"each has its line in {target}, as unjudged, with the reason", markup=False)
