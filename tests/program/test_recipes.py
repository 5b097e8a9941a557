"""The shipped recipes: published numbers stand as published, they find their data and run for a step."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import acereason
import tiny_run
from acereason import config, runs
from acereason.cli.curate import curation_of
from acereason.curate import pipeline, tasks
from acereason.errors import ConfigError
from acereason.files import write_jsonl
from acereason.problems import Problem, Response
from acereason.progress import Quiet

RECIPES = Path(acereason.__file__).parent / "recipes"
DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"
FULL, SMALL = RECIPES / "acereason-1.1-7b.toml", RECIPES / "acereason-1.0-1.5b.toml"


def test_stages_of_1_1_are_the_published_table() -> None:
    stages = [(s.domain, s.budget, s.group, s.overlong, s.learning_rate) for s in config.load(FULL).stage]
    assert stages == [
        ("math", 8192, 8, "mask", 1e-6),
        ("math", 16384, 16, "mask", 1e-6),
        ("math", 24576, 16, "mask", 1e-6),
        ("code", 24000, 8, "zero", 5e-6),
        ("code", 32768, (8, 16), "zero", 5e-6),
        ("math", 32768, 16, "zero", 1e-6),
    ]


def test_other_published_numbers_of_1_1() -> None:
    recipe = config.load(FULL)
    assert recipe.model.path == "Qwen/Qwen2.5-Math-7B" and recipe.model.rope_theta == 1e6
    assert recipe.sft is not None and recipe.sft.epochs == 5
    assert {s.prompts for s in recipe.stage} == {128} and recipe.rl.updates == 1 and recipe.rl.judges == 64
    assert (recipe.curate.ngram, recipe.curate.ngram_code) == (9, 14)
    assert recipe.stage[1].temperature == config.Temperature("fixed", 0.85)
    assert {s.temperature.target for s in recipe.stage} == {0.3}
    assert recipe.stage[2].filter.high == 6 / 16 and recipe.stage[4].filter.drop_solved
    evaluation = recipe.evaluation
    assert (evaluation.temperature, evaluation.top_p, evaluation.budget) == (0.6, 0.95, 32768)


@pytest.mark.parametrize("path", [FULL, SMALL])
def test_code_temperatures_are_the_published_ones(path: Path) -> None:
    fourth, fifth = config.load(path).stage[3:5]
    assert fourth.temperature == config.Temperature("fixed", 0.6) and fourth.group == 8
    assert fifth.temperature.rule == "epochs" and fifth.temperature.values == (0.6, 0.8, 1.0)
    assert [fifth.group_in(epoch) for epoch in range(4)] == [8, 16, 16, 16]
    lines = [line for line in path.read_text().splitlines() if "0.8 between" in line or "[8, 16]" in line]
    assert len(lines) == 2 and all("unpublished" in line and "ours" in line for line in lines)


def test_1_0_is_rl_only_with_the_same_first_five_stages() -> None:
    small, full = config.load(SMALL), config.load(FULL)
    assert small.sft is None and small.model.path == "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    for a, b in zip(small.stage, full.stage, strict=False):
        assert (a.name, a.budget, a.group, a.learning_rate) == (b.name, b.budget, b.group, b.learning_rate)


@pytest.mark.parametrize("path", [FULL, SMALL])
def test_a_number_that_is_ours_gives_its_reason(path: Path) -> None:
    """The values that recipe.md calls unpublished are marked, each with a "because" or where one stands."""
    keys = ("seed", "steps", "context", "warmup", "clip_gradient", "normalisation", "masked_in_statistics")
    for line in path.read_text().splitlines():
        value, _, comment = line.partition("#")
        if value.split("=")[0].strip() in keys:
            assert "unpublished" in comment and ("because" in comment or "as in" in comment), line


def test_a_file_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = f'[[sources]]\nname = "mine"\npath = "{tmp_path}/rows.jsonl"\n'
    file = tmp_path / "file.toml"
    for head, warned in (('kind = "curation"\n', False), ("", True)):  # files of before say nothing
        file.write_text(head + sources)
        assert curation_of(file).sources[0].name == "mine"
        assert ("does not say what it is" in " ".join(capsys.readouterr().err.split())) == warned
        with pytest.raises(ConfigError, match="is a curation, no recipe: acereason curate"):
            config.load(file)
    for line in ('kind = "mix"', "kind = 3"):
        file.write_text(f"{line}\n{FULL.read_text()}")
        for read in (config.load, curation_of):
            with pytest.raises(ConfigError, match=r'expected kind = "recipe" or kind = "curation", found'):
                read(file)
    file.write_text(f'kind = "recipe"\n{FULL.read_text()}')
    assert curation_of(file) is None and config.load(file) == config.load(FULL)


def test_each_stage_finds_its_prompts_where_the_curation_puts_them() -> None:
    curation = curation_of(RECIPES / "curate" / "acereason-1.1.toml")
    pipeline.check(curation)
    made = {f"data/rl/{s.name}.{curation.format}" for s in curation.rl.stages}
    made |= {
        f"data/sft/{m.name}.{part}.jsonl" for m in curation.sft.mixes for part in ("problems", "responses")
    }
    for path in (FULL, SMALL):
        files = config.load(path).curate.files
        assert files is not None and isinstance(files.rl, dict)
        assert set(files.rl.values()) <= made and {files.sft, files.traces} - {None} <= made


def problem(name: str, question: str = "What is 2 + 2?", answer: str = "4") -> Problem:
    return Problem(name, "math", question, answer=answer)


def test_a_file_per_stage_gives_each_stage_its_own_prompts(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [problem("x"), problem("y")])
    write_jsonl(tmp_path / "b.jsonl", [problem("y"), problem("z")])
    write_jsonl(tmp_path / "held_out.jsonl", [problem("h", "What is 3 + 5?", "8")])
    stages = {"first": str(tmp_path / "a.jsonl"), "second": str(tmp_path / "b.jsonl")}
    files = config.Files(stages, str(tmp_path / "held_out.jsonl"))
    data, _ = tasks.make(config.Curate(files=files), 1, tmp_path)
    tasks.write(data, tmp_path)
    data = tasks.read(tmp_path)
    assert sorted(p.id for p in data.rl) == ["x", "y", "z"]
    assert [p.id for p in tasks.of_stage(data.rl, "first")] == ["x", "y"]
    assert [p.id for p in tasks.of_stage(data.rl, "second")] == ["y", "z"]
    assert tasks.of_stage([problem("any")], "third") == [problem("any")]


def test_files_must_name_the_stages() -> None:
    with pytest.raises(ConfigError, match=r"curate.files.rl names \['math'\], the stages are"):
        config.load(SMALL, ['curate.files.rl={math="x.jsonl"}'])


def test_an_empty_assignment_takes_a_key_out() -> None:
    assert config.load(FULL, ["sft="]).sft is None
    assert config.load(FULL, ["stage.math-8k.stop="]).stage[0].stop == config.Stop()
    with pytest.raises(ConfigError, match=r"either model\.path or"):
        config.load(FULL, ["model.path="])


def documented() -> list[str]:
    """The settings of the one-step command in docs/cluster.md."""
    text = DOCS.read_text().partition("## One step here")[2]
    command = re.search(r"```bash\n(.*?)```", text, re.DOTALL)
    assert command is not None
    words = shlex.split(command[1].replace("\\\n", " "))
    assert words[:3] == ["acereason", "run", "acereason-1.0-1.5b"]
    return [value for flag, value in pairwise(words) if flag == "--set"]


def test_the_documented_command_resolves() -> None:
    recipe = config.load(SMALL, documented())
    assert recipe.model.new is not None and recipe.model.new.hidden_size == 1536
    assert recipe.stage[0].steps == 1 and recipe.curate.files is None


SHAPES = {
    SMALL: {"hidden_size": 1536, "heads": 12, "kv": 2, "intermediate_size": 8960},
    FULL: {"hidden_size": 3584, "heads": 28, "kv": 4, "intermediate_size": 18944},
}
DTYPES = {SMALL: "float32", FULL: "bfloat16"}  # the 7B's layer takes 7 GiB in float32


def one_step(folder: Path, shape: dict[str, int], stages: list[str]) -> list[str]:
    """Settings for one step of one layer of the true shape, on problems that SFT teaches by heart."""
    write_jsonl(
        folder / "problems.jsonl", [problem(f"p{i}", f"What is {i} + 4?", str(i + 4)) for i in range(4)]
    )
    traces = [Response(f"p{i}", 0, f" {i + 4}.</think>\\boxed{{{i + 4}}}") for i in range(4)]
    write_jsonl(folder / "traces.jsonl", traces)
    own = str(folder / "problems.jsonl")
    held_out = folder / "held_out.jsonl"
    write_jsonl(held_out, [problem(f"h{i}", f"What is {i} + 5?", str(i + 5)) for i in range(4)])
    files: dict[str, Any] = {"sft": own, "held_out": str(held_out), "traces": str(folder / "traces.jsonl")}
    inline = ", ".join(f"{k}={json.dumps(v)}" for k, v in files.items())
    rl = ", ".join(f"{name}={json.dumps(own)}" for name in stages)
    return [
        *("model.path=", "model.new.architecture=qwen2", "model.new.num_hidden_layers=1"),
        f"model.new.hidden_size={shape['hidden_size']}",
        f"model.new.num_attention_heads={shape['heads']}",
        f"model.new.num_key_value_heads={shape['kv']}",
        f"model.new.intermediate_size={shape['intermediate_size']}",
        *("model.new.head_dim=128", "model.new.vocab_size=400", "model.new.max_position_embeddings=36864"),
        *("placement.compute=float32", "rl.judges=1", "evaluation.k=1", "evaluation.budget=4"),
        f"curate.files={{{inline}, rl={{{rl}}}}}",
        *("sft.epochs=12", "sft.learning_rate=3e-4", "sft.warmup=0", "sft.evaluate_prompts=0"),
        *("stage.math-8k.budget=24", "stage.math-8k.steps=1", "stage.math-8k.prompts=4"),
        "stage.math-8k.group=16",
        "stage.math-8k.temperature={rule='calibrate', target=0.3, candidates=[0.5, 1, 2, 4], prompts=4}",
    ]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", [SMALL, FULL], ids=["1.5b", "7b"])
def test_one_step_at_the_true_layer_shapes(path: Path, tmp_path: Path) -> None:
    from acereason import program

    stages = [s["name"] for s in tomllib.loads(path.read_text())["stage"]]
    settings = [*one_step(tmp_path, SHAPES[path], stages), f"model.dtype={DTYPES[path]}"]
    recipe = config.load(path, settings)
    with runs.create(tmp_path / "run", recipe) as run:
        program.run_all(run, Quiet(), until="math-8k")
    rows = list(runs.read_metrics(tmp_path / "run"))
    (step,) = (r for r in rows if r["kind"] == "rl")
    assert [r["stage"] for r in rows if r["kind"] == "evaluation"] == ["sft", "math-8k"]
    assert 0 < step["reward"] < 1 and step["gradient_norm"] > 0 and step["learned_tokens"] > 0
    assert step["logprob_difference"]["mean"] < (1e-4 if path == SMALL else 0.05)


def blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL)


def test_the_documented_commands_are_shell_that_the_recipes_understand() -> None:
    """Every block parses; every setting of sampling.servers in it is one that the recipes take."""
    settings = []
    for block in blocks():
        subprocess.run(["bash", "-n"], input=block, text=True, check=True, timeout=20)
        settings += re.findall(r"sampling\.servers=\{.*\}", block)
    assert len(settings) == 4
    for setting in settings:
        text = setting.replace("${URLS%,}", '"http://node:8000"').replace('\\"', '"')
        servers = config.load(FULL, [text]).sampling.servers
        assert servers is not None and servers.urls[0].startswith("http://")


def test_documented_verbs_exist() -> None:
    """Verbs and their options in the blocks are those of the command line."""
    for words in re.findall(r"^acereason (\w+)(.*)$", "\n".join(blocks()).replace("\\\n", " "), re.MULTILINE):
        verb, rest = words
        shown = subprocess.run(
            [sys.executable, "-m", "acereason.cli", verb, "--help"],
            capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        assert shown.returncode == 0, verb
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest.partition("#")[0]):
            assert option in shown.stdout, (verb, option)


def test_a_new_model_has_the_recipes_dtype(tmp_path: Path) -> None:
    from acereason import program

    data = {**tiny_run.RECIPE, "model": {**tiny_run.RECIPE["model"], "dtype": "bfloat16"}}
    data |= {
        "sft": {"epochs": 1, "batch_tokens": 16384, "evaluate_prompts": 0},
        "evaluation": {"k": 1, "budget": 4, "dev": {"prompts": 14, "k": 1}},
    }
    with runs.create(tmp_path / "run", config.parse(data)) as run:
        program.run_all(run, Quiet(), until="sft")
    made = json.loads((tmp_path / "run" / "models" / "sft" / "config.json").read_text())
    assert made["dtype"] == "bfloat16"
