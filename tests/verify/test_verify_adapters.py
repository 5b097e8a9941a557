"""The adapters inside the frameworks that call them, where those are installed.

python -m venv V && V/bin/pip install trl -e . && V/bin/python -m pytest tests/verify/test_verify_adapters.py
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest

from acereason.chat import END_THINK, END_TURN, SPECIAL_TOKENS
from acereason.errors import DataError
from acereason.policy.model import new_model
from acereason.policy.tokenizer import train_tokenizer
from acereason.verify import Judge, adapters

QUESTION, RIGHT, WRONG = "2+2=", "Add.</think> \\boxed{4}", "Add.</think> \\boxed{5}"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = train_tokenizer([QUESTION, RIGHT, WRONG], 340)
    made.chat_template = TEMPLATE
    return made


def checkpoint(tokenizer: Any, folder: Path) -> str:
    """A tiny model that answers `QUESTION` with RIGHT about half of the time, else with WRONG."""
    import torch

    torch.set_num_threads(1)
    model = new_model(
        "qwen3", 1, vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, head_dim=16,
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=48, max_position_embeddings=128,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    model.set_attn_implementation("sdpa")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, tokenize=False
    )
    rows = torch.tensor([tokenizer.encode(prompt + text + END_TURN) for text in (RIGHT, WRONG)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            model(rows).logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten()
        ).backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("parsed", [False, True])
def test_messages_as_trl_parses_them(parsed: bool) -> None:
    """A tokenizer with a response template gives thinking and content apart, and neither is a tag."""

    def message(thought: str, content: str) -> list[dict[str, str]]:
        if parsed:
            return [{"role": "assistant", "reasoning_content": thought, "content": content}]
        return [{"role": "assistant", "content": f"{thought}{END_THINK}{content}"}]

    with Judge(1) as judge:
        reward = adapters.trl_reward(judge)
        said = [message("so", "\\boxed{4}"), message("\\boxed{4}", ""), message("so", "\\boxed{5}")]
        assert reward([QUESTION] * 3, said, answer=["4"] * 3) == [1.0, 0.0, 0.0]
        open_thinking = [{"role": "assistant", "content": "I think \\boxed{4}"}]
        assert reward([QUESTION], [open_thinking], answer=["4"]) == [0.0]


def test_verl_settings_reach_the_score() -> None:
    assert adapters.compute_score("aime", "\\boxed{4}", "4", {}, thinking=False) == 1.0
    assert adapters.compute_score("aime", "\\boxed{4}", "4", {}) == 0.0
    broken = ("lcb", "t</think>\n```python\npass\n```", {"inputs": ["1"], "outputs": ["x"], "fn_name": "f"})
    with pytest.raises(DataError, match="'x'"):
        adapters.compute_score(*broken)
    assert adapters.compute_score(*broken, unjudged=-0.5) == -0.5


def test_verl_code_from_parquet() -> None:
    """Parquet hands lists over as arrays, whose truth value is an error."""
    numpy = pytest.importorskip("numpy")
    truth = {"inputs": numpy.array(["1\n", "2\n"]), "outputs": numpy.array(["2", "4"])}
    code = "t</think>\n```python\nprint(2 * int(input()))\n```"
    assert adapters.compute_score("lcb", code, truth, {"index": 3}) == 1.0


@pytest.mark.slow
def test_two_steps_of_trls_trainer(tokenizer: Any, tmp_path: Path) -> None:
    """GRPOTrainer with our reward on a model that is right half of the time: rewards and log agree."""
    pytest.importorskip("trl", reason="TRL is not installed: pip install trl")
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    path = checkpoint(tokenizer, tmp_path / "model")
    prompt = [{"role": "user", "content": QUESTION}]
    data = Dataset.from_list([{"prompt": prompt, "answer": "4"}] * 8)
    seen: list[tuple[str, float | None]] = []
    with Judge(1) as judge:
        ours = adapters.trl_reward(judge)

        def reward(completions: list[Any], **columns: Any) -> list[float | None]:
            found = ours(completions=completions, **columns)
            seen.extend(zip((c[-1]["content"] for c in completions), found, strict=True))
            return found

        settings = GRPOConfig(
            output_dir=str(tmp_path / "trl"), max_steps=2, per_device_train_batch_size=8, num_generations=8,
            max_completion_length=24, learning_rate=1e-4, beta=0.0, logging_steps=1, report_to=[],
            save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True, gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32"},
        )  # fmt: skip
        trainer = GRPOTrainer(path, reward, settings, train_dataset=data, processing_class=tokenizer)
        trainer.train()
    assert len(seen) == 16
    assert {reward for _, reward in seen} == {0.0, 1.0}
    assert all((r == 1.0) == ("\\boxed{4}" in text.partition(END_THINK)[2]) for text, r in seen)
    logged = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    rewards = [reward for _, reward in seen if reward is not None]
    assert logged == pytest.approx([sum(rewards[:8]) / 8, sum(rewards[8:]) / 8])


def batch(tokenizer: Any) -> Any:
    """A verl batch of four responses, padded as its rollout leaves them, in its own columns."""
    import numpy
    import torch
    from verl import DataProto

    code = "t</think>\n```python\nprint(2 * int(input()))\n```"
    texts = [RIGHT, WRONG, "\\boxed{4} without an end", code]
    encoded = [tokenizer.encode(text) for text in texts]
    length = max(map(len, encoded))
    responses = torch.full((4, length), tokenizer.pad_token_id)
    mask = torch.zeros((4, 3 + length), dtype=torch.long)
    mask[:, :3] = 1
    for i, ids in enumerate(encoded):
        responses[i, : len(ids)] = torch.tensor(ids)
        mask[i, 3 : 3 + len(ids)] = 1
    prompts = torch.tensor([tokenizer.encode("2+2")[:3]] * 4)
    truths = ["4", "4", "4", '{"inputs": ["3\\n"], "outputs": ["6\\n"]}']
    return DataProto.from_dict(
        tensors={"prompts": prompts, "responses": responses, "attention_mask": mask},
        non_tensors={
            "data_source": numpy.array(["math", "math", "math", "code"], dtype=object),
            "reward_model": numpy.array([{"ground_truth": t} for t in truths], dtype=object),
            "extra_info": numpy.array([{"index": i} for i in range(4)], dtype=object),
        },
    )


@pytest.mark.slow
def test_verls_reward_managers(tokenizer: Any) -> None:
    """The synchronous manager on a batch, and the reward loop's manager on single items, load the
    function by its file as a recipe names it."""
    pytest.importorskip("verl", reason="verl is not installed: pip install verl")
    warnings.simplefilter("ignore")
    import asyncio

    from omegaconf import OmegaConf
    from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.workers.reward_manager import NaiveRewardManager

    named = {"path": adapters.__file__, "name": "compute_score", "reward_kwargs": {"thinking": True}}
    config = OmegaConf.create({"reward": {"custom_reward_function": named}})
    score = get_custom_reward_fn(config)
    data, wanted = batch(tokenizer), [1.0, 0.0, 0.0, 1.0]
    rewards = NaiveRewardManager(tokenizer, num_examine=0, compute_score=score)(data)
    assert rewards.sum(-1).tolist() == wanted
    assert (rewards != 0).sum() == 2

    async def loop() -> list[float]:
        manager = get_reward_manager_cls("naive")(config, tokenizer, score)
        found = await asyncio.gather(*(manager.run_single(data[i : i + 1]) for i in range(4)))
        return [item["reward_score"] for item in found]

    assert asyncio.run(loop()) == wanted


def test_the_signatures_are_those_that_are_called() -> None:
    """TRL calls with `prompts`, `completions`, `completion_ids`, the columns and its own helpers; verl
    with four names, and with two more when a reward model is served."""
    calls = inspect.signature(adapters.trl_reward()).bind
    calls(prompts=[], completions=[], completion_ids=[], answer=[], trainer_state=None, log_extra=None,
          log_metric=None)  # fmt: skip
    inspect.signature(adapters.compute_score).bind(
        data_source="", solution_str="", ground_truth="", extra_info={}, reward_router_address="",
        reward_model_tokenizer=None,
    )  # fmt: skip
    assert END_TURN in SPECIAL_TOKENS and END_THINK not in SPECIAL_TOKENS  # decoding must keep the tag
