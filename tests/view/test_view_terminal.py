"""What a run shows while it goes on: the live table, lines, JSON lines; the numbers are the row's."""

from __future__ import annotations

import io
import json
import statistics
from itertools import groupby, pairwise
from typing import Any

import pytest
from rich.console import Console

from acereason.progress import duration, typical
from acereason.view.terminal import steps
from acereason.view.terminal.steps import Lines, Pace, Rows, Screen, cells, display, line
from acereason.view.terminal.summary import table
from recorded import recorded


def rl(step: int, stage: str = "math-8k", total: float = 2.0, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "stage": stage,
        "reward": 0.4375,
        "H_T": 0.3125,
        "H_target": 0.3,
        "T": 0.85,
        "tokens": 9000,
        "truncated": 0.25,
        "length": {"mean": 2812.5},
        "seconds": {"sample": 1.25, "learn": 0.5, "total": total},
        **more,
    }


def sft(step: int) -> dict[str, Any]:
    return {"step": step, "stage": "sft", "loss": 2.125, "tokens": 500, "seconds": {"total": 0.5}}


def test_cells_hold_the_row() -> None:
    assert cells(rl(7), 3725.0) == [
        *("math-8k", "7", "0.438", "0.312", "0.30", "0.850", "4,500", "2,812", "25%", "1.2", "0.5"),
        "1:02:05",
    ]
    assert cells(sft(3), None)[:3] == ["sft", "3", "loss 2.125"]
    assert cells(rl(1, H_target=None, total=0.0), None)[4:7:2] == ["–", "–"]


def test_a_line_names_what_it_shows() -> None:
    text = line(rl(7), 65.0)
    for part in ("math-8k  step 7  reward 0.438", "H_T 0.312  target 0.30  T 0.850", "cut 25%", "ETA 1:05"):
        assert part in text
    assert "target" not in line(rl(7, H_target=None), None) and "ETA" not in line(rl(7), None)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "–"), (0.4, "0 s"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00")]
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_eta_is_the_stages_and_a_slow_step_hardly_moves_it() -> None:
    pace = Pace(total=20, done=4)
    assert pace.eta is None
    for seconds in (2.0, 2.0, 100.0):
        pace.took(seconds)
    assert pace.eta == (20 - 7) * 2.0


def terminal(width: int = 150) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=40, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_screen_shows_the_last_steps_and_one_row_for_a_finished_stage() -> None:
    console = terminal()
    with Screen(console) as screen:
        with screen.task("sft", 20) as advance:
            for step in range(1, 21):
                screen.row("sft", sft(step))
                advance(1, "")
        with screen.task("math-8k", 100) as advance:
            for step in range(21, 41):
                screen.row("rl", rl(step))
                advance(1, "")
            plain = Console(file=io.StringIO(), width=150)
            plain.print(screen.render())
        screen.say("news with [brackets] and more")
    assert isinstance(plain.file, io.StringIO)
    shown = plain.file.getvalue().splitlines()
    rows = [text.split() for text in shown if text.startswith(("sft", "math-8k"))]
    assert [r[1] for r in rows[:-1]] == ["20", *map(str, range(33, 41))]
    assert rows[0][-1] == "done" and rows[-2][-1] == "2:40"  # 80 steps of 2 s
    assert "20/100" in shown[-1]
    assert "news with [brackets] and more" in written(console)


def test_lines_are_one_per_rl_step_and_few_for_sft() -> None:
    console = Console(file=io.StringIO(), width=60)
    with Lines(console) as lines:
        with lines.task("sft", 500) as advance:
            for step in range(1, 501):
                lines.row("sft", sft(step))
                advance(1, "note")
        with lines.task("math-8k", 5) as advance:
            for step in range(501, 506):
                lines.row("rl", rl(step))
                advance(1, "note")
        with lines.task("math-8k: math", 3) as advance:
            for _ in range(3):
                advance(1, "")
        lines.row("evaluation", {"accuracy": 0.5})
        lines.say("math avg@8 [50 %]")
    shown = written(console).splitlines()
    assert sum(s.startswith("math-8k  step") for s in shown) == 5
    assert 2 <= sum(s.startswith("sft") for s in shown) <= 10 and shown[1].startswith("sft  step 500")
    assert shown[-2] == "math-8k: math  3/3  0 s" and shown[-1] == "math avg@8 [50 %]"


def test_json_lines_are_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display(quiet=False, as_json=True)
    with shown, shown.task("x", 2) as advance:
        advance(1, "")
        shown.say("not this")
        shown.row("rl", rl(1))
        shown.row("end", {"seconds": {"total": float("nan")}})
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"kind": "rl", **rl(1)} and last["seconds"]["total"] is None


def test_the_display_fits_where_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(display(False, console=terminal()), Screen)
    assert isinstance(display(False, console=Console(file=io.StringIO())), Lines)
    quiet = display(True)
    assert isinstance(quiet, Rows)
    quiet.row("rl", rl(1))
    quiet.say("nothing")
    assert capsys.readouterr() == ("", "")
    assert len(steps.COLUMNS) == len(cells(rl(1), None))


def stages() -> list[list[float]]:
    """What the steps of each stage of two recorded runs took."""
    rows = [row for name in ("demo-3", "demo-4") for row in recorded(name) if row["kind"] in ("rl", "sft")]
    split = groupby(rows, key=lambda row: row["stage"])
    return [[row["seconds"]["total"] for row in part] for _, part in split]


def test_the_eta_settles_on_recorded_step_times() -> None:
    """How far the end that is told moves from one step to the next, beside the median of the last ten."""
    told: dict[str, list[float]] = {"typical": [], "median of ten": []}
    for times in stages():
        for name, each in (("typical", typical), ("median of ten", lambda t: statistics.median(t[-10:]))):
            ends = [
                sum(times[:done]) + (len(times) - done) * (each(times[:done]) or 0.0)
                for done in range(max(5, len(times) // 10), len(times))
            ]
            told[name] += [abs(b - a) / sum(times) for a, b in pairwise(ends)]
    typically, before = (sorted(told[name]) for name in ("typical", "median of ten"))
    late = 95 * len(typically) // 100
    assert typically[late] < 0.01 and typically[late] < 0.7 * before[late]
    assert typical([]) is None and typical([1.0, 9.0, 2.0]) == 2.0


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_takes_the_columns_that_there_is_room_for(width: int) -> None:
    console = terminal(width)
    more = {"all_right": 0.1, "all_wrong": 0.25, "gradient_norm": 0.5, "lr": 1e-6}
    with Screen(console) as screen, screen.task("math-8k", 100):
        screen.row("rl", rl(7, **more, logprob_difference={"k3": 1e-9}))  # type: ignore[arg-type]
        plain = Console(file=io.StringIO(), width=width)
        plain.print(screen.render())
    assert isinstance(plain.file, io.StringIO)
    head, row = plain.file.getvalue().splitlines()[:2]
    assert len(head.rstrip()) <= width and len(head.split()) == len(row.split())
    assert {"stage", "step", "reward", "ETA"} <= set(head.split())
    assert ("idle" in head and "35%" in row) is (width >= 80)


def test_the_summary_has_avg_and_pass_at_k_side_by_side() -> None:
    gain = {"mean": 0.17, "low": 0.14, "high": 0.2}
    wide = {"2": gain, "8": {"mean": -0.113, "low": -0.148, "high": -0.078}}
    console = Console(file=io.StringIO(), width=100)
    console.print(table({"stages": [], "gain": {"math": gain}, "gain_pass_at_k": {"math": wide}}))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "math  +17.0 points" in said and "math pass@8  -11.3 points  (95 % interval -14.8 to -7.8)" in said
