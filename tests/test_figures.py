"""The README's table and picture are those of docs/demo.json: `make figures` makes all three."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from acereason import config

DOCS = Path(__file__).parents[1] / "docs"


def figures() -> Any:
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_and_pictures_are_of_the_same_runs() -> None:
    made, told = figures(), json.loads((DOCS / "demo.json").read_text())
    readme = (DOCS.parent / "README.md").read_text()
    assert made.with_table(readme, told) == readme
    assert told["recipe_sha256"][:8] in readme
    for theme in ("light", "dark"):
        assert (DOCS / f"demo-{theme}.svg").read_text() == made.picture(told, theme)


def test_the_demo_still_has_the_settings_of_the_runs_that_are_shown() -> None:
    made, told = figures(), json.loads((DOCS / "demo.json").read_text())
    demo = config.load(DOCS.parent / "src/acereason/recipes/demo.toml")
    now = json.loads(json.dumps(config.resolved(demo)))
    assert list(made.changed(told["settings"], now)) == []
    now["sft"]["epochs"] = now["stage"][1]["budget"] = -1
    assert list(made.changed(told["settings"], now)) == ["sft.epochs", "stage[1].budget"]
