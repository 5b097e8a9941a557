"""A policy: the model with its tokenizer and prompt format, so that it can be asked a `Problem`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acereason import chat, ranks
from acereason.policy import model as models
from acereason.policy import vocabulary
from acereason.policy.packing import Example
from acereason.problems import Problem, Response


@dataclass(frozen=True)
class Policy:
    """What answers. The model's weights change while training; the rest does not."""

    model: models.Model
    tokenizer: models.Tokenizer
    format: chat.Format
    cut: tuple[str, list[int]] | None = None  # the base, and the ids of its vocabulary that were kept

    @cached_property
    def end_ids(self) -> list[int]:
        """The token ids that end a response."""
        return models.end_tokens(self.model, self.tokenizer)

    @property
    def context(self) -> int:
        """Most tokens of prompt and response together."""
        return int(self.model.config.max_position_embeddings)

    def prompt_ids(self, problem: Problem) -> list[int]:
        """The prompt's token ids, up to and including the opened `<think>\\n`."""
        return models.encode(self.tokenizer, chat.prompt(problem, self.format))

    def text(self, tokens: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """The text of response tokens, the end token left out."""
        ids = np.asarray(tokens, np.int64)  # transformers walks over a list one by one
        if len(ids) and ids[-1] in self.end_ids:
            ids = ids[:-1]
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def example(self, problem: Problem, response: Response, index: int) -> Example:
        """A trace to be learned: the response's text and the end of the turn."""
        ids = models.encode(self.tokenizer, response.text)
        return Example(self.prompt_ids(problem), [*ids, self.end_ids[-1]], index)

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        models.save(self.model, self.tokenizer, folder)
        if self.cut is not None and ranks.main():
            vocabulary.write_kept(folder, *self.cut)
