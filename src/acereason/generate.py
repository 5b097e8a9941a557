"""A batch: problems or prompts of a file in, responses out, kept as they come.

    asks = read(path, policy)                    what is asked, or DataError with every row that cannot be
    generate(asks, policy, sampler, how, out)    OUT, a line a response; killed, the same call goes on

A row is a problem as everywhere (`published.records`), asked in the model's own format; or a `prompt`,
continued as it stands; or the `messages` of a chat, put by the tokenizer's chat template. A line of OUT is
the problem's fields, so that `verify` can judge it, and `problem_id`, `sample`, `response`, `finish`,
`tokens`; `key` names it by everything that it depends on. While it goes on lines stand as they came, in the
end in the file's order.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from acereason.draws import draw_seed
from acereason.errors import ConfigError, DataError, RunError, SamplingError
from acereason.evaluate.benchmarks.store import AnswerProtocol
from acereason.files import own, write_atomic
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.published import fields
from acereason.published.records import equal_ids, problem_of, question_id, stated_id, told, unknown_domains
from acereason.published.rows import raw_rows
from acereason.sample.protocol import Completion, Request, Sampler, check_how

BUDGET = 32_768


class Ask(NamedTuple):
    """One row: its id, the prompt's token ids, and what of the row is written beside a response."""

    id: str
    prompt: list[int]
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`samples` of each row. `protocol` is what the responses depend on; its budget is cut to what the
    context leaves."""

    samples: int
    protocol: AnswerProtocol


def read(path: Path, policy: Policy) -> list[Ask]:
    """What a file asks. DataError names every kind of row that cannot be asked, with its first places."""
    asks: list[Ask] = []
    places: list[tuple[str, Problem]] = []
    faults: list[tuple[str, str]] = []
    repeats: Counter[str] = Counter()
    for place, row, reason in _rows(path):
        if row is None:
            faults.append((place, reason))
            continue
        try:
            ask, problem = _ask(row, policy)
        except (DataError, ConfigError, msgspec.ValidationError) as error:
            faults.append((place, str(error)))
            continue
        if stated_id(fields.normal(row)) is None:  # equal rows without ids are told apart by a number
            repeats[ask.id] += 1
            ask = ask._replace(id=f"{ask.id}-{repeats[ask.id]}") if repeats[ask.id] > 1 else ask
        asks.append(ask)
        places.append((place, problem or Problem(ask.id, "math", "")))
    faults += equal_ids(
        [(p, msgspec.structs.replace(q, id=a.id)) for (p, q), a in zip(places, asks, strict=True)]
    )
    faults += unknown_domains(places)
    if faults:
        raise DataError(f"{path}: {told(faults)}")
    if not asks:
        raise DataError(f"{path}: expected problems or prompts, found none")
    return asks


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | None, str]]:
    """Rows of any file; of a text file every line that is not empty is a question."""
    if path.suffix == ".txt":
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        yield from ((f"line {i}", {"question": text}, "") for i, text in enumerate(lines, 1) if text.strip())
        return
    for one in raw_rows(path):
        yield one.place, one.row, one.reason


def _ask(row: Mapping[str, Any], policy: Policy) -> tuple[Ask, Problem | None]:
    prompt, turns = row.get("prompt"), row.get("messages")
    name = stated_id(fields.normal(row))
    if isinstance(prompt, str) and not row.get("question"):
        ids = list(policy.tokenizer.encode(prompt))
        return Ask(name or question_id(prompt), ids, {"prompt": prompt}), None
    if isinstance(turns, list) and turns:
        ids = _of_chat(turns, policy)
        return Ask(name or question_id(str(turns)), ids, {"messages": turns}), None
    problem = problem_of(row)
    return Ask(problem.id, policy.prompt_ids(problem), _fields(problem)), problem


def _of_chat(turns: list[Any], policy: Policy) -> list[int]:
    if not getattr(policy.tokenizer, "chat_template", None):
        raise DataError("messages need a chat template, and the model's tokenizer has none; give `question`")
    try:
        text = policy.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # templates raise errors of Jinja, and of their own
        raise DataError(f"the model's chat template refuses these messages: {error}") from error
    return list(policy.tokenizer.encode(text, add_special_tokens=False))


def _fields(problem: Problem) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(problem)
    meta = {k: v for k, v in row.get("meta", {}).items() if k != "_columns"}
    return {k: v for k, v in {**row, "meta": meta}.items() if v not in ({}, None)}


def generate(
    asks: Sequence[Ask], policy: Policy, sampler: Sampler, how: BatchSettings, out: Path,
    advance: Callable[[int, str], None] = lambda *_: None,
) -> int:  # fmt: skip
    """Ask for what is not in `out` yet; returns how many responses were asked for now.

    RunError: `out` holds responses to other prompts, or of another protocol, or is being written by another
    process. SamplingError: a prompt leaves no room in the context, or the sampler cannot go on."""
    wanted = {key: (i, j) for i, ask in enumerate(asks) for j, key in enumerate(_keys(ask, how))}
    check_how(how.protocol.budget, how.protocol.temperature, how.protocol.top_p)
    budgets = [_budget(ask, how, policy.context) for ask in asks]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("ab+", buffering=0) as file:
        own(file, out)
        done = _done(file, out, wanted)
        advance(len(done), "")
        asked = _requests(asks, how, budgets, [(k, w) for k, w in wanted.items() if k not in done])
        for completion in sampler.sample(asked):
            file.write(msgspec.json.encode(_line(asks, policy, completion)) + b"\n")
            advance(1, f"{len(completion.tokens)} tokens")
        _sort(file, out, wanted)
    return len(wanted) - len(done)


def _keys(ask: Ask, how: BatchSettings) -> list[str]:
    return [how.protocol.key(ask.prompt, ask.id, sample) for sample in range(how.samples)]


def _budget(ask: Ask, how: BatchSettings, context: int) -> int:
    room = context - len(ask.prompt)
    if room < 1:
        raise SamplingError(f"the prompt of {ask.id} has {len(ask.prompt)} tokens, the context is {context}")
    return min(how.protocol.budget, room)


def _requests(
    asks: Sequence[Ask], how: BatchSettings, budgets: Sequence[int], left: list[tuple[str, tuple[int, int]]]
) -> Iterator[Request]:
    p = how.protocol
    for key, (i, j) in left:
        seed = draw_seed(p.seed, "generate", asks[i].id, j)
        yield Request(asks[i].prompt, budgets[i], p.temperature, seed, p.top_p, key=(key, i, j))


def _line(asks: Sequence[Ask], policy: Policy, done: Completion) -> dict[str, Any]:
    key, i, sample = done.request.key
    text = policy.text(done.tokens) if "prompt" not in asks[i].row else _continued(policy, done)
    return {
        "key": key, **asks[i].row, "problem_id": asks[i].id, "sample": sample, "response": text,
        "finish": done.finish, "tokens": len(done.tokens), "temperature": done.request.temperature,
    }  # fmt: skip


def _continued(policy: Policy, done: Completion) -> str:
    """A prompt's continuation as it stands, without the end token."""
    ids = done.tokens[:-1] if len(done.tokens) and done.tokens[-1] in policy.end_ids else done.tokens
    return str(policy.tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False))


class _Key(msgspec.Struct):
    key: str


def _done(file: BinaryIO, out: Path, wanted: Mapping[str, object]) -> set[str]:
    """The keys of the responses that are there; a torn last line is cut off."""
    file.seek(0)
    data = file.read()
    file.truncate(data.rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
    try:
        keys = [msgspec.json.decode(line, type=_Key).key for line in data.split(b"\n")[:-1]]
    except msgspec.DecodeError as error:
        raise RunError(f"{out} is not a file of responses ({error}); choose another --out") from error
    other = sum(key not in wanted for key in keys)
    if other:
        raise RunError(
            f"{out} holds {other} responses to other prompts, or sampled otherwise (model, format, "
            "temperature, top_p, budget, seed); ask as it was begun, or choose another --out"
        )
    return set(keys)


def _sort(file: BinaryIO, out: Path, wanted: Mapping[str, tuple[int, int]]) -> None:
    """Put the lines into the order of rows and samples."""
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    ordered = sorted(lines, key=lambda line: wanted[msgspec.json.decode(line, type=_Key).key])
    if ordered != lines:
        write_atomic(out, b"".join(ordered))
