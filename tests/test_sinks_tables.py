"""Responses as tables: bounded, under their columns, and whole in the real libraries where these are."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from acereason import config, runs, sinks
from acereason.sinks import COLUMNS, ROLLOUTS, TEXT, Feed, Place

ANSWERS: list[dict[str, Any]] = [
    {"problem_id": f"p{i // 4}", "sample": i % 4, "outcome": "correct", "reward": 1, "advantage": 0.5 - i % 2,
     "tokens": [1, 2, 3], "finish": "stop", "text": "=1+1 <b>é</b> " + "x" * 20, "extracted": None}
    for i in range(100)
]  # fmt: skip


class Tables:
    """A sink in memory."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, int], list[Sequence[Any]]] = {}

    def write(self, values: Mapping[str, float], step: int) -> None:
        return

    def table(self, name: str, rows: Sequence[Sequence[Any]], step: int) -> None:
        self.tables[name, step] = list(rows)

    def close(self) -> None:
        return


class Plain:
    """A sink without tables."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        return

    def close(self) -> None:
        return


def fed(folder: Path, sink: Any, rows: list[dict[str, Any]]) -> None:
    feed = Feed("wandb", Place(folder, "tiny", {}), lambda *_: sink)
    with runs.create(folder / "run", config.parse(tiny_run.RECIPE)) as run:
        run.listen(feed)
        run.listen_to_responses(feed.responses)
        run.record("start", step=0, seconds={})
        run.write_responses("math", 3, iter(rows))
        feed.close()


def test_the_first_responses_of_a_step_are_a_table(tmp_path: Path) -> None:
    sink = Tables()
    fed(tmp_path, sink, [*ANSWERS[:2], ANSWERS[2] | {"text": "y" * 3 * TEXT}, *ANSWERS[3:]])
    rows = sink.tables["rollouts/math", 3]
    assert len(rows) == ROLLOUTS and all(len(row) == len(COLUMNS) for row in rows)
    first = dict(zip(COLUMNS, rows[0], strict=True))
    assert (first["step"], first["problem_id"], first["tokens"], first["advantage"]) == (3, "p0", 3, 0.5)
    assert first["extracted"] is None and len(rows[2][-1]) == TEXT
    kept = (tmp_path / "run" / "responses" / "math-000003.jsonl").read_text().splitlines()
    assert len(kept) == 100 and json.loads(kept[99])["problem_id"] == "p24"


def test_a_sink_without_tables_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fed(tmp_path, Plain(), ANSWERS)
    assert not caplog.records


FEEDER = """
import json, sys
from pathlib import Path
from acereason import sinks
from acereason.sinks import Feed, Place
sinks.PATIENCE = 200.0  # a busy machine imports them slowly
feed = Feed(sys.argv[1], Place(Path(sys.argv[2]), "tiny", {"a": 1}))
feed("start", {"step": 0})
feed("rl", {"step": 1, "reward": 0.5, "length": {"mean": 12.0}, "odd@name": 1})
feed.responses("math", 1, json.loads(sys.argv[3]))
feed.responses("math", 2, json.loads(sys.argv[3])[:1])
feed.close()
"""
MLFLOW = """
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
(run,) = client.search_runs(["1"])
table = json.load(open(client.download_artifacts(run.info.run_id, "rollouts/math/000001.json")))
print(json.dumps([run.data.metrics, table, run.info.status]))
"""
TRACKIO = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps(SQLiteStorage.get_logs("acereason", sys.argv[1]), default=str))
"""


def theirs(code: str, *arguments: str, **environment: str) -> str:
    python = os.environ.get("ACEREASON_SINKS_PYTHON")
    if python is None:
        pytest.skip("ACEREASON_SINKS_PYTHON names no Python with wandb, trackio, mlflow and pandas")
    path = str(Path(sinks.__file__).parents[1])
    command = [python, "-c", code, *arguments]
    told = {**os.environ, "PYTHONPATH": path, **environment}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=250, env=told)
    assert shown.returncode == 0 and "the sink" not in shown.stderr, shown.stderr
    return shown.stdout


@pytest.mark.slow
def test_mlflow_holds_numbers_and_tables(tmp_path: Path) -> None:
    theirs(FEEDER, "mlflow", str(tmp_path), json.dumps(ANSWERS), HOME=str(tmp_path))
    found = theirs(MLFLOW, f"sqlite:///{tmp_path}/sinks/mlflow.db", HOME=str(tmp_path))
    metrics, table, status = json.loads(found.splitlines()[-1])
    assert metrics == {"rl/reward": 0.5, "rl/length/mean": 12.0, "rl/odd_name": 1.0, "rl/step": 1.0}
    assert table["columns"] == list(COLUMNS) and len(table["data"]) == ROLLOUTS and status == "FINISHED"
    assert table["data"][0][-1] == ANSWERS[0]["text"]


@pytest.mark.slow
def test_wandb_offline_holds_tables(tmp_path: Path) -> None:
    theirs(FEEDER, "wandb", str(tmp_path), json.dumps(ANSWERS), WANDB_MODE="offline", HOME=str(tmp_path))
    files = sorted((tmp_path / "sinks" / "wandb").glob("offline-run-*/files/media/table/rollouts/*.json"))
    sizes = sorted(len(json.loads(file.read_text())["data"]) for file in files)
    assert sizes == [1, ROLLOUTS]
    assert json.loads(files[0].read_text())["columns"] == list(COLUMNS)


@pytest.mark.slow
def test_trackio_offline_holds_tables(tmp_path: Path) -> None:
    home = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    theirs(FEEDER, "trackio", str(tmp_path), json.dumps(ANSWERS), **home)
    found = json.loads(theirs(TRACKIO, Place(tmp_path, "tiny", {}).id, **home).splitlines()[-1])
    tables = [row["rollouts/math"] for row in found if "rollouts/math" in row]
    assert len(tables) == 2 and "trackio.table" in json.dumps(tables[0])
