from __future__ import annotations

import numpy as np
import pytest

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import cut_layers, cut_top, read_dimensions, tensor_axes
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from tests.networks import SHAPES, make_dimensions, random_tensors


def test_cuts_are_views_of_the_first_entries() -> None:
    dimensions = make_dimensions()
    tensors = random_tensors(dimensions)
    subnet = Subnet(20, (Layer(2, 3, 5, 33),))
    ((layer, weights),) = cut_layers(tensors, subnet, dimensions)
    assert layer.source == 2
    assert weights["query.weight"].values.shape == (3, 5, 20)
    assert weights["output.weight"].values.shape == (20, 3, 5)
    assert weights["ffn_out.weight"].values.shape == (20, 33)
    assert cut_top(tensors, subnet, dimensions)["embeddings.word"].values.shape == (120, 20)
    for name, weight in (weights | cut_top(tensors, subnet, dimensions)).items():
        origin = tensors[name] if name in tensors else tensors[f"layers.2.{name}"]
        assert np.shares_memory(weight.values, origin)
        np.testing.assert_array_equal(weight.values, origin[tuple(slice(size) for size in weight.values.shape)])


@pytest.mark.parametrize(
    "subnet",
    [
        Subnet(33, (Layer(0, 1, 1, 1),)),
        Subnet(32, ()),
        Subnet(32, (Layer(3, 1, 1, 1),)),
        Subnet(32, (Layer(0, 5, 1, 1),)),
        Subnet(32, (Layer(0, 1, 9, 1),)),
        Subnet(32, (Layer(0, 1, 1, 65),)),
    ],
)
def test_subnets_larger_than_the_supernet_are_refused(subnet: Subnet) -> None:
    with pytest.raises(SpaceError):
        make_dimensions().check(subnet)


def test_dimensions_round_trip_and_refuse_unknown_keys() -> None:
    dimensions = make_dimensions("classification")
    assert read_dimensions(dimensions.to_json()) == dimensions
    with pytest.raises(SpaceError, match="colour"):
        read_dimensions(dimensions.to_json() | {"colour": 1})
    with pytest.raises(SpaceError, match="head is 'summary'; allowed are embedding"):
        read_dimensions(dimensions.to_json() | {"head": "summary"})


def test_dimensions_of_older_files_are_bert() -> None:
    document = make_dimensions("classification").to_json()
    for name in ("family", "table_size", "pooling", "head_activation"):
        del document[name]
    assert read_dimensions(document) == make_dimensions("classification")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_factorised_tables_keep_their_width_and_others_follow_the_subnet(shape: str, head: str) -> None:
    dimensions = make_dimensions(head, **SHAPES[shape])
    top = cut_top(random_tensors(dimensions), Subnet(24, (Layer(0, 1, 1, 1),)), dimensions)
    width = dimensions.table_size or 24
    assert top["embeddings.word"].values.shape == (120, width)
    assert top["embeddings.norm.bias"].values.shape == (width,)
    assert ("embeddings.projection.weight" in top) == bool(dimensions.table_size)
    if dimensions.table_size:
        assert top["embeddings.projection.weight"].values.shape == (24, width)
    if head == "masked-lm":
        assert top["head.transform.weight"].values.shape == (width, 24)
        assert top["head.transform_norm.weight"].values.shape == (width,)
        assert top["head.decoder.bias"].values.shape == (120,)
    assert set(top) == {name for name in tensor_axes(dimensions) if not name.startswith("layers.")}
