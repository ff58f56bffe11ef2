from __future__ import annotations

import numpy as np
import pytest

from nas.layout import Dimensions, cut_layers, cut_top
from nas.space import Layer, SpaceError, Subnet
from tests.networks import make_dimensions, random_tensors


def test_cuts_are_views_of_the_first_entries() -> None:
    dimensions = make_dimensions()
    tensors = random_tensors(dimensions)
    subnet = Subnet(20, (Layer(2, 3, 5, 33),))
    ((layer, weights),) = cut_layers(tensors, subnet)
    assert layer.source == 2
    assert weights["query.weight"].shape == (3, 5, 20)
    assert weights["output.weight"].shape == (20, 3, 5)
    assert weights["ffn_out.weight"].shape == (20, 33)
    for name, weight in (weights | cut_top(tensors, subnet, "embedding")).items():
        origin = tensors[name] if name in tensors else tensors[f"layers.2.{name}"]
        assert np.shares_memory(weight, origin)
        np.testing.assert_array_equal(weight, origin[tuple(slice(size) for size in weight.shape)])


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
    assert Dimensions.from_json(dimensions.to_json()) == dimensions
    with pytest.raises(SpaceError, match="colour"):
        Dimensions.from_json(dimensions.to_json() | {"colour": 1})
