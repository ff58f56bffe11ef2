"""Weights are the same whoever wrapped them; what is no weights, or of no use, is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ortnas.export.extraction import extract
from ortnas.export.graph.model import float_model
from ortnas.export.inference import load, run
from ortnas.export.size import SIZE_ERROR_BYTES, subnet_bytes
from ortnas.export.weights import read_supernet
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.supernet import Supernet, save_supernet
from tests.nas.training.checkpoint.test_reading import change_config
from tests.networks import make_space, random_feeds, write_checkpoint

LABELS = ("LABEL_0", "LABEL_1", "LABEL_2")


def rewrite(folder: Path) -> dict[str, torch.Tensor]:
    """Takes the weights out of a folder."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return state


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "deberta-v2"])
@pytest.mark.parametrize("head", ["embedding", "classification"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.encoder."])
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


def test_compiled_parts_are_the_same(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert", "classification")
    expected = read_checkpoint(str(folder), "classification", LABELS)
    state = rewrite(folder)
    save_file(
        {key.replace("bert.encoder.", "bert.encoder._orig_mod."): value for key, value in state.items()},
        folder / "model.safetensors",
    )
    compiled = read_checkpoint(str(folder), "classification", LABELS)
    assert compiled.head_is_trained
    assert not compiled.notes
    assert all(torch.equal(compiled.tensors[name], tensor) for name, tensor in expected.tensors.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["safetensors", "bin", "shards of bin"])
def test_half_precision_is_read_as_it_is_stored(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    folder = write_checkpoint(tmp_path, "bert", "masked-lm")
    expected = read_checkpoint(str(folder), "masked-lm").tensors
    state = {key: value.to(dtype) for key, value in rewrite(folder).items()}
    names = sorted(state)
    if kind == "safetensors":
        save_file(state, folder / "model.safetensors")
    elif kind == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        parts = {"pytorch_model-1-of-2.bin": names[::3], "pytorch_model-2-of-2.bin": sorted({*names} - {*names[::3]})}
        for file, part in parts.items():
            torch.save({name: state[name] for name in part}, folder / file)
        index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    tensors = read_checkpoint(str(folder), "masked-lm").tensors
    for name, tensor in expected.items():
        assert tensors[name].dtype == torch.float32
        assert torch.equal(tensors[name], tensor.to(dtype).float()), name


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_a_pickle_executes_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    state = rewrite(folder)
    for case in ("beside the tensors", "in place of one"):
        trap = {"trap": Trap(tmp_path / "sprung")}
        torch.save(state | trap if case == "beside the tensors" else trap, folder / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="holds more than tensors, and nothing else is loaded"):
            read_checkpoint(str(folder), "embedding")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("case", ["alone", "beside the model", "in the weights"])
def test_adapters_have_to_be_merged(tmp_path: Path, case: str) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    if case == "in the weights":
        state = rewrite(folder)
        state["encoder.layer.0.attention.self.query.lora_A.default.weight"] = torch.ones(4, 32)
        save_file(state, folder / "model.safetensors")
    else:
        settings = {"peft_type": "LORA", "base_model_name_or_path": "some/base"}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        save_file({"base_model.model.x.lora_A.weight": torch.ones(4, 32)}, folder / "adapter_model.safetensors")
    if case == "alone":
        for name in ("config.json", "model.safetensors"):
            (folder / name).unlink()
    of = "" if case == "in the weights" else " of 'some/base'"
    with pytest.raises(CheckpointError, match=rf"it is an adapter{of} that is not merged .* merge_and_unload\(\)"):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.parametrize("rows", [90, 130])
def test_a_table_that_was_resized_without_the_configuration_is_named(tmp_path: Path, rows: int) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    state = rewrite(folder)
    own = len(state["embeddings.word_embeddings.weight"])
    state["embeddings.word_embeddings.weight"] = torch.randn(rows, 32)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=rf"has {rows} rows, and config.json says vocab_size = {own}; .* to {rows}"
    ):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.slow
def test_a_table_with_more_rows_than_tokens_works_and_is_told(tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain", "bert", "masked-lm")
    model = transformers.AutoModelForMaskedLM.from_pretrained(plain)
    tokens = model.config.vocab_size
    model.resize_token_embeddings(pad_to_multiple_of=64)
    padded = tmp_path / "padded"
    shutil.copytree(plain, padded)
    model.save_pretrained(padded)
    before, after = (read_checkpoint(str(folder), "masked-lm") for folder in (plain, padded))
    assert after.dimensions.vocab_size == 128
    assert any(
        note.startswith(f"the tokenizer has {tokens:,} tokens and the word table 128 rows") for note in after.notes
    )
    batch = {name: torch.from_numpy(feeds) for name, feeds in random_feeds(before.dimensions).items()}
    with torch.no_grad():
        ours, theirs = (
            Supernet(each.tensors, each.dimensions)(batch, each.dimensions.full_subnet) for each in (before, after)
        )
    torch.testing.assert_close(theirs[..., :tokens], ours)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2"])
def test_a_decoder_of_its_own_is_the_networks(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", family, "masked-lm", tie_word_embeddings=False)
    checkpoint = read_checkpoint(str(folder), "masked-lm")
    dimensions, space = checkpoint.dimensions, make_space(num_layers=2, depth=(1, 2))
    assert dimensions.has_own_decoder
    feeds = random_feeds(dimensions)
    batch = {name: torch.from_numpy(values) for name, values in feeds.items()}
    network, mask = Supernet(checkpoint.tensors, dimensions), feeds["attention_mask"] == 1
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    names = {"input_ids", "attention_mask"} | ({"token_type_ids"} if dimensions.token_types > 1 else set())
    with torch.no_grad():
        expected = model(**{name: batch[name] for name in names}).logits[mask]
        torch.testing.assert_close(network(batch, dimensions.full_subnet)[mask], expected, atol=1e-4, rtol=1e-4)
    tensors = {name: tensor.detach().numpy() for name, tensor in network.tensors.items()}
    for subnet in (dimensions.full_subnet, space.smallest):
        exported = float_model(tensors, dimensions, subnet).SerializeToString()
        with torch.no_grad():
            wanted = network(batch, subnet).numpy()[mask]
        np.testing.assert_allclose(run(load(exported), feeds)[mask], wanted, atol=1e-4)
        assert abs(len(exported) - subnet_bytes(dimensions, subnet, None)) < SIZE_ERROR_BYTES
    checkpoint.tokenizer.save(tmp_path / "tokenizer")
    save_supernet(tmp_path / "net", network, space, (), tmp_path / "tokenizer", {})
    extract(read_supernet(tmp_path / "net"), dimensions.full_subnet, tmp_path / "out", 20)
    extracted = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        theirs = extracted(**{name: batch[name] for name in names}).logits[mask]
    torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=1e-5)


def test_a_decoder_that_contradicts_the_configuration_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert", "masked-lm", tie_word_embeddings=False)
    change_config(folder, tie_word_embeddings=True)
    with pytest.raises(CheckpointError, match=r"differs from the word embeddings, to which config\.json ties it"):
        read_checkpoint(str(folder), "masked-lm")
    assert not read_checkpoint(str(folder), "embedding").notes
    change_config(folder, tie_word_embeddings=False)
    state = rewrite(folder)
    del state["cls.predictions.decoder.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lack cls\.predictions\.decoder\.weight, the masked-LM decoder"):
        read_checkpoint(str(folder), "masked-lm")


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
