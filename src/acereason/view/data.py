"""A run's folder as one dictionary that JSON can carry: all that the page knows.

    recipe.json, manifest.json, summary.json ─┐
    metrics.jsonl (rows by "kind")            ├─▶ read_run ─▶ {"sft": columns, "rl": columns, …}
    responses/<stage>-<step>.jsonl            ─┘

Rows that are drawn against the step become columns, one list per quantity, with nested names
joined by dots ("length.p95"). A run is read while it is being written and after it was killed, so
a file or field that is missing, a torn line and bytes that are not UTF-8 are no errors: what cannot
be used is left out and said in `notes`. Only a few groups of each stage's last step are taken from
the responses, and long texts lose their middle; the files hold the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from acereason.chat import END_THINK, final_part
from acereason.errors import RunError
from acereason.evaluate.decompose import Decomposition, decompose_shares

Row = dict[str, Any]

GROUPS = 4  # of each stage's last step
THINKING, ANSWER = 16_000, 8_000  # characters of a response that are kept


def read_run(folder: Path) -> dict[str, Any]:
    """Everything the page shows of the run in `folder`; RunError when it is no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"expected a run's folder, found nothing at {folder}; check the path")
    notes: list[str] = []
    kinds: dict[str, list[Row]] = {}
    for row in read_rows(folder / "metrics.jsonl", notes):
        kinds.setdefault(str(row.get("kind")), []).append(row)
    rl = columns(kinds.get("rl", []))
    evaluation = [
        {**row, "stage": str(row.get("stage")), "benchmark": str(row.get("benchmark"))}
        for row in kinds.get("evaluation", [])
    ]
    spans = stage_spans(rl)
    summary = _read_object(folder / "summary.json", notes)
    return {
        "name": folder.resolve().name,
        "recipe": _read_object(folder / "recipe.json", notes),
        "manifest": _read_object(folder / "manifest.json", notes),
        "summary": summary,
        "results": _results(summary, evaluation, rl),
        "stages": spans,
        "funnel": kinds.get("funnel", []),
        "sft": columns(kinds.get("sft", [])),
        "rl": rl,
        "calibration": kinds.get("calibration", []),
        "evaluation": evaluation,
        "modes": mode_changes(evaluation),
        "responses": _responses(folder, [span["name"] for span in spans], notes),
        "notes": notes,
    }


def read_rows(path: Path, notes: list[str]) -> Iterator[Row]:
    """The objects of a JSON Lines file; lines that are none are left out and noted."""
    try:
        file = path.open("rb")
    except OSError as error:
        notes.append(_unreadable(path, error))
        return
    broken: list[int] = []
    torn = False
    with file:
        for number, line in enumerate(file, 1):
            row = None if line.isspace() else _decode(line)
            if isinstance(row, dict):
                yield row
            elif not line.isspace():
                broken.append(number)
                torn = not line.endswith(b"\n")
    if torn:
        notes.append(f"{path.name}: the last line is not complete; it is left out")
        broken.pop()
    if broken:
        notes.append(f"{path.name}: {len(broken)} unreadable lines left out, first line {broken[0]}")


def columns(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Rows in order of their step, the last one of each step, as {quantity: values or None}."""
    by_step = {row["step"]: row for row in rows if isinstance(row.get("step"), int)}
    flat = [dict(_flatten(by_step[step])) for step in sorted(by_step)]
    names = dict.fromkeys(name for row in flat for name in row if name != "kind")
    return {name: [row.get(name) for row in flat] for name in names}


def _flatten(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield prefix + name, float(f"{value:.6g}") if math.isfinite(value) else None
        elif isinstance(value, str | int) or value is None:
            yield prefix + name, value


def stage_spans(rl: dict[str, list[Any]]) -> list[Row]:
    """Stages in the order they were trained, with the first and last step of each."""
    spans: list[Row] = []
    for index, step in enumerate(rl.get("step", [])):
        about: Row = {name: rl[name][index] for name in ("domain", "budget", "group") if name in rl}
        stage = str(rl["stage"][index]) if "stage" in rl else ""
        if not spans or spans[-1]["name"] != stage:
            spans.append({"name": stage, "first": step, "last": step, **about})
        spans[-1]["last"] = step
    return spans


def mode_changes(evaluation: list[Row]) -> list[Row]:
    """Per benchmark and family: what modes did to accuracy from the first stage to the last one."""
    changes = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in evaluation):
        own = [row for row in evaluation if row["benchmark"] == benchmark]
        by_stage = {row["stage"]: row for row in own if isinstance(row.get("modes"), dict)}
        if len(by_stage) < 2:
            continue
        first, *_, last = by_stage.values()
        for family in first["modes"].keys() & last["modes"].keys():
            part = _family_change(first["modes"][family], last["modes"][family])
            if part is not None:
                where = {"from": first["stage"], "to": last["stage"], "family": family}
                changes.append({"benchmark": benchmark, **where, **asdict(part)})
    return sorted(changes, key=lambda change: (change["benchmark"], change["family"]))


def _family_change(before: Any, after: Any) -> Decomposition | None:
    """None when the shares and accuracies are not all there, or are no shares."""
    try:
        sides = [
            {mode: (float(of["share"]), float(of["accuracy"] or 0)) for mode, of in side.items()}
            for side in (before, after)
        ]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    numbers = [number for side in sides for pair in side.values() for number in pair]
    return decompose_shares(*sides) if all(0 <= number <= 1 for number in numbers) else None


def _results(summary: Row | None, evaluation: list[Row], rl: dict[str, list[Any]]) -> list[Row]:
    """Stages with their evaluations: those of the summary, or what the metrics know so far."""
    stages = (summary or {}).get("stages")
    if isinstance(stages, list) and stages:
        return [stage for stage in stages if isinstance(stage, dict)]
    so_far: dict[str, Row] = {}
    for row in evaluation:
        stage = so_far.setdefault(row["stage"], {"name": row["stage"], "evaluation": {}})
        stage["evaluation"][row["benchmark"]] = row
    for span in stage_spans(rl):
        if span["name"] in so_far:
            at = rl["step"].index(span["last"])
            known: Row = {name: rl[name][at] for name in ("T", "H_T", "domain") if name in rl}
            so_far[span["name"]] |= {**known, "steps": span["last"] - span["first"] + 1}
    return list(so_far.values())


def _responses(folder: Path, stages: list[str], notes: list[str]) -> list[Row]:
    """A few groups from the last step of each stage, and from the last evaluation."""
    last: dict[str, tuple[int, Path]] = {}
    for path in sorted((folder / "responses").glob("*.jsonl")):
        name, _, step = path.stem.rpartition("-")
        if name and step.isdigit():
            last[name] = max(last.get(name, (-1, path)), (int(step), path))
    evaluated = [last[name][0] for name in last if name not in stages]
    order = {stage: place for place, stage in enumerate(stages)}
    names = [n for n in last if n in order or last[n][0] == max(evaluated)]
    names.sort(key=lambda name: (order.get(name, len(order)), name))
    chosen = [_stage_responses(name, *last[name], notes) for name in names]
    groups = [group for stage in chosen for group in stage["groups"]]
    _add_problems(folder, groups)
    return chosen


def _stage_responses(stage: str, step: int, path: Path, notes: list[str]) -> Row:
    groups: dict[str, list[Row]] = {}
    for row in read_rows(path, notes):
        groups.setdefault(str(row.get("problem_id")), []).append(row)
    return {
        "stage": stage,
        "step": step,
        "total": sum(map(len, groups.values())),
        "of_groups": len(groups),
        "groups": [_group(name, groups[name]) for name in choose(groups)],
    }


def choose(groups: dict[str, list[Row]], wanted: int = GROUPS) -> list[str]:
    """Groups with right and wrong answers first, one family after the other, as many as wanted."""
    seen: dict[tuple[bool, str], int] = {}
    ranked = []
    for place, (name, rows) in enumerate(groups.items()):
        uniform = len({str(row.get("reward")) for row in rows}) < 2
        family = (uniform, str(rows[0].get("family")))
        seen[family] = seen.get(family, 0) + 1
        ranked.append((uniform, seen[family], place, name))
    return [name for *_, name in sorted(ranked)[:wanted]]


def _group(name: str, rows: list[Row]) -> Row:
    first = rows[0]
    return {
        "problem_id": name,
        "family": first.get("family"),
        "level": first.get("level"),
        "question": _cut(first.get("question"), ANSWER),
        "reference": _cut(first.get("reference"), ANSWER),
        "responses": [_response(row) for row in rows],
    }


def _response(row: Row) -> Row:
    text = str(row.get("text", ""))
    answer = final_part(text)
    thinking = text if answer is None else text[: -len(END_THINK + answer)]
    tokens = row.get("tokens")
    kept = ("sample", "finish", "temperature", "outcome", "reward", "advantage", "weight")
    return {
        **{name: row.get(name) for name in kept},
        "tokens": len(tokens) if isinstance(tokens, list) else tokens,
        "thinking": _cut(thinking, THINKING),
        "answer": _cut(answer, ANSWER),
        "extracted": _cut(row.get("extracted"), ANSWER),
        "detail": _cut(row.get("detail"), ANSWER),
    }


def _cut(text: Any, limit: int) -> str | None:
    """The text without its middle when it is longer than `limit` characters."""
    if text is None or text == "":
        return None
    whole = str(text)
    if len(whole) <= limit:
        return whole
    head, tail = whole[: limit * 2 // 3], whole[-(limit // 3) :]
    return f"{head}\n\n[… {len(whole) - len(head) - len(tail):,} characters left out …]\n\n{tail}"


def _add_problems(folder: Path, groups: list[Row]) -> None:
    """Fill in questions and references from the run's own problems; other records are passed."""
    wanted: dict[str, list[Row]] = {}
    for group in groups:
        wanted.setdefault(group["problem_id"], []).append(group)
    for path in sorted((folder / "data").glob("*.jsonl")):
        for row in read_rows(path, []):
            if "id" not in row or "question" not in row:
                break
            for group in wanted.get(str(row["id"]), []):
                group["question"] = group["question"] or _cut(row["question"], ANSWER)
                group["reference"] = group["reference"] or _cut(row.get("answer"), ANSWER)


def _read_object(path: Path, notes: list[str]) -> Row | None:
    try:
        value = _decode(path.read_bytes())
    except OSError as error:
        notes.append(_unreadable(path, error))
        return None
    if not isinstance(value, dict):
        notes.append(f"{path.name}: not a JSON object; it is left out")
        return None
    return value


def _unreadable(path: Path, error: OSError) -> str:
    missing = isinstance(error, FileNotFoundError)
    return f"{path.name} is not there" if missing else f"{path.name}: {error.strerror}"


def _decode(data: bytes) -> Any:
    """The JSON value, or None; bytes that are not UTF-8 become U+FFFD."""
    try:
        return msgspec.json.decode(data.decode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return None
