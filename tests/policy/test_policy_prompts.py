"""A policy's prompts on tokenizers of several kinds: BOS, markers, ends, control tokens, saved formats."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GenerationConfig

import tokenizers_of as kinds
from acereason import prompts
from acereason.errors import ConfigError
from acereason.policy import saved
from acereason.policy.model import load_model, load_tokenizer, new_model
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response

SHAPE: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 16,
}
MODEL = new_model("qwen3", 1, **SHAPE)
TAGS = ("<think>", "</think>")


def with_template(template: str) -> Any:
    tokenizer = kinds.byte_level(*kinds.CHATML, bos=True, added=TAGS)
    tokenizer.chat_template = template
    return tokenizer


KINDS: dict[str, tuple[Any, str]] = {
    "chatml": (kinds.byte_level(*kinds.CHATML, added=TAGS), "chatml-1.1"),
    "chatml with BOS": (kinds.byte_level(*kinds.CHATML, bos=True), "chatml-1.1"),
    "deepseek": (kinds.byte_level(*kinds.DEEPSEEK, bos=True, added=TAGS), "deepseek-r1"),
    "plain": (kinds.byte_level("<s>", "</s>", bos=True), "plain"),
    "plain, spaces as a letter": (kinds.sentencepiece("<s>", "</s>"), "plain"),
    "template": (with_template(kinds.TRIMMING), "template"),
    "chatml over another template": (with_template(kinds.TRIMMING), "chatml-1.1"),
}
BOS = set(KINDS) - {"chatml"}
SPELLED = ["<|im_end|>", "<|im_start|>", "<｜User｜>", "<think>", "</think>", "<s>", "</s>", "<|endoftext|>"]
QUESTIONS = st.lists(
    st.sampled_from(
        [*SPELLED, "{{ x }}", "{% if %}", "{question}", "\\boxed{}", "'", '"', "\n", " ", "é", "🙂"]
    )
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
    max_size=6,
).map("".join)


def policy_of(kind: str) -> Policy:
    tokenizer, format = KINDS[kind]
    return Policy(MODEL, tokenizer, format)


@pytest.fixture(scope="module", params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Any, str]:
    """A policy, the tokenizer of the folder it was saved to, and what kind it is."""
    folder = tmp_path_factory.mktemp("kept")
    policy = policy_of(request.param)
    policy.save(folder)
    return policy, AutoTokenizer.from_pretrained(folder), request.param


@settings(max_examples=60, deadline=None)
@given(QUESTIONS, st.sampled_from(["math", "code"]), st.none() | QUESTIONS)
def test_the_saved_chat_template_renders_the_trained_prompt(
    kept: tuple[Policy, Any, str], question: str, domain: str, starter: str | None
) -> None:
    policy, tokenizer, kind = kept
    problem = Problem("p", domain, question, starter_code=starter)
    turn = [{"role": "user", "content": policy.prompt.request(problem)}]
    how = {"add_generation_prompt": True, "return_dict": False}
    ids = policy.prompt_ids(problem)
    assert tokenizer.apply_chat_template(turn, **how) == ids
    nothing = policy.prompt_ids(Problem("p", domain, "?", starter_code="?" if starter else None))
    special = {i for i, t in tokenizer.added_tokens_decoder.items() if str(t) in SPELLED}
    assert [i for i in ids if i in special] == [i for i in nothing if i in special], "a question's are text"
    assert (ids[0] == tokenizer.bos_token_id) == (kind in BOS) and ids[1] != tokenizer.bos_token_id


def test_what_is_loaded_again_asks_the_same(kept: tuple[Policy, Any, str], tmp_path: Path) -> None:
    policy, problem = kept[0], Problem("p", "math", " What is 2+2? ", answer="4")
    for folder in (tmp_path / "once", tmp_path / "twice"):
        policy.save(folder)
        tokenizer = load_tokenizer(folder)
        again = Policy(load_model(folder), tokenizer, saved.choose(folder, tokenizer))
        assert again.prompt_ids(problem) == policy.prompt_ids(problem)
        assert again.prompt.name == policy.prompt.name and again.end_ids == policy.end_ids
        assert GenerationConfig.from_pretrained(folder).eos_token_id == policy.end_ids
        policy = again
    templates = [(tmp_path / n / "chat_template.jinja").read_text() for n in ("once", "twice")]
    assert templates[0] == templates[1]


@pytest.mark.parametrize("format", ["chatml-1.1", "deepseek-r1"])
def test_markers_that_are_no_single_tokens_are_refused(format: str) -> None:
    with pytest.raises(ConfigError, match="which this tokenizer cuts"):
        Policy(MODEL, kinds.byte_level("<s>", "</s>"), format)


def test_a_format_that_begins_with_bos_needs_one() -> None:
    tokenizer = kinds.byte_level(*kinds.DEEPSEEK)
    assert Policy(MODEL, tokenizer, "deepseek-r1").prompt_ids(Problem("p", "math", "?"))[0] == 0
    tokenizer.bos_token = None
    with pytest.raises(ConfigError, match="begins with BOS"):
        Policy(MODEL, tokenizer, "deepseek-r1")


def test_the_formats_end_of_turn_ends_a_response_and_is_learned_once() -> None:
    model = new_model("qwen3", 1, **SHAPE)
    model.generation_config.eos_token_id = 0
    policy = Policy(model, kinds.byte_level(*kinds.CHATML, added=TAGS), "chatml-1.1")
    turn = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert policy.end_id == turn and {0, turn} <= set(policy.end_ids)
    problem = Problem("p", "math", "?")
    plain = policy.example(problem, Response("p", 0, "so</think>4"), 0)
    assert plain.response[-1] == turn and list(plain.response).count(turn) == 1
    for text in ("so</think>4<|im_end|>", "so</think>4<|im_end|>\n<|endoftext|>"):
        assert policy.example(problem, Response("p", 0, text), 0) == plain
    spelled = policy.example(problem, Response("p", 0, "ChatML ends with <|im_end|>.</think>4"), 0)
    assert list(spelled.response).count(turn) == 1 and policy.text(spelled.response).startswith("ChatML")
    assert policy.text(plain.response) == "so</think>4"


def test_a_template_that_opens_no_thinking_has_responses_with_and_without() -> None:
    policy = policy_of("template")
    assert policy.prompt.think == "" and policy.prompt.end == "<|im_end|>"
    encode = policy.tokenizer.encode
    for said, kept in [
        ("<think>\nso</think>4", "so</think>4"),
        ("<think>\nso", "so"),
        ("It is 4.", "</think>It is 4."),
    ]:
        ids = encode(said, add_special_tokens=False)
        assert policy.text([*ids, policy.end_id]) == kept
        if kept.count("</think>"):
            assert policy.example(Problem("p", "math", "?"), Response("p", 0, kept), 0).response[:-1] == ids


def test_a_template_takes_a_system_line_and_requests() -> None:
    tokenizer = with_template(kinds.TRIMMING)
    wanted = prompts.Settings(system="Be brief.", math="{question} Box it.", think="<think>\n")
    policy = Policy(MODEL, tokenizer, saved.choose(None, tokenizer, "template", wanted))
    turns = [("system", "Be brief."), ("user", "2+2? Box it.")]
    text = tokenizer.apply_chat_template(
        [{"role": role, "content": said} for role, said in turns], tokenize=False, add_generation_prompt=True
    )
    assert policy.prompter.text(Problem("p", "math", "2+2?")) == text + "<think>\n"
    with pytest.raises(ConfigError, match="has no chat template"):
        Policy(MODEL, kinds.byte_level(*kinds.CHATML), "template")
    tokenizer.chat_template = "{{ raise_exception('no system here') }}"
    with pytest.raises(ConfigError, match="refuses a turn of user: no system here"):
        Policy(MODEL, tokenizer, "template")


def test_the_folder_says_how_and_another_format_is_warned_about_by_both_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = kinds.byte_level(*kinds.CHATML, added=TAGS)
    own = prompts.Settings("mine", user="Q: ", assistant="\nA: ", end="<|im_end|>").on(prompts.Prompt())
    Policy(MODEL, tokenizer, own).save(tmp_path)
    told = saved.choose(tmp_path, tokenizer)
    assert saved.same(told, own) and told.name == "mine" and not caplog.records
    assert saved.choose(tmp_path, tokenizer, str(tmp_path / "prompt.json")) == told and not caplog.records
    with caplog.at_level(logging.WARNING):
        assert saved.choose(tmp_path, tokenizer, "plain") == prompts.PLAIN
    assert "'mine'" in caplog.text and "'plain'" in caplog.text


def test_a_folder_that_says_nothing_is_asked_with_its_template_or_a_warned_guess(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert saved.choose(tmp_path, with_template(kinds.TRIMMING)).name == "template" and not caplog.records
    assert saved.choose(tmp_path, kinds.byte_level(*kinds.CHATML)) == prompts.CHATML
    assert "does not say how it is asked" in caplog.text
