"""A tokenizer built here, for models that start from nothing: byte-level BPE with single digits.

Digits, operators, punctuation and newlines are tokens of their own, words merge with their leading space, so
arithmetic is seen digit by digit and a prompt takes about one token a word. It is an ordinary
`tokenizer.json` with ChatML's special tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from acereason.prompts import END_THINK, END_TURN, SPECIAL_TOKENS, THINK, Prompt

# one digit; a command with its brace; a word with its leading space; a run of spaces; any other character
_PIECES = r"\d|\\[a-z]+\{?|```[a-z]*| ?[A-Za-z_]+|\n| +(?![A-Za-z_])|."


BOS = "<｜begin▁of▁sentence｜>"


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, prompt: Prompt | None = None
) -> PreTrainedTokenizerFast:
    """Train on `texts`; at most `vocab_size` tokens, of which 256 are the bytes. The control tokens of
    `prompt` are added to ChatML's."""
    prompt = prompt or Prompt()
    bos = [BOS] if prompt.bos else []
    special = list(dict.fromkeys([*SPECIAL_TOKENS, *prompt.markers(), *bos]))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,  # the thinking tags below are added, not special
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=prompt.end or END_TURN,
        pad_token=SPECIAL_TOKENS[0],
        **({"bos_token": BOS} if bos else {}),
    )
    fast.add_tokens([THINK, END_THINK])
    return fast
