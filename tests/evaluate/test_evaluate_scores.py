"""Scores to the digit, tables, comparison, plot."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from acereason.errors import DataError, RunError
from acereason.evaluate.benchmarks import scores
from acereason.evaluate.benchmarks.catalogue import Loaded
from acereason.evaluate.benchmarks.collect import Facts
from acereason.evaluate.benchmarks.plot import pass_at_k
from acereason.evaluate.benchmarks.scores import PassAtK
from acereason.evaluate.benchmarks.store import Fact
from acereason.problems import Problem

RIGHT, WRONG, NONE, CUT = "correct", "wrong", "no_answer", "cut"


def facts(*rows: list[tuple[str, int | None]]) -> Facts:
    return [
        [
            Fact(100 * i, o == CUT, NONE if o == CUT else o, None if answer is None else str(answer))
            for i, (o, answer) in enumerate(row, 1)
        ]
        for row in rows
    ]


def loaded(count: int, domain: str = "math", **meta: str) -> Loaded:
    problems = [Problem(f"q{i}", domain, "?", answer="1", meta=meta) for i in range(count)]
    return Loaded("b", "Bench", 4, problems, f"{count} questions")


# right 3, 1, 0 of 4; the second has two wrong answers that agree
TABLE = facts(
    [(RIGHT, 0), (RIGHT, 0), (RIGHT, 0), (WRONG, 5)],
    [(RIGHT, 0), (WRONG, 7), (WRONG, 7), (CUT, None)],
    [(WRONG, 1), (NONE, None), (CUT, None), (WRONG, 9)],
)


def test_a_known_table_to_the_digit() -> None:
    s = scores.score(loaded(3), TABLE, 4)
    assert (s.n, s.k, s.right) == (3, 4, ["1110", "1000", "0000"])
    assert s.mean == pytest.approx(4 / 12)
    deviation = math.sqrt(((0.75 - 1 / 3) ** 2 + (0.25 - 1 / 3) ** 2 + (1 / 3) ** 2) / 2)
    assert s.se == pytest.approx(deviation / math.sqrt(3))
    assert s.generation_noise == pytest.approx(math.sqrt(2 * 0.1875 / 3) / 3)
    assert [(p.k, round(p.mean, 6)) for p in s.pass_at_k] == [
        (1, round(1 / 3, 6)), (2, round((1 + 0.5 + 0) / 3, 6)), (4, round(2 / 3, 6))
    ]  # fmt: skip
    assert s.majority == pytest.approx(1 / 3)
    assert [s.truncated, s.no_answer] == pytest.approx([2 / 12, 3 / 12])
    assert (s.tokens_mean, s.tokens_p95) == (250, 400)
    assert s.clustered_se is None and s.without_unsound is None


def test_missing_and_unjudged_samples_are_refused() -> None:
    with pytest.raises(DataError, match="1 samples missing"):
        scores.score(loaded(3), [*TABLE[:2], TABLE[2][:3]], 4)
    with pytest.raises(DataError, match="1 unjudged"):
        scores.score(loaded(3), [*TABLE[:2], [*TABLE[2][:3], None]], 4)
    with pytest.raises(DataError, match="1 unjudged"):
        scores.score(loaded(3), [*TABLE[:2], [*TABLE[2][:3], Fact(1, False)]], 4)
    with pytest.raises(DataError, match="3 samples missing"):
        scores.score(loaded(3), TABLE, 5)


def test_contests_unsound_items_and_programs() -> None:
    bench = loaded(24, "code")
    problems = [
        Problem(p.id, "code", "?", meta={"contest_id": f"c{i // 2}"}) for i, p in enumerate(bench.problems)
    ]
    bench = bench._replace(problems=problems, unsound=frozenset({"q0", "q1"}))
    rows: list[list[tuple[str, int | None]]]
    rows = [[(RIGHT if (i // 2) % 2 else WRONG, None)] * 2 for i in range(24)]
    s = scores.score(bench, facts(*rows), 2)
    assert s.majority is None
    assert s.clustered_se is not None and s.clustered_se > 1.3 * s.se
    assert s.without_unsound is not None
    assert s.without_unsound == scores.Part(12 / 22, s.without_unsound.se, 22)
    notes = "\n".join(scores.notes([s]))
    assert "without its 2 unsound questions: 54.5 ± " in notes and "standard error over contests" in notes
    assert f"± {100 * s.clustered_se:.1f}" in scores.cells(s)[3]


def test_a_folder_keeps_scores_and_a_model_card(tmp_path: Path) -> None:
    first = scores.score(loaded(3), TABLE, 4)
    scores.write(tmp_path, [first], "org/model")
    one = scores.score(loaded(1)._replace(name="other"), facts([(RIGHT, 0), (WRONG, 3)]), 2)
    scores.write(tmp_path, [one], "org/model")
    back = scores.read(tmp_path)
    assert [s.name for s in back] == ["b", "other"]
    assert back[0] == first and math.isnan(back[1].se) and back[1].mean == 0.5
    card = (tmp_path / "results.md").read_text()
    assert "| Bench | 3 | 4 | 33.3 ± 22.0 | 11.8 | 66.7 | 33.3 | 16.7 | 25.0 | 250 / 400 |" in card
    with pytest.raises(RunError, match="no finished evaluation"):
        scores.read(tmp_path / "nowhere")


def test_comparison_pairs_questions_whatever_their_order() -> None:
    before = scores.score(loaded(3), TABLE, 4)
    turned = loaded(3)._replace(problems=loaded(3).problems[::-1])
    after = scores.score(turned, [[Fact(1, False, RIGHT, "0")] * 4, *TABLE[1::-1]], 4)
    found = scores.compare([before], [after])[0]
    assert [found.before, found.after] == pytest.approx([4 / 12, 8 / 12])
    assert found.mean == pytest.approx((0 + 0 + 1) / 3) and found.low <= found.mean <= found.high
    same = scores.compare([before], [before])[0]
    assert (same.mean, same.se, same.low, same.high) == (0, 0, 0, 0)
    fewer = scores.compare([before], [scores.score(loaded(2), TABLE[:2], 4)])[0]
    assert (fewer.n, fewer.left_out) == (2, 1) and fewer.before == fewer.after
    strange = loaded(3)._replace(
        problems=[msgspec.structs.replace(p, id=f"x{p.id}") for p in loaded(3).problems]
    )
    with pytest.raises(DataError, match="questions in common, found none among 3 and 3"):
        scores.compare([before], [scores.score(strange, TABLE, 4)])
    other = scores.score(loaded(3)._replace(name="c"), TABLE, 4)
    with pytest.raises(DataError, match="a benchmark in both"):
        scores.compare([before], [other])


def test_the_plot_is_well_formed_and_labels_do_not_touch() -> None:
    curve = [PassAtK(1, 0.3, 0.2, 0.4), PassAtK(2, 0.45, 0.3, 0.6), PassAtK(4, 0.6, 0.4, 0.8)]
    drawn = pass_at_k({"a <b> & c": curve, "d": curve, "e": [PassAtK(1, 1.0, 1.0, 1.0)]})
    root = ET.fromstring(drawn)
    texts = [e for e in root.iter() if e.tag.endswith("text")]
    assert {"a <b> & c 60.0", "d 60.0", "e 100.0"} <= {e.text for e in texts}
    ends = sorted(float(e.attrib["y"]) for e in texts if e.text and e.text[-2:-1] == ".")
    assert all(b - a >= 15.9 for a, b in itertools.pairwise(ends))
    assert len([e for e in root.iter() if e.tag.endswith("circle")]) == 7
    assert "nan" not in drawn.lower()
