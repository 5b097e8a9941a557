"""A policy: the model with its tokenizer and prompt format, so that it can be asked a `Problem`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acereason import ranks
from acereason.errors import ConfigError
from acereason.policy import lora, saved, vocabulary
from acereason.policy import model as models
from acereason.policy.packing import Example
from acereason.policy.prompter import Prompter
from acereason.policy.templates import exported
from acereason.problems import Problem, Response
from acereason.prompts import Prompt

NO_TOKEN = "\ufffd"


@dataclass(frozen=True)
class Policy:
    """What answers. The model's weights change while training; the rest does not.

    `format` is a prompt format, or the name of one. ConfigError: it does not fit the tokenizer."""

    model: models.Model
    tokenizer: models.Tokenizer
    format: str | Prompt
    cut: tuple[str, list[int]] | None = None  # the base, and the ids of its vocabulary that were kept
    base: str = ""  # folder or hub id of the model that adapters were put on

    def __post_init__(self) -> None:
        if self.tokenizer is not None:
            self.prompter  # noqa: B018 (a format that does not fit fails here, not at the first prompt)

    @cached_property
    def prompter(self) -> Prompter:
        """Renders problems in the format."""
        asked = self.format
        prompt = saved.choose(None, self.tokenizer, asked) if isinstance(asked, str) else asked
        return Prompter(self.tokenizer, prompt)

    @property
    def prompt(self) -> Prompt:
        """The prompt format."""
        return self.prompter.prompt

    @cached_property
    def end_ids(self) -> list[int]:
        """The token ids that end a response: the format's end of turn, and those the model names."""
        own = self.prompter.end_id
        return sorted({*models.end_tokens(self.model, self.tokenizer), *([] if own is None else [own])})

    @cached_property
    def end_id(self) -> int:
        """The token that ends a response to be learned: the format's, else the tokenizer's."""
        for end in (self.prompter.end_id, self.tokenizer.eos_token_id, *self.end_ids):
            if end is not None:
                return int(end)
        raise ConfigError("nothing ends a response: format, tokenizer and generation config name no token")

    @property
    def context(self) -> int:
        """Most tokens of prompt and response together."""
        return int(self.model.config.max_position_embeddings)

    def prompt_ids(self, problem: Problem) -> list[int]:
        """The prompt's token ids, BOS where the tokenizer puts it, up to and including the opened
        `<think>\\n`."""
        return self.prompter.ids(problem)

    def conversation_ids(self, turns: list[dict[str, str]]) -> list[int]:
        """The token ids of a conversation's prompt, by the chat template that is exported with the model.

        ConfigError: the template refuses these turns."""
        try:
            text = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, chat_template=exported(self.prompter)
            )
        except Exception as error:  # templates raise errors of Jinja, and of their own
            raise ConfigError(f"the model's chat template refuses these turns: {error}") from error
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, tokens: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """The text of response tokens, the end token left out, as the response to an opened thinking; U+FFFD
        stands for an id without a token."""
        ids = np.asarray(tokens, np.int64)  # transformers walks over a list one by one
        if len(ids) and ids[-1] in self.end_ids:
            ids = ids[:-1]
        if len(ids) and ids.max() >= len(self.tokenizer):
            return self.prompter.response_text(NO_TOKEN.join(map(self._decoded, self._between(ids))))
        return self.prompter.response_text(self._decoded(ids))

    def _decoded(self, ids: npt.NDArray[np.int64]) -> str:
        how = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(ids, **how)) if len(ids) else ""

    def _between(self, ids: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """What stands between ids that have no token: rows of a padded vocabulary can be drawn, too."""
        holes = np.flatnonzero(ids >= len(self.tokenizer))
        return [part[part < len(self.tokenizer)] for part in np.split(ids, holes)]

    def example(self, problem: Problem, response: Response, index: int) -> Example:
        """A trace to be learned: the response's text and the end of the turn, once."""
        ids = self.prompter.response_ids(response.text, self._ends)
        return Example(self.prompt_ids(problem), [*ids, self.end_id], index)

    @cached_property
    def _ends(self) -> list[str]:
        """The end tokens as text."""
        return [str(t) for t in self.tokenizer.convert_ids_to_tokens(self.end_ids)]

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder that says how it is asked: in `prompt.json`, in its chat
        template, and in the ends of its generation config."""
        models.save(self.model, self.tokenizer, folder)
        if lora.settings_of(self.model) is not None:
            lora.save(self.model, folder / lora.FOLDER, self.base)
        if self.cut is not None and ranks.main():
            vocabulary.write_kept(folder, *self.cut)
        if ranks.main() and self.tokenizer is not None:
            describe(self, folder)


def describe(policy: Policy, folder: Path) -> None:
    """Put the format into a saved model's folder, in our words and in those of transformers."""
    saved.write(policy.prompter.settled(), folder)
    (folder / "chat_template.jinja").write_text(exported(policy.prompter), encoding="utf-8")
    models.save_ends(folder, policy.end_ids)
