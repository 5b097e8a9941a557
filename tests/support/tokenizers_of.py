"""Small tokenizers of the kinds that released models bring."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = ["what is this question about? " * 3, "Please place your final answer inside \\boxed{}.\n\n"]
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
TRIMMING = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level(*special: str, bos: bool = False, added: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Like Qwen's, Llama 3's and DeepSeek's; the first special token is BOS, which `bos` puts in front, and
    the second ends a text. `added` tokens are not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _finished(tokenizer, special, bos, added)


def sentencepiece(*special: str, bos: bool = True) -> PreTrainedTokenizerFast:
    """Like Llama 2's and Mistral's: spaces are ▁, one is put in front, unknown bytes are tokens."""
    letters = sorted({c for t in TEXTS for c in t.replace(" ", "▁")} | set("▁0123456789+=?xyz{}|<>_/"))
    vocabulary = [*special, *(f"<0x{b:02X}>" for b in range(256)), *letters]
    vocabulary = list(dict.fromkeys(vocabulary))
    model = models.BPE({t: i for i, t in enumerate(vocabulary)}, [], unk_token=special[0], byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(list(special))
    return _finished(tokenizer, special, bos, ())


def _finished(
    tokenizer: Tokenizer, special: tuple[str, ...], bos: bool, added: tuple[str, ...]
) -> PreTrainedTokenizerFast:
    if bos:
        first = (special[0], tokenizer.token_to_id(special[0]))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{special[0]} $A", special_tokens=[first]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1])
    fast.add_tokens(list(added))
    return fast
