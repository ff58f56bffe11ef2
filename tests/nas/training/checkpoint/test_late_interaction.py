"""Folders of PyLate are read where packages compute the same, and refused by name elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.reading import read_checkpoint, read_text_settings
from ortnas.nas.training.checkpoint.stated_head import stated_heads
from tests.networks import write_checkpoint

WEIGHTS = "model.safetensors"
DENSE = {
    "in_features": 32,
    "out_features": 24,
    "bias": False,
    "activation_function": "torch.nn.modules.linear.Identity",
}
MODEL = {
    "model_type": "ColBERT",
    "query_prefix": "[Q] ",
    "document_prefix": "[D] ",
    "query_length": 12,
    "document_length": 20,
    "do_query_expansion": True,
    "attend_to_expansion_tokens": False,
    "skiplist_words": ["the", "of"],
}


def write_late_interaction(folder: Path, kinds: tuple[str, ...] = ("Dense.Dense",), **changes: Any) -> Path:
    """A folder as PyLate writes it; ``changes`` are of the Dense layer, or in the model's file."""
    write_checkpoint(folder, "bert")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [tokenizer.token_to_id(word) for word in ("[Q]", "[D]")]
    assert ids == [None, None]
    # As many words as the table has: prefixes take the places of two.
    document = json.loads(tokenizer.to_str())
    words = document["model"]["vocab"]
    for word in sorted(words, key=lambda name: words[name])[-2:]:
        del words[word]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens([AddedToken("[Q] ", normalized=False), AddedToken("[D] ", normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    types = ["sentence_transformers.models.Transformer", *(f"pylate.models.{kind}" for kind in kinds)]
    paths = ["", *(f"{number}_Dense" for number in range(1, len(types)))]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    model = MODEL | {key: value for key, value in changes.items() if key in MODEL}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(model))
    (folder / "1_Dense").mkdir()
    dense = DENSE | {key: value for key, value in changes.items() if key not in MODEL}
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    weight = torch.randn(24, 32, generator=torch.Generator().manual_seed(5))
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    return folder


def test_a_folder_says_how_texts_and_queries_are_read(tmp_path: Path) -> None:
    write_late_interaction(tmp_path)
    checkpoint = read_checkpoint(str(tmp_path), "late-interaction")
    assert checkpoint.dimensions.embedding_size == 24
    assert checkpoint.tensors["head.dense.weight"].shape == (24, 32)
    assert not checkpoint.tensors["head.dense.bias"].any()
    queries = checkpoint.usage["late_interaction"]
    assert queries["query_length"] == 12
    assert queries["skiplist_words"] == ["the", "of"]
    settings = read_text_settings(str(tmp_path), "late-interaction")
    assert (settings.max_length, settings.prompt) == (20, "[D] ")
    assert stated_heads(str(tmp_path)) == ("late-interaction",)


def test_a_bare_encoder_has_no_dense_layer_and_says_so(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(str(write_checkpoint(tmp_path, "bert")), "late-interaction")
    assert torch.equal(checkpoint.tensors["head.dense.weight"], torch.eye(32))
    assert any("without a Dense layer" in note for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("Dense.Dense", "Dense.Dense")}, "modules.json lists"),
        ({"activation_function": "torch.nn.modules.activation.Tanh"}, "has the activation"),
        ({"use_residual": True}, "has use_residual"),
        ({"in_features": 31}, "goes from 31 to 24 numbers; 32 come in"),
        ({"out_features": 23}, "hold no linear.weight of"),
        ({"query_length": "long"}, "query_length = 'long'"),
        ({"query_prefix": "the of "}, "is not one token"),
        ({"skiplist_words": "the"}, "skiplist_words = 'the'"),
    ],
)
def test_other_vectors_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_late_interaction(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path), "late-interaction")


ARTIFACT = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "query_token": "[Q]",
    "query_maxlen": 12,
    "doc_maxlen": 20,
    "dim": 24,
    "similarity": "cosine",
    "interaction": "colbert",
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
}


def write_stanford(folder: Path, **changes: Any) -> Path:
    """A folder as Stanford's ColBERT writes it; keys of the artifact that are changed to None are left out."""
    write_checkpoint(folder, "bert")
    document = json.loads((folder / "tokenizer.json").read_text())
    words = document["model"]["vocab"]
    last = sorted(words, key=lambda name: words[name])[-4:]
    for new, old in zip(("[unused0]", "[unused1]", ".", "!"), last, strict=True):
        words[new] = words.pop(old)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    state = {
        key if key.startswith("bert.") else f"bert.{key}": tensor for key, tensor in load_file(folder / WEIGHTS).items()
    }
    weight = torch.randn(24, 32, generator=torch.Generator().manual_seed(5))
    save_file(state | {"linear.weight": weight}, folder / WEIGHTS, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    artifact = {key: value for key, value in (ARTIFACT | changes).items() if value is not None}
    (folder / "artifact.metadata").write_text(json.dumps(artifact))
    return folder


def test_a_folder_of_stanford_says_how_texts_and_queries_are_read(tmp_path: Path) -> None:
    write_stanford(tmp_path)
    checkpoint = read_checkpoint(str(tmp_path), "late-interaction")
    assert torch.equal(checkpoint.tensors["head.dense.weight"], load_file(tmp_path / WEIGHTS)["linear.weight"])
    assert not checkpoint.tensors["head.dense.bias"].any()
    assert not any("linear.weight" in note or "Dense" in note for note in checkpoint.notes)
    queries = checkpoint.usage["late_interaction"]
    assert (queries["query_length"], queries["do_query_expansion"]) == (12, True)
    assert "!" in queries["skiplist_words"]
    settings = read_text_settings(str(tmp_path), "late-interaction")
    assert (settings.max_length, settings.prompt) == (20, "[unused1] ")
    assert settings.tokenizer.backend.encode("[unused1] the").tokens == ["[CLS]", "[unused1]", "the", "[SEP]"]
    assert stated_heads(str(tmp_path)) == ("late-interaction",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_maxlen": None, "mask_punctuation": None}, "tells query_maxlen, mask_punctuation: how texts"),
        ({"doc_maxlen": 2}, "doc_maxlen = 2"),
        ({"similarity": "l2"}, "similarity = 'l2'"),
        ({"query_token_id": "[nowhere]"}, r"marks texts by '\[nowhere\]'"),
        ({"dim": 23}, "the checkpoint hold no linear.weight of"),
    ],
)
def test_what_an_artifact_does_not_tell_is_not_guessed(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_stanford(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path), "late-interaction")


def test_a_dense_layer_without_its_artifact_is_no_bare_encoder(tmp_path: Path) -> None:
    write_stanford(tmp_path)
    (tmp_path / "artifact.metadata").unlink()
    assert stated_heads(str(tmp_path)) == ("late-interaction",)
    with pytest.raises(CheckpointError, match=r"no artifact\.metadata beside it tells query_token_id"):
        read_checkpoint(str(tmp_path), "late-interaction")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(CheckpointError, match=r"its weights hold linear\.weight, a layer behind the encoder"):
        read_checkpoint(str(tmp_path), "late-interaction")


def test_queries_are_not_filled_up_without_a_mask_token(tmp_path: Path) -> None:
    write_late_interaction(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text().replace("[MASK]", "[OTHER]")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="has no mask token"):
        read_checkpoint(str(tmp_path), "late-interaction")
