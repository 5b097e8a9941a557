"""Following metrics: every whole line once, whatever the writer, a kill or a rewind does to the file."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.view.columns import Columns
from acereason.view.data import Reader
from acereason.view.tail import CHUNK, Tail
from view_run import lines, make_run, metric_rows

ROWS = [
    {"kind": "rl", "step": step, "reward": step / 7, "text": 'ü\u2028"' * (step % 3)} for step in range(40)
]


def read(tail: Tail) -> list[dict[str, Any]]:
    return [row for rows in tail.read() for row in rows]


@given(st.lists(st.integers(1, 400), max_size=30))
@settings(deadline=None)
def test_pieces_of_any_size_give_every_row_once(sizes: list[int]) -> None:
    data = lines(ROWS).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        tail, found, at = Tail(path), [], 0
        for size in [*sizes, len(data)]:
            with path.open("ab") as file:
                file.write(data[at : at + size])
            at += size
            found += read(tail)
            assert tail.torn == (not path.read_bytes().endswith(b"\n"))
        assert found == ROWS and not tail.broken


@given(st.integers(1, 39), st.integers(0, 39))
@settings(deadline=None)
def test_a_rewound_file_is_read_anew(cut: int, more: int) -> None:
    """Even when it has grown beyond the old place again before it is looked at."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_text(lines(ROWS))
        tail = Tail(path)
        read(tail)
        again = ROWS[:cut] + [{**row, "seconds": 1.5} for row in ROWS[cut : cut + more]]
        with path.open("r+") as file:  # the same file, as a resumed run cuts it
            file.truncate(0)
            file.write(lines(again))
        assert read(tail) == again and tail.generation == 1


def test_a_replaced_file_is_read_anew_and_a_missing_one_is_said(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert read(tail) == [] and tail.notes() == ["metrics.jsonl is not there"]
    path.write_text(lines(ROWS[:3]))
    assert read(tail) == ROWS[:3]
    path.unlink()
    assert read(tail) == [] and tail.notes() == ["metrics.jsonl is not there"]
    path.write_text(lines(ROWS[:3]))
    assert read(tail) == ROWS[:3] and tail.notes() == []


def test_a_line_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    long = {"kind": "rl", "step": 1, "text": "x" * (3 * CHUNK)}
    path.write_text(lines([ROWS[0], long, ROWS[2]]))
    assert read(Tail(path)) == [ROWS[0], long, ROWS[2]]


def test_broken_lines_are_numbered_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n\n[1]\n{"b": "\xff"}\nno\n{"c":')
    tail = Tail(path)
    assert [row for row in read(tail) if row] == [{"a": 1}, {"b": "\ufffd"}]
    assert tail.broken == [3, 5] and tail.torn


NUMBERS = st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False)
VALUES = NUMBERS | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
TABLE = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(0, 30)},
        optional={
            "stage": st.sampled_from(["a", "b"]),
            "x": VALUES,
            "y": VALUES | st.dictionaries(st.sampled_from("pq"), NUMBERS, max_size=2),
        },
    ),
    max_size=40,
)


def naive(rows: list[dict[str, Any]], name: str) -> list[float | None]:
    """The numbers of one quantity, row by row: what `Columns` must hold without thinning."""
    by_step = {row["step"]: row for row in rows}
    found: list[float | None] = []
    for step in sorted(by_step):
        value: Any = by_step[step]
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        try:
            number = float(value) if isinstance(value, int | float) else math.nan
        except OverflowError:
            number = math.nan
        found.append(float(f"{number:.6g}") if math.isfinite(number) else None)
    return found


@given(st.lists(TABLE, max_size=4))
@settings(deadline=None)
def test_columns_hold_what_the_rows_say(batches: list[list[dict[str, Any]]]) -> None:
    columns = Columns()
    for batch in batches:
        columns.append(batch)
    rows = [row for batch in batches for row in batch]
    thin = columns.thinned(1000)
    for name in set(thin) & {"x", "y", "y.p", "y.q"}:
        if not any(isinstance(value, str) for value in thin[name]):
            assert thin[name] == naive(rows, name), name


def test_thinning_keeps_means_maxima_and_stages() -> None:
    columns = Columns()
    stages = ["a"] * 3501 + ["b"] * 6499
    random = np.random.default_rng(0)
    reward, spike = random.random(10_000), random.random(10_000)
    columns.append(
        [
            {"step": 5 + n, "stage": stages[n], "reward": float(reward[n]), "d": {"max": float(spike[n])}}
            for n in range(10_000)
        ]
    )
    thin = columns.thinned(100)
    assert len(thin["step"]) == 101  # one more, so that no point spans two stages
    ends = [step - 5 for step in thin["step"]]
    assert ends[-1] == 9999 and 3500 in ends
    starts = [0, *(end + 1 for end in ends[:-1])]
    for n, (start, end) in enumerate(zip(starts, ends, strict=True)):
        assert thin["reward"][n] == float(f"{reward[start : end + 1].mean():.6g}")
        assert thin["d.max"][n] == float(f"{spike[start : end + 1].max():.6g}")
        assert thin["stage"][n] == stages[start]


def test_a_page_read_in_slices_is_the_page_read_at_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = metric_rows(np.random.default_rng(1))
    (folder / "metrics.jsonl").write_text(lines(rows))
    whole, slow = Reader(folder), Reader(folder)
    whole.advance()
    (folder / "metrics.jsonl").write_text("")
    for start in range(0, len(rows), 7):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(lines(rows[start : start + 7]))
        slow.advance(0.0 if start == 0 else 10.0)
    pages = [whole.page(), slow.page()]
    for page in pages:
        del page["version"]
    assert json.dumps(pages[0]) == json.dumps(pages[1])
