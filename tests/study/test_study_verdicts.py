"""A verdict follows from the rule that the study states; nothing else decides."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from acereason.study import figures, verdicts
from acereason.study.findings import linked
from acereason.study.spec import Effect, Figure, Line, Study
from acereason.study.verdicts import Told, Verdict, with_holm
from study_records import drawn


def told(low: float, high: float, delta: float = 2.0, decides: bool = True, p: float = 0.01) -> Told:
    value = (low + high) / 2
    return Told("e", value, low, high, (high - low) / 4, p, (value,), delta, decides, "points")


@pytest.mark.parametrize(
    ("effects", "word"),
    [
        ([told(3, 5)], "supported"),
        ([told(-1, 1)], "contradicted"),
        ([told(1, 5)], "undecided"),
        ([told(3, 5), told(1, 3)], "undecided"),
        ([told(3, 5), told(0, 1)], "contradicted"),
        ([told(3, 5), told(0, 1, decides=False)], "supported"),
        ([told(2, 5)], "undecided"),  # an interval that touches δ does not lie above it
    ],
)
def test_the_rule(effects: list[Told], word: str) -> None:
    assert verdicts._word(effects, (1, 2, 3)) == word
    assert verdicts._word(effects, (1,)) == "undecided"  # one seed decides nothing


def test_seeds_needed_shrink_the_interval_to_the_distance() -> None:
    assert verdicts._needed([told(0, 8)], 3) == 12  # half width 4, distance 2: four times the seeds
    assert verdicts._needed([told(1.9, 2.1)], 3) == verdicts.MOST
    assert verdicts._needed([told(1.99, 9)], 3) == 4  # at least one more


def whole(name: str, word: str, p: float) -> Verdict:
    effect = told(3, 5, p=p) if word == "supported" else told(-1, 1, p=p)
    return Verdict(
        name, "t", "c", "p", word, [effect], (1, 2, 3), "full", "test", "0", 1, 1, 1.0, {}  # type: ignore[arg-type]
    )  # fmt: skip


def test_holm_takes_all_claims_together() -> None:
    many = [whole("a", "supported", 0.001), whole("b", "contradicted", 0.02), whole("c", "undecided", 0.5)]
    assert [v.holm for v in with_holm(many)] == [True, True, None]
    weaker = [many[0], whole("b", "contradicted", 0.03), many[2]]
    assert [v.holm for v in with_holm(weaker)] == [True, False, None]
    assert with_holm([]) == []
    unrun = msgspec.structs.replace(many[2], verdict="not run yet")
    assert [v.holm for v in with_holm([many[0], unrun, unrun])] == [True, None, None]


def test_links_go_where_the_documents_are(tmp_path: Path) -> None:
    text = "[`lab`](../studies/lab.toml), [how](studies.md), [all](findings.md), ![F](findings/F.svg)"
    docs, below, far = tmp_path / "docs", tmp_path / "docs" / "base", tmp_path / "other" / "runs" / "x"
    for folder in (tmp_path / "studies", below, far):
        folder.mkdir(parents=True)
    (tmp_path / "studies" / "lab.toml").touch()
    (docs / "studies.md").touch()
    assert linked(text, docs, {"findings.md"}) == text
    there = "[`lab`](../../studies/lab.toml), [how](../studies.md), [all](findings.md), ![F](findings/F.svg)"
    assert linked(text, below, {"findings.md"}) == there
    assert linked(text, far, {"findings.md"}) == "`lab`, how, [all](findings.md), ![F](findings/F.svg)"


def test_a_figure_is_a_picture_of_finite_numbers() -> None:
    arms = drawn({"a": 0.3, "b": 0.5, "c": 0.6}, 3)
    xs: tuple[float, ...] | str
    for xs, log in (((0.02, 0.1, 0.6), True), ("accuracy", False), ((1.0, 1.0, 1.0), False)):
        figure = Figure("x", (Line("<line>", ("a", "b", "c"), xs),), log=log)
        text = figures.draw(study(figure), arms, range(3))
        root = ElementTree.fromstring(text)
        places = [float(e.get("cx", "")) for e in root.iter() if e.tag.endswith("circle")]
        assert len(places) == 4 and all(map(math.isfinite, places)) and "<line>" not in text
    curves = Figure("k", (Line("a", ("a",)),), samples=True)
    assert ElementTree.fromstring(figures.draw(study(curves), arms, range(3))) is not None
    assert figures.draw(study(None), arms, range(3)) == ""


def study(figure: Figure | None) -> Study:
    return Study("X", "t", "c", "p", (1, 2, 3), (Effect("e", "contrast"),), figure=figure)


def test_effects_are_drawn_on_one_axis() -> None:
    nothing = msgspec.structs.replace(told(1, 2), value=math.nan, low=math.nan, high=math.nan)
    other = msgspec.structs.replace(told(100, 200), unit="s")
    text = figures.intervals([told(3, 5), told(-1, 1, decides=False), nothing, other], "<title>")
    root = ElementTree.fromstring(text)
    assert sum(e.tag.endswith("circle") for e in root.iter()) == 2 and "&lt;title&gt;" in text
    assert figures.intervals([nothing], "t") == ""
