"""Weights are the same whoever wrapped them; what is no weights, or of no use, is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from tests.nas.training.checkpoint.test_reading import change_config
from tests.networks import write_checkpoint

LABELS = ("LABEL_0", "LABEL_1", "LABEL_2")


def rewrite(folder: Path) -> dict[str, torch.Tensor]:
    """Takes the weights out of a folder."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return state


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
@pytest.mark.parametrize("head", ["embedding", "classification"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.encoder."])
def test_wrapped_weights_are_the_same(tmp_path: Path, family: str, head: str, prefix: str) -> None:
    folder = write_checkpoint(tmp_path, family, head)
    labels = LABELS if head == "classification" else ()
    expected = read_checkpoint(str(folder), head, labels)
    state = {f"{prefix}{key}": tensor for key, tensor in rewrite(folder).items()}
    save_file(state, folder / "model.safetensors")
    wrapped = read_checkpoint(str(folder), head, labels)
    assert wrapped.head_is_trained
    assert all(torch.equal(wrapped.tensors[name], tensor) for name, tensor in expected.tensors.items())


def test_shards_and_pickles_of_tensors_are_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    expected = read_checkpoint(str(folder), "embedding").tensors
    state = rewrite(folder)
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = read_checkpoint(str(folder), "embedding").tensors
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the shard b\.safetensors"):
        read_checkpoint(str(folder), "embedding")
    (folder / "model.safetensors.index.json").unlink()
    old = {key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
           for key, value in state.items()}  # fmt: skip
    torch.save(old, folder / "pytorch_model.bin")
    pickled = read_checkpoint(str(folder), "embedding").tensors
    for name, tensor in expected.items():
        assert torch.equal(sharded[name], tensor)
        assert torch.equal(pickled[name], tensor)


def test_layers_that_the_configuration_leaves_out_are_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert", "classification")
    assert not read_checkpoint(str(folder), "classification", LABELS).notes
    change_config(folder, num_hidden_layers=1)
    (note,) = read_checkpoint(str(folder), "classification", LABELS).notes
    assert note == (
        "config.json has no place for weights of the checkpoint, which are not used: "
        "bert.encoder.layer.1.attention.output.LayerNorm.bias and 15 more"
    )


def test_weights_of_other_heads_are_no_loss(tmp_path: Path) -> None:
    for number, head in enumerate(("classification", "span", "masked-lm")):
        folder = write_checkpoint(tmp_path / str(number), "electra", head)
        assert not read_checkpoint(str(folder), "embedding").notes


def spoil(folder: Path, case: str) -> None:
    state = rewrite(folder)
    target, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if case == "pointer":
        pickled.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 440\n")
    elif case == "safe pointer":
        target.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 440\n")
    elif case == "objects":
        torch.save({"model": Path("x"), **state}, pickled)
    elif case == "list":
        torch.save(list(state.values()), pickled)
    elif case == "numbers":
        torch.save({**state, "step": 3}, pickled)
    elif case == "cut":
        save_file(state, target)
        target.write_bytes(target.read_bytes()[:-1000])
    elif case == "framework":
        (folder / "tf_model.h5").write_bytes(b"x")
    elif case == "two encoders":
        save_file(
            {f"{part}.{key}": value.clone() for part in ("left", "right") for key, value in state.items()}, target
        )
    elif case == "integers":
        save_file({key: value.to(torch.int8) if value.ndim == 2 else value for key, value in state.items()}, target)
    elif case == "foreign":
        save_file({"wte.weight": torch.zeros(3, 3)}, target)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("pointer", "pytorch_model.bin is a Git LFS pointer"),
        ("safe pointer", "model.safetensors is a Git LFS pointer"),
        ("objects", "holds more than tensors"),
        ("list", "holds a list, not a state dict"),
        ("numbers", "holds 'step', a int; only tensors"),
        ("cut", "weights cannot be read: model.safetensors"),
        ("framework", "tf_model.h5 is of another framework"),
        ("missing", "holds neither model.safetensors nor pytorch_model.bin"),
        ("two encoders", "more than one encoder: left.*right"),
        ("integers", "holds int8; give the checkpoint before it was quantized"),
        ("foreign", "lack embeddings.word_embeddings.weight.*they hold wte.weight"),
    ],
)
def test_weights_that_cannot_be_used_get_a_sentence(tmp_path: Path, case: str, message: str) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    spoil(folder, case)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")
