"""A prompt format on a tokenizer: token ids and the end of a response.

Three things a format's text alone does not settle:

* BOS stands in front where the tokenizer itself puts it (a base model that expects it is lost without).
* Control tokens of a question are text: in each that it spells out a zero-width space follows the first
  character, so no tokenizer takes it for the token. The exported chat template does the same, so what is
  served is asked with the ids that were trained, and a question cannot end its turn there either.
* The format's end of turn ends a response and is what SFT learns, whatever end token the base names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import msgspec

from acereason.errors import ConfigError
from acereason.problems import Problem
from acereason.prompts import END_THINK, THINK, Prompt

BREAK = "\u200b"
_CONTROL = re.compile(
    r"[<\[｜|].*[>\]｜|]", re.DOTALL
)  # as tokens that are added and not special are written


class Prompter:
    """Asks in one format with one tokenizer. ConfigError: they do not fit together."""

    def __init__(self, tokenizer: Any, prompt: Prompt) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        cut = [m for m in prompt.markers() if len(self._encode(m)) != 1]
        if cut:
            raise ConfigError(
                f"prompt format {prompt.name!r} needs {', '.join(map(repr, cut))}, which this tokenizer cuts "
                "into several tokens; choose the model's own (format = 'template'), another format, or a "
                "tokenizer that has them"
            )
        if prompt.bos and getattr(tokenizer, "bos_token", None) is None:
            raise ConfigError(f"prompt format {prompt.name!r} begins with BOS, and this tokenizer has none")

    @cached_property
    def bos(self) -> str:
        """What stands in front of every prompt: BOS, or nothing."""
        if self.prompt.bos is False or self.tokenizer is None:
            return ""
        first = "".join(self.prompt.around()[:1])
        text = self.tokenizer.bos_token if self.prompt.bos else in_front(self.tokenizer)
        return "" if first.startswith(text) else str(text)

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """The control tokens of the tokenizer, which a question may spell out but not use."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        tokens = {str(t) for t in added if t.special or _CONTROL.fullmatch(str(t))}
        return tuple(sorted(t for t in tokens | set(self.prompt.markers()) if len(t) > 1))

    @cached_property
    def end_id(self) -> int | None:
        """The id of the format's end of turn; None: the format names none."""
        return self._encode(self.prompt.end)[0] if self.prompt.end else None

    def settled(self) -> Prompt:
        """The format as it was asked, for a tokenizer that may forget to put BOS when it is saved."""
        present = bool(self.bos) or (self.prompt.bos is not False and bool(in_front(self.tokenizer)))
        return msgspec.structs.replace(self.prompt, bos=present)

    def text(self, problem: Problem) -> str:
        """The whole prompt as the tokenizer gets it."""
        before, after = self.prompt.around()
        return self.bos + before + as_text(self.prompt.request(problem), self.controls) + after

    def ids(self, problem: Problem) -> list[int]:
        """The prompt's token ids."""
        return self._encode(self.text(problem))

    def response_text(self, text: str) -> str:
        """A sampled text as the response to an opened thinking, which is what is judged and kept."""
        if THINK in self.prompt.think:
            return text
        head, opened, rest = text.partition(THINK)
        return rest.removeprefix("\n") if opened and not head.strip() else END_THINK + text

    def response_ids(self, response: str, ends: Iterable[str]) -> list[int]:
        """Token ids of a trace, without its end of turn; an end that it spells out before is text."""
        ends = list(ends)
        response = re.sub(rf"(?:(?:{'|'.join(map(re.escape, ends))})\s*)+\Z", "", response)
        if THINK not in self.prompt.think:
            plain = response.startswith(END_THINK)
            response = response.removeprefix(END_THINK) if plain else f"{THINK}\n{response}"
        return self._encode(as_text(response, ends))

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def as_text(text: str, controls: Iterable[str]) -> str:
    """The text with every control token in it broken by a zero-width space."""
    for token in controls:
        text = text.replace(token, token[0] + BREAK + token[1:])
    return text


def in_front(tokenizer: Any) -> str:
    """The tokens that the tokenizer itself puts before a text, as text: "" or BOS."""
    bare, whole = (list(tokenizer.encode("a", add_special_tokens=s)) for s in (False, True))
    count = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return str(tokenizer.decode(whole[:count], skip_special_tokens=False)) if count else ""
