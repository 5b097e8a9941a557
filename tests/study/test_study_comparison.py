"""The page of the duel: what the records say, differences paired, and what is missing named."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from acereason.study import comparison, findings, plan, spec
from acereason.study.effects import estimate
from acereason.study.records import Record, Results, Training
from acereason.study.spec import Effect
from study_records import drawn

TRUE = {"sft": 0.3, "acereason": 0.5, "dapo": 0.62, "maxrl": 0.5}


@pytest.fixture(scope="module")
def ground() -> plan.Ground:
    return plan.Ground(spec.load_lab(), "full", "test")


def kept(ground: plan.Ground, folder: Path) -> tuple[spec.Study, plan.Plan, dict[tuple[str, int], Record]]:
    """Made-up records of four of the duel's arms; the second seed of maxrl is not there."""
    duel = spec.load("duel")
    planned, results = plan.plan([duel], ground), Results(folder)
    arms: dict[tuple[str, int], Record] = {}
    for (name, seed), one in drawn(TRUE, 3).items():
        key = name, duel.seeds[seed]
        curves = {"entropy": [0.2, 0.4], "reward": [0.5], "length": [9.0], "truncated": [0.0], "T": [1.0]}
        training = {} if name == "sft" else {"rl": Training(7, 2_000_000, curves)}
        found = msgspec.structs.replace(
            one,
            address=planned.arms["duel"][key],
            seed=key[1],
            training=training,
            seconds=100.0,
            wall=0.0 if name == "sft" else 11.0 + seed,
        )
        if key != ("maxrl", duel.seeds[1]):
            results.put(found)
            arms[key] = found
    return duel, planned, arms


def rows(text: str, title: str) -> dict[str, list[list[str]]]:
    """The lines of a table by their first cell."""
    part = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    cells = [
        [c.strip(" *") for c in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"
    ]
    found: dict[str, list[list[str]]] = {}
    for row in cells[2:]:
        found.setdefault(row[0], []).append(row)
    return found


def test_the_page_says_what_the_records_say(ground: plan.Ground, tmp_path: Path) -> None:
    duel, planned, arms = kept(ground, tmp_path)
    text = comparison.page(duel, planned, ground, Results(tmp_path))
    standing, raw = rows(text, "How each arm stands"), rows(text, "Every seed")
    assert set(standing) == set(TRUE) and len(raw["dapo"]) == 3 and len(raw["maxrl"]) == 2
    for name in TRUE:
        own = [r for (n, _), r in arms.items() if n == name]
        rights = [np.array(r.outcomes["rl"]["math"].right) for r in own]
        (row,) = standing[name]
        accuracy = 100 * np.mean([right.mean() / 8 for right in rights])
        solved = 100 * np.mean([(right > 0).mean() for right in rights])
        assert row[2].startswith(f"{accuracy:.1f} (") and row[3].startswith(f"{solved:.1f} (")
        assert row[4:8] == (["–", "–", "–", "100"] if name == "sft" else ["0.300", "0.400", "2.00", "100"])
        for one, right, line in zip(own, rights, raw[name], strict=True):
            assert line[1] == str(one.seed) and line[-1] == f"`{one.address}`"
            assert float(line[2]) == pytest.approx(100 * right.mean() / 8, abs=0.006)
    assert [line[-2] for line in raw["acereason"]] == ["11", "12", "13"]


def test_differences_are_paired_with_the_first_arm_on_the_seeds_of_both(
    ground: plan.Ground, tmp_path: Path
) -> None:
    duel, planned, arms = kept(ground, tmp_path)
    text = comparison.page(duel, planned, ground, Results(tmp_path))
    against = rows(text, "Against acereason")
    assert set(against) == {"dapo", "maxrl"}  # of those that have run
    seeds = {"dapo": duel.seeds, "maxrl": (duel.seeds[0], duel.seeds[2])}
    for name, taken in seeds.items():
        effect = Effect("d", "contrast", terms={name: 1.0, "acereason": -1.0})
        found = estimate(effect, arms, taken)
        (row,) = against[name]
        assert row[1] == str(len(taken))
        assert row[2] == f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
    bold = re.findall(r"\| (\w+) \| \d \| \*\*", text)
    assert bold == ["dapo"]  # whose interval lies beside 0


def test_what_is_missing_or_failed_is_named(ground: plan.Ground, tmp_path: Path) -> None:
    duel, planned, _ = kept(ground, tmp_path)
    results = Results(tmp_path)
    job = planned.jobs[planned.arms["duel"]["maxrl", duel.seeds[1]]]
    results.fail(job, "TrainingError: it broke")
    text = comparison.page(duel, planned, ground, results)
    assert "maxrl (2 of 3)" in text and "justrl (0 of 3)" in text and "acereason (" not in text
    assert f"**Failed**: maxrl, seed {duel.seeds[1]}: TrainingError: it broke" in text
    nothing = comparison.page(duel, planned, ground, Results(tmp_path / "none"))
    assert "acereason (0 of 3)" in nothing and "| arm |" not in nothing


def test_the_report_writes_it(ground: plan.Ground, tmp_path: Path) -> None:
    duel, planned, _ = kept(ground, tmp_path / "arms")
    findings.write([duel], ground, Results(tmp_path / "arms"), tmp_path / "docs")
    written = (tmp_path / "docs" / "duel.md").read_text()
    page = comparison.page(duel, planned, ground, Results(tmp_path / "arms"))
    assert written == findings.linked(page, tmp_path / "docs", ())
    findings.write([spec.load("F2")], ground, Results(tmp_path / "arms"), tmp_path / "other")
    assert not (tmp_path / "other" / "duel.md").exists()


def test_records_of_before_are_still_read() -> None:
    old = msgspec.to_builtins(drawn({"a": 0.5}, 1)["a", 0])
    old.pop("wall")
    assert msgspec.convert(old, Record).wall is None
