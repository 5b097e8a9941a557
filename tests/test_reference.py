"""Every key of a recipe has its meaning, every meaning its key, and docs/recipe.md is what is generated."""

from __future__ import annotations

from pathlib import Path

import pytest

from acereason import reference
from acereason.errors import ConfigError


def test_each_key_is_explained() -> None:
    keys = [entry.key for entry in reference.entries()]
    assert len(set(keys)) == len(keys)
    assert set(keys) - reference.meanings() == set(), "without a meaning in keys.toml"
    assert reference.meanings() - set(keys) == set(), "explained, but no key"
    for entry in reference.entries():
        assert entry.meaning and entry.origin.split(":")[0].split(" ")[0] in {"published", "later", "ours"}
        assert reference.find(entry.key)[0] == entry


def test_stages_and_sections_are_found_by_name() -> None:
    assert [e.key for e in reference.find("stage.math-long.budget")] == ["stage.budget"]
    assert [e.key for e in reference.find("curate.tasks.math.families")] == ["curate.tasks.families"]
    assert {e.key for e in reference.find("keep")} == {"keep.checkpoints", "keep.responses"}
    with pytest.raises(ConfigError, match=r"sft\.epochs"):
        reference.find("sft.epoch")


def test_the_document_is_up_to_date() -> None:
    document = Path(__file__).parents[1] / "docs" / "recipe.md"
    assert document.read_text() == reference.markdown(), "run `make reference`"
