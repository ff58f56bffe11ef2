"""Folders of PyLate are read where packages compute the same, and refused by name elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.reading import read_checkpoint, read_text_settings
from ortnas.nas.training.checkpoint.stated_head import stated_heads
from tests.networks import write_checkpoint

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


def test_folders_of_stanford_are_refused_with_the_way_out(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    (tmp_path / "artifact.metadata").write_text("{}")
    with pytest.raises(CheckpointError, match=r"artifact\.metadata is of a ColBERT folder of Stanford's"):
        read_checkpoint(str(tmp_path), "late-interaction")
