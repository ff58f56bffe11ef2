"""What is left of a tokenizer makes of known texts what the whole one makes, and the network computes the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from ortnas.nas.failures import CheckpointError
from ortnas.nas.text import Example, encode
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.checkpoint.vocabulary import prune_checkpoint, prune_tokenizer
from ortnas.nas.training.supernet import Supernet
from tests.networks import WORDS, write_checkpoint

KNOWN = ("he was in it", "They have this, from one!", "the and")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def unigram(byte_fallback: bool = False) -> Tokenizer:
    """XLM-RoBERTa's kind; ``z`` has no piece of its own, ``zoo`` has one."""
    letters = [(letter, -9.0 - place / 10) for place, letter in enumerate("\u2581abcdefghijklmnopqrstuvwxy!,")]
    words = [(f"\u2581{word}", -5.0 - place / 10) for place, word in enumerate(WORDS)]
    others = [("th", -6.0), ("zoo", -7.5), ("\u2581never", -8.0), ("rarest", -20.0), ("ing", -6.5)]
    data = [(f"<0x{byte:02X}>", -15.0) for byte in range(256)] if byte_fallback else []
    vocabulary = [*((token, 0.0) for token in SPECIAL[:4]), *data, *words, *others, *letters, (SPECIAL[4], 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(list(SPECIAL))
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=ends)
    return tokenizer


def word_piece(tmp_path: Path) -> Tokenizer:
    """BERT's kind, as its own class writes it; ``z`` has a piece, ``##z`` has not."""
    write_checkpoint(tmp_path, "bert", vocabulary=("never", "nothing", "##ing", "##re", "azz", "##zle"))
    return read_checkpoint(str(tmp_path), "embedding").tokenizer.backend


def used_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> set[int]:
    return {row for text in texts for row in tokenizer.encode(text).ids}


TEXTS = st.lists(
    st.sampled_from([*WORDS, *KNOWN, "never", "nothing", "zoo", "z", "azzle", "q", "\u00e9", "rarest", "thing"]),
    max_size=8,
)


@pytest.mark.parametrize("kind", ["word pieces", "unigram", "unigram with bytes"])
def test_texts_of_kept_tokens_have_the_same_tokens(tmp_path: Path, kind: str) -> None:
    whole = word_piece(tmp_path) if kind == "word pieces" else unigram(kind.endswith("bytes"))
    vocabulary = prune_tokenizer("x", whole, used_tokens(whole, KNOWN))
    pruned, kept = vocabulary.tokenizer, set(vocabulary.kept)
    assert len(kept) < whole.get_vocab_size(with_added_tokens=True) - 10
    assert pruned.get_vocab_size(with_added_tokens=True) == len(kept)
    unknown = whole.token_to_id("[UNK]" if kind == "word pieces" else "<unk>")

    @given(words=TEXTS, second=TEXTS)
    @settings(max_examples=60, deadline=None)
    def check(words: list[str], second: list[str]) -> None:
        text, pair = " ".join(words), " ".join(second)
        for encoded in (lambda tokenizer: tokenizer.encode(text), lambda tokenizer: tokenizer.encode(text, pair)):
            before, after = encoded(whole), encoded(pruned)
            old_ids = [vocabulary.kept[row] for row in after.ids]
            if set(before.ids) <= kept:
                assert old_ids == before.ids
                assert (after.tokens, after.type_ids) == (before.tokens, before.type_ids)
            assert old_ids.count(unknown) <= before.ids.count(unknown)

    check()
    for text in KNOWN:
        assert pruned.encode(text).tokens == whole.encode(text).tokens


def test_tokens_that_are_merged_from_others_cannot_go(tmp_path: Path) -> None:
    backend = read_checkpoint(str(write_checkpoint(tmp_path, "roberta")), "embedding").tokenizer.backend
    with pytest.raises(CheckpointError, match=r"is for WordPiece and Unigram tokenizers, and this is 'BPE'"):
        prune_tokenizer("x", backend, set())


@pytest.mark.parametrize("case", ["bert", "xlm-roberta"])
def test_the_network_computes_the_same_of_texts_of_kept_tokens(tmp_path: Path, case: str) -> None:
    folder = write_checkpoint(tmp_path, case)
    if case == "xlm-roberta":
        unigram().save(str(folder / "tokenizer.json"))
    whole = read_checkpoint(str(folder), "embedding")
    backend = whole.tokenizer.backend
    pruned = prune_checkpoint(whole, prune_tokenizer("x", backend, used_tokens(backend, KNOWN)))
    assert pruned.dimensions.vocab_size == len(pruned.tensors["embeddings.word"]) < whole.dimensions.vocab_size
    outputs = []
    for checkpoint in (whole, pruned):
        network = Supernet(checkpoint.tensors, checkpoint.dimensions)
        examples = [Example(KNOWN[0]), Example(KNOWN[1], KNOWN[2])]
        feeds = encode(checkpoint.tokenizer.backend, examples, 20).feeds(range(2))
        with torch.no_grad():
            batch = {name: torch.from_numpy(values) for name, values in feeds.items()}
            outputs.append(network(batch, checkpoint.dimensions.full_subnet))
    assert torch.equal(*outputs)
    pruned.tokenizer.save(tmp_path / "saved")
    again = Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    assert again.encode(KNOWN[1]).ids == pruned.tokenizer.backend.encode(KNOWN[1]).ids
