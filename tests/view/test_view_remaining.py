"""What is left of a run, over all its stages."""

from __future__ import annotations

from typing import Any

from acereason.view.remaining import remaining


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "steps": 10, "prompts": 4, "group": 8, "budget": 100, **more}


def test_later_stages_count_by_their_tokens() -> None:
    recipe = {"stage": [stage("a"), stage("b", budget=200), stage("c", group=[8, 16], steps=5)]}
    found = remaining(recipe, "a", 4, None, 2.0)
    assert found["seconds_left"] == 6 * 2.0
    assert found["run_left"] == 6 * 2.0 + 10 * 4.0 + 5 * 4.0
    assert (found["number"], found["of"], found["steps"], found["untimed"]) == (1, 3, 10, 0)
    assert remaining(recipe, "c", 5, None, 2.0)["run_left"] == 0


def test_fine_tuning_knows_its_own_steps_and_nothing_of_what_follows() -> None:
    recipe = {"stage": [stage("a"), stage("b")]}
    found = remaining(recipe, "sft", 30, 100, 0.5)
    assert (found["seconds_left"], found["run_left"], found["untimed"]) == (35.0, 35.0, 2)
    assert "run_left" not in remaining(recipe, "sft", 30, None, 0.5)
    assert "run_left" not in remaining(recipe, "a", 3, None, None)


def test_damaged_recipes_are_no_error() -> None:
    nothing: list[dict[str, Any]] = [{}, {"stage": None}, {"stage": 3}, {"stage": [1]}]
    for recipe in nothing:
        assert remaining(recipe, "a", 1, None, 1.0) == {"steps": None}
    assert "run_left" not in remaining({"stage": [{"name": "a", "steps": "x"}]}, "a", 1, None, 1.0)
    odd = {"stage": [stage("a"), stage("b", budget="x")]}
    assert remaining(odd, "a", 0, None, 1.0)["untimed"] == 1
