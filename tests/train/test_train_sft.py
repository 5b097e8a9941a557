"""SFT: batches that are even, orders that are hashes, traces that are counted and never held in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_run
from acereason import config, program, runs
from acereason.config import Sft
from acereason.curate import tasks
from acereason.errors import ConfigError, DataError, RunError, TrainingError
from acereason.files import write_jsonl
from acereason.policy import model as models
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.policy.tokenizer import train_tokenizer
from acereason.problems import Problem, Response
from acereason.progress import Quiet
from acereason.train import sft, tokens
from acereason.train.sft import Schedule, even_batches
from acereason.train.tokens import Tokens

SHAPE = {**tiny_run.RECIPE["model"]["new"], "vocab_size": 400, "max_position_embeddings": 64}
GOOD = "2 plus 2 is 4</think>\n\\boxed{4}"
BAD = {
    "empty": " \n",
    "nothing after": "2 plus 2</think>  ",
    "own end": f"{GOOD}<|im_end|>",
    "end within": "2 <|im_end|> 4</think>\n\\boxed{4}",
    "open": "2 plus 2 is \\boxed{4}",
    "opened again": "4</think> <think> \\boxed{4}",
    "long": "7 " * 300 + GOOD,
}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 80))
def test_batches_are_the_fewest_that_hold_and_even(lengths: list[int], most: int) -> None:
    ends = even_batches(np.array(lengths), most).tolist()
    bounds = list(zip([0, *ends], ends, strict=False))
    sizes = [sum(lengths[a:b]) for a, b in bounds]
    assert ends[-1] == len(lengths) and all(a < b for a, b in bounds)
    assert all(size <= most or b == a + 1 for size, (a, b) in zip(sizes, bounds, strict=True))
    greedy = used = 0
    for length in lengths:
        greedy, used = (greedy, used + length) if greedy and used + length <= most else (greedy + 1, length)
    assert len(ends) == greedy


@given(st.lists(st.integers(1, 30), min_size=20, max_size=200), st.integers(120, 400))
def test_no_batch_is_short(lengths: list[int], most: int) -> None:
    ends = even_batches(np.array(lengths), most).tolist()
    sizes = [sum(lengths[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    assert min(sizes) >= sum(lengths) / len(sizes) - 2 * max(lengths)


def test_every_example_is_learned_once_an_epoch_in_a_new_order_also_from_the_middle_on() -> None:
    lengths = [i % 7 + i % 5 + 2 for i in range(50)]
    schedule = Schedule(lengths, Sft(epochs=3, batch_tokens=40), seed=1)
    steps = list(schedule.batches())
    assert len(steps) == schedule.steps and sum(last for _, last, _ in steps) == 3
    orders = [np.concatenate([c for e, _, c in steps if e == epoch]).tolist() for epoch in (1, 2, 3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert all(sum(lengths[i] for i in chosen) <= 40 for _, _, chosen in steps)
    for start in range(schedule.steps + 1):
        rest = [(e, last, c.tolist()) for e, last, c in schedule.batches(start)]
        assert rest == [(e, last, c.tolist()) for e, last, c in steps[start:]]
    again = [c.tolist() for _, _, c in Schedule(lengths, Sft(epochs=3, batch_tokens=40), seed=2).batches()]
    assert again != [c.tolist() for _, _, c in steps]


@pytest.fixture(scope="module")
def policy() -> Policy:
    tokenizer = train_tokenizer([GOOD] * 20, 340)
    shape = {**SHAPE, "eos_token_id": tokenizer.eos_token_id}
    return Policy(models.new_model("qwen3", 0, **shape), tokenizer, "plain")


def data(folder: Path, texts: list[str], **more: Any) -> Path:
    """A run's data with these traces."""
    folder.mkdir()
    problems = [Problem(f"p{i}", "math", f"What is {i} + 2?", answer="4") for i in range(len(texts))]
    write_jsonl(folder / tasks.SFT, problems)
    traces = [Response(p.id, 0, text, **more) for p, text in zip(problems, texts, strict=True)]
    write_jsonl(folder / tasks.TRACES, traces)
    return folder


def prepared(tmp_path: Path, policy: Policy, settings: Sft) -> list[tokens.PartFacts]:
    return tokens.prepare(tmp_path / "tokens", tmp_path / "data", policy, settings, 1, 2, Quiet())


def test_bad_traces_are_counted_and_set_aside(tmp_path: Path, policy: Policy) -> None:
    data(tmp_path / "data", [GOOD, *BAD.values(), GOOD])
    made = prepared(tmp_path, policy, Sft())
    row = tokens.total(made)
    assert (row["before"], row["after"]) == (9, 2)
    counts = {name: row["reasons"].get(reason, 0) for name, reason in tokens.REASONS.items()}
    assert counts == {"empty": 2, "cut": 0, "own_end": 2, "open_thinking": 2, "too_long": 1}
    assert "set aside: 2 empty" in tokens.said(made)
    for example in Tokens(tmp_path / "tokens"):
        ends = [int(i) for i in example.response if i in policy.end_ids]
        assert len(ends) == 1 and example.response[-1] == ends[0]


def test_a_trace_that_its_teacher_was_cut_off_in_is_set_aside(tmp_path: Path, policy: Policy) -> None:
    data(tmp_path / "data", [GOOD, GOOD], finish="length")
    with pytest.raises(TrainingError, match=r"0 of 2 traces.*2 cut off.*sft\.set_aside"):
        prepared(tmp_path, policy, Sft())


def test_what_is_set_aside_is_a_setting(tmp_path: Path, policy: Policy) -> None:
    data(tmp_path / "data", [GOOD, BAD["open"], BAD["long"]])
    row = tokens.total(prepared(tmp_path, policy, Sft(set_aside=("too_long",))))
    assert row["after"] == 2 and row["reasons"] == {tokens.REASONS["too_long"]: 1}
    with pytest.raises(ConfigError, match="set_aside"):
        config.parse({**tiny_run.RECIPE, "sft": {"set_aside": ["too_short"]}})


def test_ids_are_those_of_the_policy_whatever_the_parts(
    tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{i} {'7 ' * (i % 9)}{GOOD}" for i in range(57)]
    data(tmp_path / "data", texts)
    monkeypatch.setattr(tokens, "PART", 777)  # ends within lines
    made = prepared(tmp_path, policy, Sft())
    found = Tokens(tmp_path / "tokens")
    assert len(made) > 3 and len(found) == 57 == len(found.lengths)
    for index, (text, example) in enumerate(zip(texts, found, strict=True)):
        problem = Problem(f"p{index}", "math", f"What is {index} + 2?", answer="4")
        expected = policy.example(problem, Response(f"p{index}", 0, text), index)
        assert [*map(int, example.prompt)] == expected.prompt
        assert [*map(int, example.response)] == expected.response
        assert example.index == index and found.lengths[index] == len(expected)


def test_only_missing_or_damaged_parts_are_made_again(
    tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    data(tmp_path / "data", [f"{i} {GOOD}" for i in range(40)])
    monkeypatch.setattr(tokens, "PART", 1000)
    prepared(tmp_path, policy, Sft())
    folder = tmp_path / "tokens"
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    (folder / "part-00001.json").unlink()  # as if killed before its last file
    damaged = folder / "part-00002.ids"
    damaged.write_bytes(damaged.read_bytes()[:-4] + bytes(4))
    kept = (folder / "part-00000.ids").stat().st_mtime_ns
    prepared(tmp_path, policy, Sft())
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    assert (folder / "part-00000.ids").stat().st_mtime_ns == kept


def test_ids_of_another_tokenizer_are_refused(tmp_path: Path, policy: Policy) -> None:
    data(tmp_path / "data", [GOOD] * 3)
    prepared(tmp_path, policy, Sft())
    other = Policy(policy.model, train_tokenizer(["a b c"] * 9, 300), "plain")
    with pytest.raises(RunError, match="made with other vocabulary"):
        prepared(tmp_path, other, Sft())


def test_a_trace_without_its_problem_is_named(tmp_path: Path, policy: Policy) -> None:
    data(tmp_path / "data", [GOOD])
    write_jsonl(tmp_path / "data" / tasks.TRACES, [Response("p0", 0, GOOD), Response("b", 0, GOOD)])
    with pytest.raises(DataError, match=r"sft\.jsonl has no problem 'b', which a trace answers"):
        prepared(tmp_path, policy, Sft())


def test_the_held_out_loss_is_the_mean_over_tokens(policy: Policy) -> None:
    batch = [
        policy.example(Problem(str(i), "math", "?"), Response("", 0, "7 " * i + GOOD), i) for i in range(5)
    ]
    naive = weight = 0.0
    for example in batch:
        ids = torch.tensor([[*example.prompt, *example.response]])
        with torch.no_grad():
            log_p = policy.model(ids).logits[0].log_softmax(-1)
        places = range(len(example.prompt) - 1, ids.shape[1] - 1)
        naive -= sum(float(log_p[p, ids[0, p + 1]]) for p in places)
        weight += len(example.response)
    found = sft.held_out_loss(policy.model, batch, Sft(micro_tokens=70))
    assert found == pytest.approx(naive / weight, rel=1e-5)
    assert all(p.grad is None for p in policy.model.parameters())


def test_sft_ends_with_the_epoch_of_the_lowest_held_out_loss(tmp_path: Path) -> None:
    """Few traces for many epochs: what is not learned is predicted worse in the end than before."""
    few = {name: {**task, "sft_prompts": 16} for name, task in tiny_run.RECIPE["curate"]["tasks"].items()}
    curate = {**tiny_run.RECIPE["curate"], "tasks": few}
    sizes = {"epochs": 24, "batch_tokens": 400, "learning_rate": 0.02, "evaluate_prompts": 0}
    rule = {**sizes, "held_out": 12, "keep": "best"}
    recipe = config.parse({**tiny_run.RECIPE, "curate": curate, "sft": rule, "stage": []})
    with tiny_run.coin(), runs.create(tmp_path / "run", recipe) as run:
        program.run_all(run, Quiet())
    rows = [r for r in runs.read_metrics(tmp_path / "run") if "held_out_loss" in r]
    assert [r["epoch"] for r in rows] == list(range(1, 25))
    best = min(rows, key=lambda r: r["held_out_loss"])
    assert best["epoch"] < 24, "no epoch was better than the last: this test says nothing"
    saved = tmp_path / "run" / "models" / "sft"
    folder = tmp_path / "run" / "tokens"
    own = sft.held_out_loss(models.load_model(saved), Tokens(folder, held_out=True), recipe.sft or Sft())
    assert own == pytest.approx(best["held_out_loss"], rel=1e-4)
    learned = {str([*map(int, e.prompt)]) for e in Tokens(folder)}
    assert not learned & {str([*map(int, e.prompt)]) for e in Tokens(folder, held_out=True)}
    assert not list((tmp_path / "run" / "checkpoints").glob("best-*")), "the stage is over"
    with pytest.raises(ConfigError, match=r"needs sft\.held_out"):
        config.parse({**tiny_run.RECIPE, "sft": {"keep": "best"}})


def test_packs_take_arrays_as_lists() -> None:
    from acereason.policy.packing import pack

    rng = np.random.default_rng(0)
    lists = [(rng.integers(0, 99, 3).tolist(), rng.integers(0, 99, n).tolist()) for n in (5, 1, 9)]
    one = pack([Example(p, r, i) for i, (p, r) in enumerate(lists)])
    arrays = [Example(np.array(p, np.int32), np.array(r, np.int32), i) for i, (p, r) in enumerate(lists)]
    for name in ("tokens", "positions", "predictors", "targets", "owners"):
        assert torch.equal(getattr(one, name), getattr(pack(arrays), name)), name
    assert json.dumps(one.ends().tolist())
