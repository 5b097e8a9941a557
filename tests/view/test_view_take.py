"""A run taken along: as data frames, and as a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import acereason
from acereason.errors import ConfigError, RunError
from acereason.evaluate.estimates import boundary_safe
from acereason.frames import flat
from acereason.view.plot import figure
from view_run import make_run


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_run_is_tables(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "rl", "step"')  # torn
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[:-1]]
    tables: dict[str, Any] = acereason.load_run(folder, library)
    for kind in {row["kind"] for row in rows}:
        own = [row for row in rows if row["kind"] == kind]
        assert len(tables[kind]) == len(own), kind
    own = [row for row in rows if row["kind"] == "rl"]
    assert list(tables["rl"]["length.mean"]) == [row["length"]["mean"] for row in own]
    assert list(tables["rl"]["step"]) == [row["step"] for row in own]
    assert {"stage", "step", "outcome", "text"} <= set(tables["responses"].columns)
    assert "responses" not in acereason.load_run(folder, library, responses=False)


def test_nested_quantities_are_columns_with_a_dot() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}


def test_no_run_and_no_library_are_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        acereason.load_run(tmp_path)
    folder = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="polars, pandas"):
        acereason.load_run(folder, "numpy")


def test_a_figure_holds_every_run_and_panel(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "a & b"), make_run(tmp_path / "second")]
    svg = figure(folders)
    root = ElementTree.fromstring(svg)
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Reward", "Truncated share", "a & b", "second"} <= set(texts)
    lines = [n for n in root.iter("{http://www.w3.org/2000/svg}path") if len(n.get("d", "")) > 500]
    assert len(lines) == 8 and "nan" not in svg
    with pytest.raises(ConfigError, match="--panel"):
        figure(folders, ("no_such_quantity",))


def test_intervals_of_shares_are_no_points_at_the_ends() -> None:
    assert boundary_safe(0.0, 0.0, 24)[0] == 0.0
    assert boundary_safe(0.0, 0.0, 24)[1] == pytest.approx(0.138, abs=5e-4)
    assert boundary_safe(1.0, 0.0, 24)[0] == pytest.approx(1 - 0.138, abs=5e-4)
    low, high = boundary_safe(0.5, 0.01, 5000, 1)  # far from the ends it is the usual one
    assert [low, high] == pytest.approx([0.4804, 0.5196], abs=1e-3)
