"""The vocabulary cut to what texts need: tokenised alike, any text still tokenisable, rows put back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from acereason.errors import CheckpointError
from acereason.policy import vocabulary
from acereason.policy.model import new_model

CORPUS = [p.read_text() for p in sorted(Path(vocabulary.__file__).parent.glob("*.py"))]
TEXTS = ["Solve 48 * 65 = 3120\n<think>\n40 * 65\n</think>", "Schöne Grüße, naïve café", "x^2 + y^2"]
PIECES = 40  # the first merges that are kept in any case: these tokenizers are small


def bytewise(size: int = 900) -> Any:
    """Byte-level pairs, as GPT-2, Llama 3 and Qwen have them."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<eos>", "<bos>", "<unused0>", "<unused1>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator(CORPUS, trainer)
    return _finished(made)


def falling_back(size: int = 900) -> Any:
    """Pairs of characters with bytes to fall back to, as Gemma and Llama 2 have them."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special)
    made.train_from_iterator(CORPUS, trainer)
    return _finished(made, unk_token="<unk>")


def _finished(made: Tokenizer, **more: str) -> Any:
    start = made.token_to_id("<bos>")
    made.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", start)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", **more
    )


TOKENIZERS = {"bytewise": bytewise(), "falling back": falling_back()}
kinds = pytest.mark.parametrize("kind", TOKENIZERS)


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


@kinds
@given(texts=st.lists(st.one_of(st.sampled_from(CORPUS), st.text(max_size=40)), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_texts_are_tokenised_as_before(kind: str, texts: list[str]) -> None:
    whole = TOKENIZERS[kind]
    texts = [text[:2000] for text in texts]
    cut = vocabulary.cut_tokenizer(whole, {i for text in texts for i in ids(whole, text)}, PIECES)
    for text in texts:
        assert [cut.kept[i] for i in ids(cut.tokenizer, text)] == ids(whole, text)
        assert cut.tokenizer.decode(ids(cut.tokenizer, text)) == whole.decode(ids(whole, text))


@kinds
@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_stays_tokenisable(kind: str, text: str) -> None:
    whole = TOKENIZERS[kind]
    cut = vocabulary.cut_tokenizer(whole, [], PIECES)
    assert cut.tokenizer.decode(ids(cut.tokenizer, text)) == whole.decode(ids(whole, text))


@kinds
def test_special_tokens_keep_their_roles(kind: str, tmp_path: Path) -> None:
    whole = TOKENIZERS[kind]
    cut = vocabulary.cut_tokenizer(whole, ids(whole, TEXTS[0]), PIECES)
    cut.tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for made in (cut.tokenizer, again):
        assert cut.kept[made.bos_token_id] == whole.bos_token_id
        assert cut.kept[made.eos_token_id] == whole.eos_token_id
        assert made.encode("x")[0] == made.bos_token_id
    assert len(cut.tokenizer) == len(cut.kept) < len(whole)


def a_model(size: int, tied: bool, tokenizer: Any) -> Any:
    return new_model(
        "llama",
        3,
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=40,
        tie_word_embeddings=tied,
        eos_token_id=[tokenizer.eos_token_id, 7],
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@kinds
@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_kept_tokens_are_equal_and_rows_come_back(kind: str, tied: bool) -> None:
    whole = TOKENIZERS[kind]
    model = a_model(len(whole) + 13, tied, whole)  # some models pad their embedding
    before, text = copy.deepcopy(model), TEXTS[0]
    made = vocabulary.cut(model, whole, ids(whole, text), PIECES)
    kept = torch.tensor(made.kept)
    logits = model(torch.tensor([ids(made.tokenizer, text)])).logits
    assert torch.equal(logits, before(torch.tensor([ids(whole, text)])).logits[..., kept])
    assert [made.kept[i] for i in model.config.eos_token_id] == [whole.eos_token_id, 7]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    restored = copy.deepcopy(before)
    vocabulary.restore(restored, model, made.kept)
    again = restored(torch.tensor([ids(whole, text)])).logits[..., kept]
    assert torch.allclose(again, model(torch.tensor([ids(made.tokenizer, text)])).logits, atol=1e-5)
    dropped = torch.tensor(sorted(set(range(len(whole) + 13)) - set(made.kept)))
    embedding = restored.get_input_embeddings().weight
    assert torch.equal(embedding[dropped], before.get_input_embeddings().weight[dropped])


def test_what_cannot_be_cut_or_put_back() -> None:
    unigram = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", 0.0)], unk_id=0)))
    with pytest.raises(CheckpointError, match="byte-pair"):
        vocabulary.cut_tokenizer(unigram, [0])
    whole = TOKENIZERS["bytewise"]
    model, other = a_model(len(whole), True, whole), a_model(50, False, whole)
    with pytest.raises(CheckpointError, match="not cut from"):
        vocabulary.restore(other, model, [1, 2])
