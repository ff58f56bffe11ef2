"""Subnets against transformers' own BERT, which shares no code with the supernet; full networks: test_checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ortnas.export.graph.model import float_model
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.presets import preset
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from ortnas.nas.text import load_tokenizer
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.supernet import Supernet, open_checkpoint
from ortnas.nas.training.torch_ops import plain_linear
from tests.networks import (
    SHAPES,
    make_dimensions,
    make_space,
    random_feeds,
    random_subnets,
    random_tensors,
    space_of,
)


def make_network(head: str, **changes: object) -> Supernet:
    dimensions = make_dimensions(head, **changes)
    return Supernet({name: torch.from_numpy(value) for name, value in random_tensors(dimensions).items()}, dimensions)


def as_batch(feeds: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


def hidden_states(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch).last_hidden_state


def encoded(supernet: Supernet, batch: dict[str, torch.Tensor], subnet: Subnet) -> torch.Tensor:
    with torch.no_grad():
        embedded = supernet.look_up(batch["input_ids"], batch["token_type_ids"])
        return supernet.encode(embedded, batch["attention_mask"], subnet).hidden


def test_subnet_equals_the_network_that_is_cut_out(bert_folder: Path) -> None:
    """A smaller BERT of transformers, filled with the slices by hand, computes the same."""
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    subnet = Subnet(16, (Layer(1, 2, 8, 40),))
    config = transformers.BertConfig.from_pretrained(bert_folder)
    config.update({"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40})
    small = transformers.BertModel(config, add_pooling_layer=False).eval()
    full = transformers.BertModel.from_pretrained(bert_folder).state_dict()
    state = {}
    for name, tensor in small.state_dict().items():
        source = full[name.replace("layer.0.", "layer.1.")]
        # Heads are contiguous blocks of 8 rows here, so the first 16 rows are the first two heads.
        state[name] = source[tuple(slice(size) for size in tensor.shape)]
    small.load_state_dict(state)
    batch = as_batch(random_feeds(checkpoint.dimensions))
    mask = batch["attention_mask"].bool()
    hidden = encoded(Supernet(checkpoint.tensors, checkpoint.dimensions), batch, subnet)
    torch.testing.assert_close(hidden[mask], hidden_states(small, batch)[mask], atol=1e-5, rtol=0)


def test_padding_does_not_change_the_output(bert_folder: Path) -> None:
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    supernet = Supernet(checkpoint.tensors, checkpoint.dimensions)
    feeds = random_feeds(checkpoint.dimensions, batch=1, sequence=6)
    padded = {name: np.pad(array, ((0, 0), (0, 5))) for name, array in feeds.items()}
    subnet = make_space(num_layers=2, depth=(2,)).smallest
    with torch.no_grad():
        torch.testing.assert_close(
            supernet(as_batch(feeds), subnet), supernet(as_batch(padded), subnet), atol=1e-6, rtol=0
        )


def test_an_opened_checkpoint_is_a_supernet_folder_of_the_same_weights(tmp_path: Path, bert_folder: Path) -> None:
    checkpoint, name = read_checkpoint(str(bert_folder), "embedding"), str(bert_folder)
    supernet = open_checkpoint(name, "embedding", tmp_path / "net")
    assert supernet.space == preset("default", checkpoint.dimensions)
    assert (supernet.dimensions, supernet.provenance) == (
        checkpoint.dimensions,
        {"checkpoint": name, "activation": None, "prompts": {}, "default_prompt": None, "similarity": None},
    )
    for key, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(supernet.tensors[key], tensor)
    own, theirs = load_tokenizer(tmp_path / "net"), load_tokenizer(bert_folder)
    assert own.encode("the cat is in").ids == theirs.encode("the cat is in").ids
    space = make_space(num_layers=2, depth=(1, 2))
    assert open_checkpoint(name, "classification", tmp_path / "net", space, ("no", "yes")).labels == ("no", "yes")
    assert read_supernet(tmp_path / "net").space == space


def test_a_space_that_does_not_fit_an_opened_checkpoint_leaves_no_folder(tmp_path: Path, bert_folder: Path) -> None:
    for space, message in (
        (make_space(), "does not fit the checkpoint"),
        ("defualt", "unknown space preset 'defualt'"),
    ):
        with pytest.raises(SpaceError, match=message):
            open_checkpoint(str(bert_folder), "embedding", tmp_path / "net", space)
    assert not (tmp_path / "net").exists()


def test_wrong_shapes_are_refused(bert_folder: Path) -> None:
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    wrong = Dimensions(**{**vars(checkpoint.dimensions), "ffn_size": 63})
    with pytest.raises(ValueError, match="has shape"):
        Supernet(checkpoint.tensors, wrong)


def test_encoded_holds_the_last_layers_query_key_and_value(bert_folder: Path) -> None:
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    batch = as_batch(random_feeds(checkpoint.dimensions))
    model = transformers.BertModel.from_pretrained(bert_folder).eval()
    taken = {}
    attention = model.encoder.layer[-1].attention.self
    for part in ("query", "key", "value"):
        getattr(attention, part).register_forward_hook(lambda _, __, output, part=part: taken.update({part: output}))
    hidden_states(model, batch)
    with torch.no_grad():
        embedded = network.look_up(batch["input_ids"], batch["token_type_ids"])
        encoding = network.encode(embedded, batch["attention_mask"], checkpoint.dimensions.full_subnet)
    mask = batch["attention_mask"].bool()
    for part, expected in taken.items():
        values = getattr(encoding, part)
        assert values.shape == (3, 4, 11, 8)
        torch.testing.assert_close(values.transpose(1, 2).flatten(2)[mask], expected[mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_masked_lm_computes_only_the_chosen_tokens(shape: str) -> None:
    network = make_network("masked-lm", **SHAPES[shape])
    batch = as_batch(random_feeds(network.dimensions))
    positions = torch.from_numpy(np.random.default_rng(0).random((3, 11)) < 0.3)
    for subnet in random_subnets(space_of(network.dimensions), 2):
        hidden = encoded(network, batch, subnet)
        with torch.no_grad():
            every = network.apply_head(hidden, batch["attention_mask"], subnet)
            chosen = network.apply_head(hidden, batch["attention_mask"], subnet, positions)
        assert chosen.shape == (int(positions.sum()), network.dimensions.vocab_size)
        torch.testing.assert_close(chosen, every[positions], atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_weight_products_go_through_linear_under_the_names_of_the_exported_graph(shape: str, head: str) -> None:
    network = make_network(head, **SHAPES[shape])
    batch = as_batch(random_feeds(network.dimensions))
    subnet = space_of(network.dimensions, depth=(2, 3)).smallest
    called: dict[str, tuple[int, ...]] = {}

    def linear(name: str, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        assert name not in called
        called[name] = tuple(weight.shape)
        return plain_linear(name, x, weight, bias)

    with torch.no_grad():
        embedded = network.look_up(batch["input_ids"], batch["token_type_ids"])
        hidden = network.encode(embedded, batch["attention_mask"], subnet, linear).hidden
        output = network.apply_head(hidden, batch["attention_mask"], subnet, linear=linear)
        torch.testing.assert_close(output, network(batch, subnet))
    tensors = {name: tensor.detach().numpy() for name, tensor in network.tensors.items()}
    model = float_model(tensors, network.dimensions, subnet)
    shapes = {item.name: tuple(item.dims)[::-1] for item in model.graph.initializer}
    gemms = {node.name: shapes[node.input[1]] for node in model.graph.node if node.op_type == "Gemm"}
    assert called == gemms


def test_one_token_type_ignores_the_ids_of_types() -> None:
    network = make_network("embedding", token_types=1)
    batch = as_batch(random_feeds(network.dimensions))
    with torch.no_grad():
        expected = network(batch, network.dimensions.full_subnet)
        batch["token_type_ids"] = torch.ones_like(batch["token_type_ids"])
        torch.testing.assert_close(network(batch, network.dimensions.full_subnet), expected)
