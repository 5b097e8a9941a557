"""Prompt formats: how a problem is put to a model, character by character. A format is data.

A prompt is one user turn and an assistant turn that has been opened with `<think>\\n`, so a response
continues the thinking:

    begin · user · request · assistant · think

| format        | prompt |
|---------------|--------|
| `chatml-1.1`  | AceReason-Nemotron 1.1: ChatML with its system line |
| `deepseek-r1` | AceReason-Nemotron 1.0 and R1's distillates: no system line, the tokenizer's BOS in front |
| `plain`       | the question alone, for tiny models that would spend most of a prompt on ceremony |

`template` (a model's own chat template, `policy.templates`) and `own` (the pieces of a recipe's
`[model.prompt]`) become such data, too. What a model was trained with lies in its folder as `prompt.json`
(`policy.saved`). Sources: model cards of AceReason-Nemotron-1.1-7B and -14B, the authors' evaluation script.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

import msgspec

from acereason.errors import ConfigError
from acereason.problems import Problem
from acereason.registry import domain

Format = Literal["chatml-1.1", "deepseek-r1", "plain"]  # whose text needs no tokenizer

THINK, END_THINK = "<think>", "</think>"
TURN, END_TURN = "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = ("<|endoftext|>", TURN, END_TURN)
SYSTEM_1_1 = "You are a helpful and harmless assistant. You should think step-by-step."
MATH_REQUEST = "Please place your final answer inside \\boxed{}."
MATH_REQUEST_1_0 = "Please reason step by step, and put your final answer within \\boxed{}."
PLACE = "Please place the solution code in the following format:\n```python\n# Your solution code here\n```"
CODE_REQUEST = f"Write Python code to solve the problem. {PLACE}"
STARTER_REQUEST = (
    "Solve the problem starting with the provided function header.\n\n"
    f"Function header:\n```\n{{starter}}\n```\n\n{PLACE}"
)
_FIELD = re.compile(r"\{(question|starter|instruction)\}")
_MARKER = re.compile(r"<[|｜][^<>\s]+[|｜]>")


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt format.

    begin      before the first turn; `{system}` in it is the system line, and without one it is left out
    user       opens the user's turn
    assistant  closes it and opens the assistant's
    think      what stands in the assistant's turn already
    end        ends that turn, one token; None: what tokenizer and generation config name
    between    after the end, before another turn
    bos        whether the tokenizer's BOS stands in front; None: where the tokenizer itself puts it
    trim       whether the request loses the spaces around it, as chat templates may do
    math, code, starter   requests; `{question}` and `{starter}` stand for the problem's. starter: code that
               begins with a given header
    other      request of a domain of one's own; `{instruction}` stands for what the domain asks
    """

    name: str = "own"
    begin: str = ""
    user: str = ""
    assistant: str = "\n"
    think: str = f"{THINK}\n"
    end: str | None = None
    between: str = ""
    system: str = ""
    bos: bool | None = None
    trim: bool = False
    math: str = f"{{question}}\n\n{MATH_REQUEST}"
    code: str = f"{{question}}\n\n{CODE_REQUEST}"
    starter: str = f"{{question}}\n\n{STARTER_REQUEST}"
    other: str = "{instruction}"

    def opening(self) -> str:
        """What stands before the first turn."""
        if "{system}" in self.begin and not self.system:
            return ""
        return self.begin.replace("{system}", self.system)

    def around(self) -> tuple[str, str]:
        """What stands before and after the request."""
        return self.opening() + self.user, self.assistant + self.think

    def request(self, problem: Problem) -> str:
        """The user's turn: the question and what form the answer takes."""
        said = self._request(problem)
        return said.strip() if self.trim else said

    def _request(self, problem: Problem) -> str:
        values = {"question": problem.question, "starter": problem.starter_code or ""}
        if problem.domain == "math":
            return filled(self.math, values)
        if problem.domain == "code":
            return filled(self.starter if problem.starter_code else self.code, values)
        if "{instruction}" in self.other:
            values["instruction"] = domain(problem.domain).instruction(problem)
        return filled(self.other, values)

    def text(self, problem: Problem) -> str:
        """The whole prompt as text, but for a BOS."""
        before, after = self.around()
        return before + self.request(problem) + after

    def markers(self) -> list[str]:
        """Control tokens of the pieces (`<|…|>`) and the end of the turn: each must be one token."""
        pieces = "\n".join((self.begin, self.user, self.assistant, self.between))
        tokens = dict.fromkeys(_MARKER.findall(pieces))
        return list(tokens | dict.fromkeys([self.end] if self.end else []))


CHATML = Prompt(
    "chatml-1.1",
    begin=f"{TURN}system\n{{system}}{END_TURN}\n",
    user=f"{TURN}user\n",
    assistant=f"{END_TURN}\n{TURN}assistant\n",
    end=END_TURN,
    between="\n",
    system=SYSTEM_1_1,
)
DEEPSEEK = Prompt(
    "deepseek-r1",
    begin="{system}",
    user="<｜User｜>",
    assistant="<｜Assistant｜>",
    end="<｜end▁of▁sentence｜>",
    bos=True,
    math=f"{{question}}\n{MATH_REQUEST_1_0}",
)
PLAIN = Prompt(
    "plain", math="{question}", code="{question}", starter="{question}\n{starter}", other="{question}"
)
FORMATS: dict[str, Prompt] = {p.name: p for p in (CHATML, DEEPSEEK, PLAIN)}
NAMES = (*get_args(Format), "template", "own")
_PIECES = ("begin", "user", "assistant", "end", "between", "bos")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[model.prompt]`: changes to a format, or the pieces of one's own; the fields are those of `Prompt`."""

    name: str | None = None
    begin: str | None = None
    user: str | None = None
    assistant: str | None = None
    think: str | None = None
    end: str | None = None
    between: str | None = None
    system: str | None = None
    bos: bool | None = None
    math: str | None = None
    code: str | None = None
    starter: str | None = None
    other: str | None = None

    def given(self) -> dict[str, Any]:
        """What is set."""
        values: dict[str, Any] = {f: getattr(self, f) for f in self.__struct_fields__}
        return {field: value for field, value in values.items() if value is not None}

    def pieces(self) -> list[str]:
        """Those set that make a format of one's own."""
        return [field for field in self.given() if field in _PIECES]

    def on(self, prompt: Prompt) -> Prompt:
        """The format with these changes; its name tells them, since another wording is another format."""
        changes = self.given()
        if not changes:
            return prompt
        name = prompt.name if prompt.name == "own" else f"{prompt.name} with own {', '.join(changes)}"
        return msgspec.structs.replace(prompt, **{"name": name, **changes})


def check(format: str | None, settings: Settings | None) -> None:
    """ValueError when a recipe's `model.format` and `[model.prompt]` do not go together."""
    if format is not None and format not in NAMES:
        raise ValueError(unknown(format))
    pieces = settings.pieces() if settings else []
    if pieces and format not in (None, "own"):
        raise ValueError(
            f"model.prompt.{pieces[0]} belongs to a format of one's own (format = 'own'); of {format!r} "
            "system, think and the requests math, code, starter and other can be changed"
        )
    if format == "own" and not pieces:
        raise ValueError(
            "format = 'own' needs a [model.prompt] section with its pieces: user, assistant, end"
        )


def unknown(name: str) -> str:
    """What to say of a format that is not known."""
    if name == "chatml-1.0":
        return (
            "prompt format 'chatml-1.0' is gone: AceReason-Nemotron 1.0 is not asked in ChatML but in "
            "DeepSeek-R1's format; use 'deepseek-r1'"
        )
    return f"unknown prompt format {name!r}; known: {', '.join(NAMES)}, or the file prompt.json of a model"


def named(name: str) -> Prompt:
    """A format by its name, where it needs no tokenizer; ConfigError for others."""
    if name not in FORMATS:
        raise ConfigError(unknown(name) if name not in NAMES else f"format {name!r} has no text of its own")
    return FORMATS[name]


def instruction(problem: Problem, format: str = "chatml-1.1") -> str:
    """The user's turn of a problem in a format."""
    return named(format).request(problem)


def prompt(problem: Problem, format: str) -> str:
    """The text of the whole prompt, up to and including the opened `<think>\\n`, but for a BOS."""
    return named(format).text(problem)


def filled(text: str, values: dict[str, str]) -> str:
    """`text` with its fields replaced, once: what a question holds is not looked at again."""
    return _FIELD.sub(lambda match: values.get(match[1], match[0]), text)
