"""Problems from anyone's file: rows in, `Problem` records out, each with the place that it came from.

    problem_of(row)          one row, whatever its columns are called (`fields.py`)
    problems_in(path)        a file's problems one by one; a row that is none comes with the reason
    read_problems(path)      all of them; DataError names every kind of fault with its first row

A record of this project keeps its id and its domain; other rows get the id that they have, else one of their
question.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from acereason.errors import ConfigError, DataError
from acereason.problems import Problem
from acereason.published import fields
from acereason.published.rows import raw_rows
from acereason.registry import domain

Row = Mapping[str, Any]
SOME = 3  # faults of a kind that an error shows
_OWN = ("source", "difficulty", "released", "starter_code", "time_limit", "memory_limit")
_META = ("level", "subject", "url", "year", "contest_id", "data_source", "difficulty", "solutions")
_DOMAINS = {"math": "math", "mathematics": "math", "code": "code", "coding": "code", "programming": "code"}


class ReadRow(NamedTuple):
    """A problem with its place in a file, or the reason why the row is none."""

    place: str
    problem: Problem | None
    reason: str = ""


def problems_in(path: Path) -> Iterator[ReadRow]:
    """The problems of a file in order. Equal questions without an id are told apart by a number."""
    repeats: Counter[str] = Counter()
    for read in raw_rows(path):
        if read.row is None:
            yield ReadRow(read.place, None, read.reason)
            continue
        try:
            problem = problem_of(read.row)
            if stated_id(fields.normal(read.row)) is None:
                repeats[problem.id] += 1
                if (number := repeats[problem.id]) > 1:
                    problem = msgspec.structs.replace(problem, id=f"{problem.id}-{number}")
            yield ReadRow(read.place, problem)
        except (DataError, msgspec.ValidationError) as error:
            yield ReadRow(read.place, None, str(error))


def read_problems(path: str | Path, judged: bool = True) -> list[Problem]:
    """All problems of a file. DataError: a row that is none, none at all, two of one id, a domain that is not
    known; and with `judged` one without an answer or tests, for no response to it could be judged."""
    path = Path(path).expanduser()
    read = list(problems_in(path))
    faults = [(f.place, f.reason) for f in read if f.problem is None]
    problems = [(f.place, f.problem) for f in read if f.problem is not None]
    if judged:
        faults += [(place, reason) for place, p in problems if (reason := unanswered(p))]
    faults += equal_ids(problems) + unknown_domains(problems)
    if faults:
        raise DataError(f"{path}: {told(faults)}")
    if not problems:
        raise DataError(f"{path}: expected problems, found none")
    return [problem for _, problem in problems]


def told(faults: Iterable[tuple[str, str]]) -> str:
    """Faults in words: each kind with its number and its first places."""
    kinds: dict[str, list[str]] = {}
    for place, reason in faults:
        kinds.setdefault(reason, []).append(place)
    parts = []
    for reason, places in list(kinds.items())[:SOME]:
        more = f" and {len(places) - SOME} more" if len(places) > SOME else ""
        parts.append(f"{', '.join(places[:SOME])}{more}: {reason}")
    if len(kinds) > SOME:
        parts.append(f"and {len(kinds) - SOME} more kinds of faults")
    return "; ".join(parts)


def equal_ids(problems: Iterable[tuple[str, Problem]]) -> list[tuple[str, str]]:
    """Faults of problems that share an id with an earlier one."""
    seen: dict[str, str] = {}
    return [fault for place, problem in problems for fault in equal_id(problem.id, place, seen)]


def equal_id(name: str, place: str, seen: dict[str, str]) -> list[tuple[str, str]]:
    """The fault of an id that was `seen` at another place; remembers it."""
    first = seen.setdefault(name, place)
    if first == place:
        return []
    return [(place, f"the id {name!r} is also that of {first}; give every problem one of its own")]


def unknown_domains(problems: Iterable[tuple[str, Problem]]) -> list[tuple[str, str]]:
    """Faults of problems of a domain that cannot be judged here, with the nearest known word."""
    known: dict[str, str] = {}
    return [fault for place, p in problems for fault in unknown_domain(p.domain, place, known)]


def unknown_domain(name: str, place: str, known: dict[str, str]) -> list[tuple[str, str]]:
    """The fault of a domain that cannot be judged here; `known` remembers what was found of each."""
    if name not in known:
        try:
            domain(name)
            known[name] = ""
        except ConfigError as error:
            known[name] = str(error)
    return [(place, known[name])] if known[name] else []


def unanswered(problem: Problem) -> str:
    """Why no response to this problem can be judged; empty when one can, or its domain has another way."""
    if problem.domain == "math" and not (problem.answer or "").strip():
        return "no answer" + _mended(problem, "answer")
    if problem.domain == "code" and not problem.tests:
        return "no tests" + _mended(problem, "tests")
    return ""


def _mended(problem: Problem, wanted: str) -> str:
    near: list[str] = problem.meta.get("_columns", [])
    if not near:
        return ""
    known = fields.ANSWERS if wanted == "answer" else fields.TESTS
    for name in near:
        if fields.key(name) in known:
            return f": the column {name!r} holds none"
    for name in near:
        if similar := difflib.get_close_matches(fields.key(name), known, n=1, cutoff=0.7):
            return f": the column {name!r} is not known; is it {similar[0]!r}?"
    return f" in the columns {', '.join(near)}"


def problem_of(row: Row, asked: bool = True) -> Problem:
    """The problem of a row; not `asked` needs no question, as in judging. DataError: no question, or a field
    that cannot be meant."""
    named = fields.normal(row)
    question = fields.question_of(named)
    if question is None and (inner := _inside(named)) is not None:
        return problem_of(inner, asked)
    own = {"id", "domain"} <= set(named)
    if question is None and not asked:
        question = ""
    if question is None:
        raise DataError(f"no question in the columns {', '.join(map(str, row))}")
    checks = fields.tests_of(named, question)
    if checks.function and checks.function not in question:
        question = _with_example(named, question)
    name = stated_id(named) or question_id(question)
    judged = checks.fields(name) if checks else {}
    given = {key: named[key] for key in _OWN if named.get(key) not in (None, "")} if own else _others(named)
    domain = named.get("domain") if own or isinstance(named.get("domain"), str) else None
    judged["domain"] = _domain(named, domain, judged.get("domain"))
    if not own and fields.is_code(question):
        question = fields.as_script(question)
    meta = judged.pop("meta", {}) | _meta(named, own)
    answer = fields.answer_of(named)
    if answer is None and own and isinstance(named.get("answer"), str):
        answer = named["answer"]
    if answer is None and not checks:
        meta["_columns"] = [str(column) for column in row]
    values = {"id": name, "question": question, "answer": answer, "meta": meta, **judged, **given}
    return msgspec.convert(msgspec.to_builtins(values), Problem)


def _inside(named: Row) -> dict[str, Any] | None:
    """A row whose question stands in the only struct of it, with what stands beside that; None: there is
    none."""
    structs = [name for name, value in named.items() if isinstance(value, Mapping)]
    if len(structs) != 1 or fields.question_of(fields.normal(named[structs[0]])) is None:
        return None
    return {**{name: value for name, value in named.items() if name != structs[0]}, **named[structs[0]]}


def question_id(question: str) -> str:
    """An id for a problem that has none."""
    return hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def stated_id(named: Row) -> str | None:
    """The id that a row gives, under one of the usual names."""
    for column in fields.IDS:
        value = fields.get(named, column)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def _domain(named: Row, stated: Any, judged: str | None) -> str:
    """What is stated goes first; assertions are judged in their own way where code is stated."""
    if isinstance(stated, str) and stated and not (judged and stated == "code"):
        return stated
    ability = named.get("ability")
    return judged or (_DOMAINS.get(ability.lower(), "math") if isinstance(ability, str) else "math")


def _with_example(named: Row, question: str) -> str:
    """MBPP: the name of the function stands in the tests alone, so the first of them is shown."""
    listed = named.get("test_list")
    if isinstance(listed, list) and listed and isinstance(listed[0], str):
        return f"{question}\nYour code should pass this test:\n{listed[0]}"
    return question


def _others(named: Row) -> dict[str, Any]:
    """What rows of others say besides, where it has the meaning of ours."""
    out: dict[str, Any] = {}
    if isinstance(named.get("starter_code"), str) and named["starter_code"]:
        out["starter_code"] = named["starter_code"]
    if isinstance(named.get("time_limit"), (int, float)) and named["time_limit"] > 0:
        out["time_limit"] = float(named["time_limit"])
    for column in ("source", "data_source"):
        if isinstance(named.get(column), str) and named[column]:
            return out | {"source": named[column]}
    return out


def _meta(named: Row, own: bool) -> dict[str, Any]:
    meta = named.get("meta")
    if own and isinstance(meta, Mapping):
        kept = dict(meta)
    elif isinstance(meta, str) and meta.startswith("{"):
        kept = dict(msgspec.json.decode(meta))
    else:
        kept = {k: named[k] for k in _META if isinstance(named.get(k), (str, int, float)) and named[k] != ""}
    if (level := level_of(kept.get("level"))) is not None:
        kept["level"] = level
    return kept


def level_of(value: Any) -> int | None:
    """The number of a level such as 5, "5" or "Level 5"; None when it has none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) if value == value else None
    digits = re.search(r"\d+", value) if isinstance(value, str) else None
    return int(digits[0]) if digits else None
