"""Responses in anyone's file, with what they answer and what the file itself says of them.

    {id, domain, answer, response}                    this project's rows
    {gt, code: [text, …], score: [true, …]}           the math harness of Qwen2.5 and its heirs
    {question, ground_truth, MODEL: {solution, is_correct}, …}   OpenAI's GSM8K solutions

A response is text, the assistant's turn of messages, or a record; a row may hold several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from acereason.errors import DataError
from acereason.problems import Problem, Response
from acereason.published import fields
from acereason.published.records import problem_of
from acereason.published.rows import raw_rows

Row = Mapping[str, Any]
RESPONSES = (
    "response", "responses", "completion", "completions", "generation", "generations", "output", "outputs",
    "model_output", "model_outputs", "samples", "code", "text",
)  # fmt: skip
SAID = ("expected", "is_correct", "correct", "score", "scores", "reward")  # the file's own verdict


class Answered(NamedTuple):
    """A response with its problem; `said` is the file's own verdict where it has one; `sample` counts the
    responses of a row."""

    problem: Problem
    response: Response
    said: bool | None
    sample: int


class Unread(NamedTuple):
    """A row that holds no response: where it stands, and why."""

    place: str
    reason: str


def answered_in(path: Path) -> Iterator[list[Answered] | Unread]:
    """The responses of every row of a file in order, or why a row holds none."""
    for read in raw_rows(path):
        if read.row is None:
            yield Unread(read.place, f"{read.reason}: {read.excerpt[:100]}")
            continue
        try:
            yield answered(read.row)
        except (DataError, msgspec.ValidationError) as error:
            yield Unread(read.place, f"expected a problem's fields and `response`, {error}")


def answered(row: Row) -> list[Answered]:
    """The responses of one row. DataError: none, or a problem's field that cannot be meant."""
    named = fields.normal(row)
    given_responses = list(_responses(named))
    if not given_responses:
        raise DataError(f"found the columns {', '.join(map(str, row))}")
    kept = {name: value for name, value in row.items() if fields.key(str(name)) not in RESPONSES}
    problem = problem_of(kept, asked=False)
    marked = _convention(named)
    out = []
    for number, (given, said) in enumerate(given_responses):
        response = _response(problem, given, number, named)
        if marked:
            response = msgspec.structs.replace(response, text=_boxing(response.text))
        out.append(Answered(problem, response, said, number))
    return out


def _responses(named: Row) -> Iterator[tuple[Any, bool | None]]:
    for name in RESPONSES:
        value = named.get(name)
        if not fields.there(value) and value != "":
            continue
        several = isinstance(value, list) and not (
            value and isinstance(value[0], dict) and "role" in value[0]
        )
        given: list[Any] = list(value) if several and value is not None else [value]
        yield from zip(given, _said(named, len(given), several), strict=True)
        return
    for value in named.values():
        if isinstance(value, dict) and isinstance(value.get("solution"), str):
            yield value["solution"], _verdict(value.get("is_correct"))


def _said(named: Row, count: int, several: bool) -> list[bool | None]:
    for name in SAID:
        value = named.get(name)
        if several and isinstance(value, list) and len(value) == count:
            return [_verdict(v) for v in value]
        if not several and (verdict := _verdict(value)) is not None:
            return [verdict]
    return [None] * count


def _verdict(value: Any) -> bool | None:
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def _response(problem: Problem, given: Any, number: int, named: Row) -> Response:
    if isinstance(given, dict) and "text" in given:
        return msgspec.convert({"problem_id": problem.id, "sample": number, **given}, Response)
    if isinstance(given, list) and given and isinstance(given[-1], dict):
        given = given[-1].get("content")
    if not isinstance(given, str):
        raise DataError(f"found a response that is no text: {str(given)[:80]!r}")
    cut = (named.get("finish") or named.get("finish_reason")) == "length"
    return Response(problem.id, number, given, finish="length" if cut else "stop")


def _convention(named: Row) -> bool:
    """Whether references end with a marker and so do responses: `#### 18`, `A: 18`."""
    return any(isinstance(v := fields.get(named, n), str) and fields.marked(v) for n in fields.ANSWERS)


def _boxing(text: str) -> str:
    """A response that ends with such a marker, with its answer in a box as well."""
    answer = None if "\\boxed" in text else fields.marked(text)
    return f"{text}\n\\boxed{{{answer}}}" if answer else text
