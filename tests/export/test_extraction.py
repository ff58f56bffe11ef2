from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ortnas.export.extraction import extract, obstacles
from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.supernet import Supernet, open_checkpoint, save_supernet
from tests.networks import make_space, random_tensors, space_of, write_checkpoint

LABELS = {"classification": ("bad", "good", "mixed"), "token-classification": ("O", "B-X", "I-X")}


def fitting(dimensions: Dimensions) -> Subnet:
    """Two of the layers, half of the heads: a shape that transformers has."""
    heads = dimensions.num_heads // 2
    layers = tuple(Layer(source, heads, dimensions.head_size, 24) for source in (0, dimensions.num_layers - 1))
    return Subnet(heads * dimensions.head_size, layers)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"xlm-roberta", "camembert"}))
@pytest.mark.parametrize("head", [head for head, row in HEADS.items() if not row.makes_token_vectors])
def test_an_extracted_subnet_is_the_same_network_in_transformers(tmp_path: Path, family: str, head: str) -> None:
    source = write_checkpoint(tmp_path / "source", family, head)
    checkpoint = read_checkpoint(str(source), head, LABELS.get(head, ()))
    dimensions = checkpoint.dimensions
    tensors = {name: torch.from_numpy(value) for name, value in random_tensors(dimensions, 3).items()}
    for name in FAMILIES[family].shared:
        # Of the same heads, in an order of each layer's own.
        tensors[f"layers.1.{name}"] = tensors[f"layers.0.{name}"].roll(1, -1)
        tensors[f"layers.1.{name}"][:, :2] = tensors[f"layers.0.{name}"][:, :2].flip(-1)
    supernet = Supernet(tensors, dimensions)
    checkpoint.tokenizer.save(tmp_path / "tokenizer")
    save_supernet(tmp_path / "net", supernet, space_of(dimensions), checkpoint.labels, tmp_path / "tokenizer", {})
    subnet = fitting(dimensions)
    extract(read_supernet(tmp_path / "net"), subnet, tmp_path / "out", max_length=32)

    model = getattr(transformers, FAMILIES[family].class_name(head)).from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    batch = tokenizer(["the is a to", "in"], ["he was", "it"], return_tensors="pt", padding=True)
    mask = batch["attention_mask"]
    types = batch.get("token_type_ids", torch.zeros_like(mask))
    ours = {"input_ids": batch["input_ids"], "attention_mask": mask, "token_type_ids": types}
    if "token_type_ids" in batch and dimensions.token_types == 1:
        del batch["token_type_ids"]
    with torch.no_grad():
        theirs = model(**batch)
        if head == "embedding":
            embedded = supernet.look_up(ours["input_ids"], types)
            expected, output = supernet.encode(embedded, mask, subnet).hidden, theirs.last_hidden_state
        elif head == "span":
            expected, output = supernet(ours, subnet), torch.stack([theirs.start_logits, theirs.end_logits], -1)
        elif head == "sparse":
            weights = (torch.log1p(theirs.logits.relu()) * mask[..., None]).amax(1)
            expected, output = supernet(ours, subnet), weights
        else:
            expected, output = supernet(ours, subnet), theirs.logits
    if expected.ndim == 3:
        expected, output = expected[mask.bool()], output[mask.bool()]
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    if head in LABELS:
        assert tuple(model.config.id2label.values()) == LABELS[head]


def test_layers_that_share_no_table_any_more_are_refused(tmp_path: Path) -> None:
    supernet = open_checkpoint(str(write_checkpoint(tmp_path / "source", "mpnet")), "embedding", tmp_path / "net")
    tensors = {name: tensor.copy() for name, tensor in supernet.tensors.items()}
    tensors["layers.1.position_bias.weight"][3, 1] += 1
    changed = replace(supernet, tensors=tensors)
    with pytest.raises(SpaceError, match=r"have one encoder\.relative_attention_bias\.weight each"):
        extract(changed, supernet.dimensions.full_subnet, tmp_path / "out", 32)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_positions_are_counted_from_the_checkpoints_own_padding(tmp_path: Path, padding: int) -> None:
    source = write_checkpoint(tmp_path / "source", "roberta", "embedding", pad_token_id=padding)
    supernet = open_checkpoint(str(source), "embedding", tmp_path / "net")
    full = supernet.dimensions.full_subnet
    extract(supernet, full, tmp_path / "out", max_length=32)
    before, after = (transformers.AutoModel.from_pretrained(folder).eval() for folder in (source, tmp_path / "out"))
    assert after.config.pad_token_id == padding
    batch = {"input_ids": torch.arange(5, 25)[None], "attention_mask": torch.ones(1, 20, dtype=torch.long)}
    with torch.no_grad():
        expected, output = before(**batch).last_hidden_state, after(**batch).last_hidden_state
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


def test_an_embedding_model_carries_pooling_and_projection_for_sentence_transformers(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", "bert", "embedding")
    supernet = open_checkpoint(str(source), "embedding", tmp_path / "net", pooling="cls")
    subnet = fitting(supernet.dimensions)
    extract(supernet, subnet, tmp_path / "out", max_length=32)
    from safetensors.numpy import load_file

    weight = load_file(tmp_path / "out" / "2_Dense" / "model.safetensors")["linear.weight"]
    np.testing.assert_array_equal(weight, np.eye(supernet.dimensions.hidden_size)[:, : subnet.hidden_size])
    assert '"pooling_mode_cls_token": true' in (tmp_path / "out" / "1_Pooling" / "config.json").read_text()


def test_shapes_that_transformers_lacks_are_refused_with_every_reason(tmp_path: Path) -> None:
    dimensions = read_checkpoint(str(write_checkpoint(tmp_path, "bert", "embedding")), "embedding").dimensions
    size = dimensions.head_size
    mixed = Subnet(2 * size, (Layer(0, 2, size, 24), Layer(1, 1, size, 32)))
    reasons = " ".join(obstacles(dimensions, mixed))
    assert "differ in heads (2, 1)" in reasons
    assert "differ in FFN size (24, 32)" in reasons
    assert f"needs the hidden size {2 * size}" in reasons
    assert obstacles(dimensions, fitting(dimensions)) == []
    folder = SupernetFolder(tmp_path, dimensions, make_space(), {}, (), {}, "")
    with pytest.raises(SpaceError, match="is no transformers model: its layers differ"):
        extract(folder, mixed, tmp_path / "never", 32)
    assert not (tmp_path / "never").exists()
