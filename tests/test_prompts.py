"""Prompts character by character: what the model cards and the authors' evaluation script say."""

from __future__ import annotations

import pytest

from acereason import chat, config, prompts
from acereason.errors import ConfigError
from acereason.problems import Problem
from acereason.prompts import Prompt, Settings

MATH = Problem("m", "math", "QUESTION", answer="1")
CODE = Problem("c", "code", "QUESTION")
STARTED = Problem("s", "code", "QUESTION", starter_code="class S:\n    def f(self):")

SYSTEM = "You are a helpful and harmless assistant. You should think step-by-step."
PLACE = "Please place the solution code in the following format:\n```python\n# Your solution code here\n```"
TURNS = {
    "code": f"QUESTION\n\nWrite Python code to solve the problem. {PLACE}",
    "starter": "QUESTION\n\nSolve the problem starting with the provided function header.\n\n"
    f"Function header:\n```\nclass S:\n    def f(self):\n```\n\n{PLACE}",
}


def chatml(turn: str) -> str:
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{turn}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )


def deepseek(turn: str) -> str:
    return f"<\uff5cUser\uff5c>{turn}<\uff5cAssistant\uff5c><think>\n"


@pytest.mark.parametrize(
    ("format", "problem", "card"),
    [
        ("chatml-1.1", MATH, chatml("QUESTION\n\nPlease place your final answer inside \\boxed{}.")),
        ("chatml-1.1", CODE, chatml(TURNS["code"])),
        ("chatml-1.1", STARTED, chatml(TURNS["starter"])),
        (
            "deepseek-r1",
            MATH,
            deepseek("QUESTION\nPlease reason step by step, and put your final answer within \\boxed{}."),
        ),
        ("deepseek-r1", CODE, deepseek(TURNS["code"])),
        ("deepseek-r1", STARTED, deepseek(TURNS["starter"])),
        ("plain", MATH, "QUESTION\n<think>\n"),
        ("plain", CODE, "QUESTION\n<think>\n"),
        ("plain", STARTED, "QUESTION\nclass S:\n    def f(self):\n<think>\n"),
    ],
)
def test_the_cards_prompts(format: str, problem: Problem, card: str) -> None:
    assert chat.prompt(problem, format) == card
    assert chat.instruction(problem, format) in card


def test_what_a_question_holds_is_not_looked_at_again() -> None:
    evil = Problem("e", "code", "{starter} {question} {system} \\boxed{}", starter_code="{question} {}")
    text = chat.prompt(evil, "chatml-1.1")
    assert text.count("{starter} {question} {system} \\boxed{}") == 1 and text.count("{question} {}") == 1


def test_the_old_name_of_1_0_is_an_error_that_names_the_new_one() -> None:
    for call in (lambda: chat.prompt(MATH, "chatml-1.0"), lambda: recipe(format="chatml-1.0")):
        with pytest.raises(ConfigError, match="deepseek-r1"):
            call()
    with pytest.raises(ConfigError, match=r"'chatml'; known: chatml-1\.1, deepseek-r1, plain, template, own"):
        recipe(format="chatml")


def recipe(**model: object) -> config.Recipe:
    return config.parse({"name": "x", "model": {"path": "m", **model}})


def test_a_recipe_may_change_requests_and_bring_pieces_of_its_own() -> None:
    own = recipe(prompt={"user": "Q: ", "assistant": "\nA: ", "end": "<|end|>", "math": "{question}!"}).model
    assert own.prompt is not None
    made = own.prompt.on(Prompt())
    assert made.name == "own" and made.text(MATH) == "Q: QUESTION!\nA: <think>\n"
    assert made.markers() == ["<|end|>"]
    changed = recipe(format="chatml-1.1", prompt={"system": "Be brief.", "math": "{question}"}).model
    assert changed.prompt is not None
    made = changed.prompt.on(prompts.CHATML)
    assert made.name == "chatml-1.1 with own system, math"
    assert made.text(MATH) == chatml("QUESTION").replace(SYSTEM, "Be brief.")
    without = Settings(system="").on(prompts.CHATML)
    assert without.text(MATH).startswith("<|im_start|>user\n")


def test_pieces_and_formats_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.prompt\.user belongs to a format of one's own"):
        recipe(format="plain", prompt={"user": "Q: "})
    with pytest.raises(ConfigError, match=r"needs a \[model\.prompt\] section"):
        recipe(format="own")
    with pytest.raises(ConfigError, match=r"unknown key model\.prompt\.sistem; did you mean system"):
        recipe(format="plain", prompt={"sistem": "Q: "})


def test_the_shipped_recipes_ask_as_the_authors_did() -> None:
    from acereason.cli.common import find_recipe

    formats = {
        n: config.load(find_recipe(n)).model.format for n in ("acereason-1.1-7b", "acereason-1.0-1.5b")
    }
    assert formats == {"acereason-1.1-7b": "chatml-1.1", "acereason-1.0-1.5b": "deepseek-r1"}
