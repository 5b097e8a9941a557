"""The studies that ship: every arm resolves to a recipe, every effect to arms, and equal arms are one run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from acereason import config
from acereason.errors import ConfigError
from acereason.study import spec
from acereason.study.plan import Ground, Own, Plan, plan
from acereason.study.records import parsed
from acereason.study.spec import Effect, Study

LAB = spec.load_lab()
NAMES = spec.shipped()
CLAIMS = [*(f"F{n}" for n in range(1, 13)), "S1", "S2", "S3", "L1", "F5-code", "F5-large", "duel"]


def ground(size: spec.Size = "full", own: Own | None = None) -> Ground:
    return Ground(LAB, size, LAB.size[size].split, own)


def arms_of(effect: Effect) -> set[str]:
    terms = {term.partition(" | ")[0] for term in effect.terms}
    pairs = {arm for pair in effect.pairs for arm in pair}
    points = {str(point[0]) for point in effect.points}
    return (terms | pairs | points | {effect.before, effect.after, effect.chance}) - {""}


def test_all_claims_ship_with_seeds_and_a_rule() -> None:
    assert sorted(NAMES) == sorted(CLAIMS)
    for name in NAMES:
        study = spec.load(name)
        assert 3 <= len(study.seeds) <= 8 and any(e.decides for e in study.effect)
        assert not set(study.seeds) & {2, 3, 4}, "the seeds that the lab was made with are not reported"


@pytest.mark.parametrize("name", NAMES)
def test_a_study_names_only_arms_that_it_runs(name: str) -> None:
    study = spec.load(name)
    arms = {arm for arm, _ in plan([study], ground()).arms[name]}
    drawn = study.figure.lines if study.figure else ()
    for asked in (*map(arms_of, study.effect), *({*line.arms, *line.starts} for line in drawn)):
        assert asked <= arms
    for line in drawn:
        assert (
            isinstance(line.x, str)
            or (study.figure and study.figure.samples)
            or len(line.x) == len(line.arms)
        )


@pytest.mark.parametrize("size", ["full", "small", "tiny"])
def test_every_arm_is_a_recipe_and_comes_after_its_start(size: spec.Size) -> None:
    planned = plan([spec.load(name) for name in NAMES], ground(size))
    seen: set[str] = set()
    for job in planned.jobs.values():
        recipe = parsed(job, Path("model") if job.start else None)
        assert recipe.seed == job.seed and recipe.curate.split == ("test" if size == "full" else "dev")
        assert job.start is None or job.start in seen
        seen.add(job.address)


def test_equal_arms_are_one_run() -> None:
    studies = [spec.load(name) for name in ("F3", "F4", "L1")]
    planned = plan(studies, ground())
    assert planned.arms["F3"]["rl", 101] == planned.arms["L1"]["rl", 101]
    assert set(planned.arms["F4"].values()) == set(planned.arms["F3"].values())
    names = Counter((job.phase, job.seed) for job in planned.jobs.values())
    assert names["base", 101] == 1


def test_an_address_does_not_know_paths_or_defaults() -> None:
    first = plan([spec.load("F2")], ground()).arms["F2"]["e5", 101]
    job = plan([spec.load("F2")], ground()).jobs[first]
    assert "path" not in job.recipe["model"] and "rl" not in job.recipe
    assert first != plan([spec.load("F2")], ground("small")).arms["F2"]["e5", 101]


def written(folder: Path, *kinds: str) -> dict[str, str]:
    """A file of each kind."""
    folder.mkdir(exist_ok=True)
    for kind in kinds:
        (folder / f"{kind}.jsonl").write_text(f"rows of {kind}\n")
    return {kind: str(folder / f"{kind}.jsonl") for kind in kinds}


def test_an_address_knows_what_files_hold_and_not_where_they_lie(tmp_path: Path) -> None:
    def planned(folder: str) -> Plan:
        files = {kind: str(tmp_path / folder / f"{kind}.jsonl") for kind in ("rl", "held_out")}
        return plan([spec.load("F6")], ground("small", Own(Path(f"/{folder}/model"), "abc", files)))

    for folder in ("here", "there"):
        written(tmp_path / folder, "rl", "held_out")
    here, there = planned("here"), planned("there")
    assert here.arms == there.arms and str(tmp_path) not in repr([job.recipe for job in here.jobs.values()])
    for kind in ("rl", "held_out"):
        (tmp_path / "there" / f"{kind}.jsonl").write_text("other rows\n")
        assert not {*planned("there").jobs} & {*here.jobs}
        written(tmp_path / "there", kind)
    job = planned("there").jobs[here.arms["F6"]["mask80", 101]]
    recipe = parsed(job, Path("/m"))
    assert recipe.curate.files is not None and recipe.curate.files.rl == str(tmp_path / "there" / "rl.jsonl")


def test_ones_own_model_takes_the_place_of_the_labs(tmp_path: Path) -> None:
    files = written(tmp_path, "rl", "held_out")
    settings = ("stage.math.budget=512", "stage.math.learning_rate=1e-5", "sft.epochs=1")
    own = Own(Path("/m"), "abc", files, settings)
    planned = plan([spec.load("F6")], ground("small", own))
    job = planned.jobs[planned.arms["F6"]["mask80", 101]]
    recipe = parsed(job, Path("/m"))
    assert job.start == "abc" and recipe.curate.files is not None and not recipe.curate.tasks
    assert (
        recipe.stage[0].budget == 80 and recipe.stage[0].overlong == "mask"
    )  # the claim's own settings hold
    asked = planned.jobs[planned.arms["F6"]["sft", 101]]
    assert asked.start == "abc" and not parsed(asked, Path("/m")).stage and "sft" not in asked.recipe
    with pytest.raises(ConfigError, match="F3 compares fine-tuned models"):
        plan([spec.load("F3")], ground("small", own))


def test_ones_own_traces_are_shared_out(tmp_path: Path) -> None:
    files = written(tmp_path, "rl", "held_out", "sft", "traces")
    planned = plan([spec.load("F1")], ground("full", Own(Path("/m"), "abc", files)))
    job = planned.jobs[planned.arms["F1"]["p125-r4", 101]]
    recipe = parsed(job, Path("/m"))
    assert job.start == "abc" and recipe.curate.sft_share == 0.03125
    assert recipe.curate.files is not None and recipe.curate.files.responses == 4
    assert {job.start for job in planned.jobs.values()} == {"abc"}


def test_what_is_wrong_with_a_study_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no study is called 'F99'"):
        spec.load("F99")
    text = (spec.folder() / "F2.toml").read_text()
    (tmp_path / "F2.toml").write_text(text.replace("seeds = [101", "sedes = [101"))
    with pytest.raises(ConfigError, match="sedes"):
        spec.load(str(tmp_path / "F2.toml"))
    (tmp_path / "G.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"name the file F2\.toml"):
        spec.load(str(tmp_path / "G.toml"))
    (tmp_path / "F2.toml").write_text(text.replace('start = "base"', 'start = "basis"'))
    with pytest.raises(ConfigError, match="no arm is called 'basis'"):
        plan([spec.load(str(tmp_path / "F2.toml"))], ground())


def test_the_hash_is_of_what_is_stated_not_of_how_it_is_written(tmp_path: Path) -> None:
    text = (spec.folder() / "F2.toml").read_text()
    (tmp_path / "F2.toml").write_text("# a remark\n" + text)
    same: Study = spec.load(str(tmp_path / "F2.toml"))
    assert spec.digest(same) == spec.digest(spec.load("F2"))
    (tmp_path / "F2.toml").write_text(text.replace("delta = 2.0", "delta = 1.0", 1))
    assert spec.digest(spec.load(str(tmp_path / "F2.toml"))) != spec.digest(same)


def test_sizes_scale_steps_questions_and_tokens() -> None:
    full, tiny = (plan([spec.load("F7")], ground(size)) for size in ("full", "tiny"))
    big, small = (p.jobs[p.arms["F7"]["staged", 101]] for p in (full, tiny))
    first, second = (config.parse({**job.recipe, "model": {"path": "m"}}).stage[0] for job in (big, small))
    assert first.stop.tokens == 800000 and second.stop.tokens == 8000 and second.steps == 2
