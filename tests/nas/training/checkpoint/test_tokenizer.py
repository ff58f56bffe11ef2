"""The tokenizer of a run is the checkpoint's own file, for every family and kind, and so is a package's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.failures import CheckpointError
from ortnas.nas.text import load_tokenizer
from ortnas.nas.training.checkpoint.reading import read_text_settings
from tests.nas.training.checkpoint.test_reading import change_config
from tests.networks import write_checkpoint

CLASSES = {
    "bert": "BertTokenizer",
    "roberta": "RobertaTokenizerFast",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "distilbert": "DistilBertTokenizerFast",
    "electra": "ElectraTokenizer",
    "mpnet": "MPNetTokenizerFast",
    "modernbert": "PreTrainedTokenizerFast",
    "deberta-v2": "DebertaV2Tokenizer",
    "jina_embeddings_v3": "XLMRobertaTokenizer",
}
TEXTS = ("The of", "the THE Of", "na\u00efve \u00dcber", "a-b, c?", "", "  two  blanks ")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_pieces(framed: bool = True, lower: bool = False, first: tuple[str, ...] = SPECIAL) -> Tokenizer:
    """A cased tokenizer of word pieces."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = dict.fromkeys([*first, *letters, *(f"##{letter}" for letter in letters), "The", "the", "of", "Of"])
    tokenizer = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if framed:
        ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
        )
    return tokenizer


def with_tokenizer(folder: Path, family: str, tokenizer: Tokenizer, **settings: Any) -> Path:
    """A checkpoint with a tokenizer of one's own."""
    write_checkpoint(folder, family, vocab_size=400)
    for path in folder.glob("*vocab*"):
        path.unlink()
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**roles, "mask_token": "[MASK]", "tokenizer_class": CLASSES[family]} | settings)
    )
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_decides_and_what_is_written_is_read_as_it_by_transformers(tmp_path: Path, family: str) -> None:
    own = word_pieces()
    folder = with_tokenizer(tmp_path / "checkpoint", family, own)
    settings = read_text_settings(str(folder), "embedding")
    settings.tokenizer.save(tmp_path / "out")
    change_config(folder)
    (tmp_path / "out" / "config.json").write_text((folder / "config.json").read_text())
    ours, theirs = load_tokenizer(tmp_path / "out"), transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS:
        assert ours.encode(text).ids == own.encode(text).ids
        assert theirs(text)["input_ids"] == own.encode(text).ids
    pair = own.encode("The of", "a-b")
    assert ours.encode("The of", "a-b").ids == theirs("The of", "a-b")["input_ids"] == pair.ids


@pytest.mark.skipif(
    int(transformers.__version__.partition(".")[0]) < 5,
    reason="transformers 4 takes tokenizer.json as it is, whatever its class, so that there is nothing to tell",
)
def test_a_tokenizer_of_another_class_is_told_with_a_text_as_proof(tmp_path: Path) -> None:
    folder = with_tokenizer(tmp_path, "roberta", word_pieces(first=("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")))
    notes = read_text_settings(str(folder), "embedding").tokenizer.notes
    assert any("makes '[CLS] The of [SEP]' of 'The of'" in note and "tokenizer.json decides" in note for note in notes)


@pytest.mark.parametrize("has_file", [True, False])
def test_mpnets_word_pieces_have_robertas_special_tokens(tmp_path: Path, has_file: bool) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "mpnet", vocab_size=400)
    for path in folder.glob("*token*"):
        path.unlink()
    letters = "abcdefghijklmnopqrstuvwxyz-,"
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *letters, *(f"##{letter}" for letter in letters), "the", "of"]
    vocabulary = {piece: row for row, piece in enumerate([*pieces, "[UNK]", "<mask>"])}
    own = transformers.MPNetTokenizer(vocabulary)
    own.save_pretrained(folder)
    if not has_file:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = read_text_settings(str(folder), "masked-lm").tokenizer
    assert tokenizer.input_names == ("input_ids", "attention_mask")
    assert (tokenizer.roles["unk_token"], tokenizer.token_id("pad_token")) == ("[UNK]", 1)
    for text in (*TEXTS, "the <mask> of 5"):
        assert tokenizer.backend.encode(text).ids == own(text)["input_ids"]
    assert tokenizer.backend.encode("the", "of").tokens == ["<s>", "the", "</s>", "</s>", "of", "</s>"]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_special_tokens_are_put_around_a_text_where_nothing_else_does(tmp_path: Path, family: str) -> None:
    folder = with_tokenizer(tmp_path, family, word_pieces(framed=False), tokenizer_class="PreTrainedTokenizerFast")
    tokenizer = read_text_settings(str(folder), "embedding").tokenizer
    assert tokenizer.backend.encode("The of").tokens == ["[CLS]", "The", "of", "[SEP]"]
    pair = ["[CLS]", "The", "[SEP]", *(["[SEP]"] if family == "roberta" else []), "of", "[SEP]"]
    assert tokenizer.backend.encode("The", "of").tokens == pair
    assert any("puts no special tokens around a text" in note for note in tokenizer.notes)


def test_padding_and_truncation_in_the_file_are_left_out(tmp_path: Path) -> None:
    own = word_pieces()
    own.enable_truncation(4)
    own.enable_padding(length=9)
    folder = with_tokenizer(tmp_path, "bert", own)
    assert len(read_text_settings(str(folder), "embedding").tokenizer.backend.encode("a b c d e f").ids) == 8


def test_sizes_and_ids_that_differ_from_the_models_are_told(tmp_path: Path) -> None:
    folder = with_tokenizer(tmp_path, "bert", word_pieces())
    change_config(folder, pad_token_id=3, sep_token_id=3)
    size, padding = read_text_settings(str(folder), "embedding").tokenizer.notes[-2:]
    assert size.startswith(f"the tokenizer has {word_pieces().get_vocab_size()} tokens and the word table 400 rows")
    assert padding.startswith("config.json says pad_token_id = 3, and the tokenizer's [PAD] is 0")


def test_a_vocabulary_of_thirty_is_no_fault(tmp_path: Path) -> None:
    """Models of proteins have a letter for each amino acid."""
    letters = "LAGVSERTIDPKQNFYMHWCXBUZO"
    tokenizer = Tokenizer(models.WordLevel({piece: row for row, piece in enumerate([*SPECIAL, *letters])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ids = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    folder = with_tokenizer(tmp_path, "bert", tokenizer)
    assert read_text_settings(str(folder), "embedding").tokenizer.backend.encode("L A").tokens[1:3] == ["L", "A"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer cannot be read"),
        (lambda folder: (folder / "tokenizer.json").write_text("[" * 3000), "tokenizer cannot be read"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[]"), "tokenizer_config.json holds no object"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "the folder holds no tokenizer"),
    ],
)
def test_tokenizers_that_cannot_be_read_get_a_sentence(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = with_tokenizer(tmp_path, "bert", word_pieces())
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        read_text_settings(str(folder), "embedding")
