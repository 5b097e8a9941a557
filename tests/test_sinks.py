"""Sinks: the numbers that arrive are the run's, and no failure of a sink reaches the run."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_run
from acereason import config, runs, sinks
from acereason.errors import ConfigError
from acereason.sinks import Feed, Place, flatten, prefix
from commands import write_recipe

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("funnel", {"step": 0, "name": "dedup exact", "before": 400, "after": 390, "reasons": {"near": 10}}),
    ("sft", {"step": 1, "stage": "sft", "loss": 2.5, "gradient_norm": None, "seconds": {"total": 0.25}}),
    ("rl", {"step": 2, "stage": "math", "reward": 0.5, "length": {"mean": 12.0, "p95": 20.0}, "T": 0.85}),
    ("calibration", {"step": 2, "stage": "code", "T": 0.9, "points": [{"T": 0.6, "H": 0.2}]}),
    ("evaluation", {"step": 2, "stage": "math", "benchmark": "math", "accuracy": 0.25, "n": 6}),
    ("evaluation", {"step": 2, "stage": "sft", "epoch": 1, "benchmark": "math", "accuracy": 0.125}),
]
EXPECTED = {
    ("funnel/dedup exact/after", 0): 390.0,
    ("funnel/dedup exact/reasons/near", 0): 10.0,
    ("sft/loss", 1): 2.5,
    ("sft/seconds/total", 1): 0.25,
    ("rl/length/mean", 2): 12.0,
    ("rl/reward", 2): 0.5,
    ("calibration/code/T", 2): 0.9,
    ("evaluation/math/accuracy", 2): 0.25,
    ("evaluation/epoch/math/accuracy", 2): 0.125,
}


def place(folder: Path) -> Place:
    return Place(folder, "tiny", tiny_run.RECIPE)


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], float] = {}
        self.closed = False

    def write(self, values: Mapping[str, float], step: int) -> None:
        self.values |= {(name, step): value for name, value in values.items()}

    def close(self) -> None:
        self.closed = True


names = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.integers(-(2**50), 2**50)
nested = st.dictionaries(
    names, st.recursive(numbers, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
)


@given(nested)
def test_flattened_paths_lead_back_to_every_number(data: dict[str, Any]) -> None:
    flat = dict(flatten(data))

    def leaves(value: Any) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) else 1

    assert len(flat) == leaves(data)
    for path, number in flat.items():
        value: Any = data
        for key in path.split("/"):
            value = value[key]
        assert float(value) == number


def test_what_is_not_a_finite_number_is_left_out() -> None:
    row = {"a": None, "b": "x", "c": [1], "d": float("nan"), "e": float("inf"), "f": {"g": 1}}
    assert dict(flatten(row, "rl")) == {"rl/f/g": 1.0}
    assert prefix("evaluation", {"benchmark": "code", "epoch": 2}) == "evaluation/epoch/code"


def test_a_run_feeds_its_rows(tmp_path: Path) -> None:
    kept = Kept()
    feed = Feed("tensorboard", place(tmp_path), lambda _place, _step: kept)
    with runs.create(tmp_path / "run", config.parse(tiny_run.RECIPE)) as run:
        run.listen(feed)
        run.record("start", seconds={})
        for kind, row in ROWS:
            run.record(kind, **row)
        feed.close()
    assert kept.closed and EXPECTED.items() <= kept.values.items()
    assert len((tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()) == len(ROWS) + 1


def tensorboard_values(folder: Path) -> dict[tuple[str, int], float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "sinks" / "tensorboard"))
    events.Reload()
    return {
        (tag, scalar.step): scalar.value for tag in events.Tags()["scalars"] for scalar in events.Scalars(tag)
    }


def test_tensorboard_holds_the_numbers_and_forgets_steps_done_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    feed = Feed("tensorboard", place(tmp_path))
    for kind, row in ROWS:
        feed(kind, row)
    feed("rl", {"step": 3, "reward": 0.75})
    feed.close()
    values = tensorboard_values(tmp_path)
    assert {key: pytest.approx(value) for key, value in EXPECTED.items()}.items() <= values.items()
    time.sleep(1.1)  # event files are named and ordered by whole seconds
    again = Feed("tensorboard", place(tmp_path))
    again("rl", {"step": 2, "reward": 0.125})
    again.close()
    values = tensorboard_values(tmp_path)
    assert values["rl/reward", 2] == 0.125 and ("rl/reward", 3) not in values


def test_a_resumed_run_keeps_what_came_before_in_the_same_step(tmp_path: Path) -> None:
    """Killed in step 3, back to the checkpoint between two stages: what step 2 brought stays, step 3 goes."""
    pytest.importorskip("tensorboard")
    recipe = config.parse(tiny_run.RECIPE)
    with runs.create(tmp_path / "run", recipe) as run:
        run.listen(feed := Feed("tensorboard", place(tmp_path / "run")))
        run.record("start", step=0, seconds={})
        for kind, row in ROWS:
            run.record(kind, **row)
        size, _ = run.mark()
        run.record("rl", step=3, reward=0.75)
        feed.close()
    time.sleep(1.1)  # event files are named and ordered by whole seconds
    with runs.resume(tmp_path / "run") as run:
        run.listen(feed := Feed("tensorboard", place(tmp_path / "run")))
        run.rewind(size, 2)
        run.record("start", step=2, seconds={})
        run.record("calibration", step=2, stage="later", T=0.7)
        feed.close()
    values = tensorboard_values(tmp_path / "run")
    assert {key: pytest.approx(value) for key, value in EXPECTED.items()}.items() <= values.items()
    assert ("rl/reward", 3) not in values and values["calibration/later/T", 2] == pytest.approx(0.7)


class Broken(Kept):
    def __init__(self, where: str, error: type[BaseException]):
        super().__init__()
        self.where, self.error = where, error

    def fail(self, where: str) -> None:
        if where == self.where:
            raise self.error(f"no {where}")

    def write(self, values: Mapping[str, float], step: int) -> None:
        self.fail("write")

    def close(self) -> None:
        self.fail("close")


@pytest.mark.parametrize("where", ["open", "write", "close"])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_sink_that_fails_is_one_warning(
    where: str, error: type[BaseException], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken(where, error)

    def make(_place: Place, _step: int) -> Broken:
        broken.fail("open")
        return broken

    feed = Feed("wandb", place(tmp_path), make)
    with caplog.at_level(logging.WARNING):
        for step in range(50):
            feed("rl", {"step": step, "reward": 0.5})
        feed.close()
    assert not feed._thread.is_alive()  # nobody waits for a sink that is dead
    assert [r.message for r in caplog.records] == [
        f"the sink wandb failed and gets no more rows: {error.__name__}: no {where}. The run goes on; "
        "metrics.jsonl has everything"
    ]


def test_a_sink_that_hangs_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "WAITING", 4)
    monkeypatch.setattr(sinks, "PATIENCE", 0.1)
    release = threading.Event()

    class Hanging(Kept):
        def write(self, values: Mapping[str, float], step: int) -> None:
            release.wait(60)

    feed = Feed("wandb", place(tmp_path), lambda _place, _step: Hanging())
    with caplog.at_level(logging.WARNING):
        for step in range(1000):
            feed("rl", {"step": step, "reward": 0.5})
        feed.close()
    release.set()
    assert len(caplog.records) == 1 and "too slow" in caplog.records[0].message


def test_unknown_and_uninstalled_sinks_are_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="known: mlflow, tensorboard, trackio, wandb"):
        sinks.check(["tensorbord"])
    monkeypatch.setattr(sinks.importlib.util, "find_spec", lambda _: None)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"pip install 'acereason\[wandb\]'"):
        sinks.check(["wandb"])


def test_the_command_line_names_the_known_sinks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "acereason.cli", "demo", "--out", str(tmp_path / "run"), "--sink", "x"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 2 and "tensorboard" in shown.stderr and not (tmp_path / "run").exists()


def test_a_whole_run_feeds_tensorboard_and_standard_output(tmp_path: Path) -> None:
    """`--json` gives metrics.jsonl's rows and the summary, TensorBoard has reward and loss of every step."""
    pytest.importorskip("tensorboard")
    recipe, out = write_recipe(tmp_path), tmp_path / "run"
    command = [sys.executable, "-m", "acereason.cli", "run", str(recipe), "--out", str(out)]
    shown = subprocess.run(
        [*command, "--json", "--sink", "tensorboard"], capture_output=True, text=True, timeout=240
    )
    assert shown.returncode == 0, shown.stderr
    *rows, summary = map(json.loads, shown.stdout.splitlines())
    assert rows == list(runs.read_metrics(out))
    assert summary == {"kind": "summary", **json.loads((out / "summary.json").read_text())}
    values = tensorboard_values(out)
    for row in rows:
        if row["kind"] in ("rl", "sft"):
            name = "reward" if row["kind"] == "rl" else "loss"
            assert values[f"{row['kind']}/{name}", row["step"]] == pytest.approx(row[name], rel=1e-6)


FEEDER = """
import json, sys
from pathlib import Path
from acereason.sinks import Feed, Place
name, folder, rows = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
feed = Feed(name, Place(folder, "tiny", {"seed": 1}))
for kind, row in rows:
    feed(kind, row)
feed.close()
"""
# An offline run's file: 7 bytes, then a LevelDB log (blocks of 32 KiB; checksum, length, kind, then a part).
WANDB_VALUES = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2 as pb
data = open(sys.argv[1], "rb").read()
at, whole = 7, b""
while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    _, length, kind = struct.unpack("<IHB", data[at : at + 7])
    whole += data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):
        record = pb.Record()
        record.ParseFromString(whole)
        whole = b""
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            print(json.dumps({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}))
"""
TRACKIO_VALUES = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps(SQLiteStorage.get_logs("acereason", sys.argv[1])))
"""


@pytest.fixture(scope="module")
def their_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment of their own, since wandb and trackio bring 60 packages; ACEREASON_SINKS_PYTHON names a
    ready one."""
    if ready := os.environ.get("ACEREASON_SINKS_PYTHON"):
        return ready
    folder = tmp_path_factory.mktemp("sinks-venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = str(folder / "bin" / "python")
    packages = ["wandb", "trackio", "msgspec"]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, timeout=280)
    return python


def theirs(python: str, code: str, *arguments: str, **environment: str) -> str:
    source = str(Path(sinks.__file__).parents[1])
    shown = subprocess.run(
        [python, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": source, **environment},
    )
    assert shown.returncode == 0 and "the sink" not in shown.stderr, shown.stderr
    return shown.stdout


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_wandb_offline_holds_the_numbers(their_python: str, tmp_path: Path) -> None:
    theirs(
        *(their_python, FEEDER, "wandb", str(tmp_path), json.dumps(ROWS)),
        WANDB_MODE="offline",
        HOME=str(tmp_path),
    )
    (file,) = (tmp_path / "sinks" / "wandb").glob("offline-run-*/*.wandb")
    found = [json.loads(line) for line in theirs(their_python, WANDB_VALUES, str(file)).splitlines()]
    values = {(name, row["step"]): value for row in found for name, value in row.items()}
    assert EXPECTED.items() <= values.items()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_trackio_offline_holds_the_numbers(their_python: str, tmp_path: Path) -> None:
    home = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    theirs(their_python, FEEDER, "trackio", str(tmp_path), json.dumps(ROWS), **home)
    found = json.loads(theirs(their_python, TRACKIO_VALUES, place(tmp_path).id, **home))
    values = {(name, row["step"]): value for row in found for name, value in row.items()}
    assert EXPECTED.items() <= values.items()
