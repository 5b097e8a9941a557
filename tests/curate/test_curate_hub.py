"""Hub ids, through the real client of huggingface_hub, from a hub that runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_hub import Hub, running

pytest.importorskip("huggingface_hub", reason="pip install acereason[hub]")
pytest.importorskip("pyarrow")

OLD, NEW = "a" * 40, "b" * 40
ROWS = [{"problem": f"Mary has {i} apples and buys {i * i} more. How many?", "answer": str(i + i * i)}
        for i in range(2, 8)]  # fmt: skip
FILES = {
    ("nvidia/AceReason-Math", OLD): {"train.jsonl": ROWS[:3], "README.md": []},
    ("nvidia/AceReason-Math", NEW): {"train.jsonl": ROWS, "README.md": []},
    ("me/bench", NEW): {"test.jsonl": [{"problem": ROWS[0]["problem"]}]},
}


def content(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """`main` is the new commit, the tag `v1` the old one."""
    commits = {place: {name: content(rows) for name, rows in files.items()} for place, files in FILES.items()}
    with running(commits, {"main": NEW, "v1": OLD}) as server:
        yield server


def recipe(folder: Path, revision: str = "", name: str = "nvidia/AceReason-Math") -> Path:
    path = folder / "curation.toml"
    path.write_text(
        f'[[sources]]\nname = "acereason-math"\npath = "{name}"\ncheck_rows = false\n{revision}\n'
        '[[benchmarks]]\nname = "bench"\npath = "me/bench"\n'
        '[rl]\nstages = [{ name = "all" }]\n'
    )
    return path


def curate(port: int, folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """`acereason curate` in a process of its own: the client reads its address when it is imported."""
    hidden = ("HF_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "acereason.cli", "curate", str(path), "--out", str(folder / "out")],
        capture_output=True, text=True, env=environment, timeout=200, check=False,
    )  # fmt: skip


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "manifest.json").read_text())
    return found


def test_a_set_and_a_benchmark_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    """Downloaded once, the commit named in the manifest and the card; later without any hub."""
    path = recipe(tmp_path)
    done = curate(hub.server_address[1], tmp_path, path)
    assert done.returncode == 0, done.stderr
    told = manifest(tmp_path)
    assert [(o["name"], o["commit"]) for o in told["origins"]] == [("acereason-math", NEW), ("bench", NEW)]
    assert list(told["origins"][0]["files"]) == ["train.jsonl"]
    assert told["files"]["rl/all.parquet"]["rows"] == len(ROWS) - 1  # one leaked into the benchmark
    assert NEW in (tmp_path / "out" / "README.md").read_text()
    fetched = [asked for asked in hub.asked if asked.startswith("GET") and "/resolve/" in asked]
    assert len(fetched) == 2 and not any("README" in asked for asked in hub.asked)
    hub.shutdown()
    hub.server_close()
    again = curate(hub.server_address[1], tmp_path, path)
    assert again.returncode == 0, again.stderr
    assert manifest(tmp_path) == told


def test_a_pinned_revision_is_what_is_read(hub: Hub, tmp_path: Path) -> None:
    for revision in ("v1", OLD):
        folder = tmp_path / revision
        folder.mkdir()
        done = curate(hub.server_address[1], folder, recipe(folder, f'revision = "{revision}"'))
        assert done.returncode == 0, done.stderr
        assert manifest(folder)["origins"][0]["commit"] == OLD
        assert manifest(folder)["files"]["rl/all.parquet"]["rows"] == 2


def test_an_id_that_the_hub_does_not_have_is_named(hub: Hub, tmp_path: Path) -> None:
    done = curate(hub.server_address[1], tmp_path, recipe(tmp_path, name="nvidia/Other"))
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "nvidia/Other: no such file or folder here" in said and "Traceback" not in said
