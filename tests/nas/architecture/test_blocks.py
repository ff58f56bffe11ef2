from __future__ import annotations

import pytest

from ortnas.nas.architecture.blocks import Block
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.ops import group_axes

BLOCKS = {
    f"{name}, {part}": getattr(family.network, part)
    for name, family in FAMILIES.items()
    for part in ("entry", "factorised_entry", "first_layer", "layer", "exit")
    if getattr(family.network, part) is not None
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_matrix_between_unit_axes_is_a_products_weight(block: Block) -> None:
    matrices = {
        name
        for name, axes in block.tensors.items()
        if len(group_axes(axes)) == 2 and axes[0] in ("hidden", "heads", "ffn")
    }
    assert matrices == {product.weight for product in block.products}
    for name in block.tensors:
        product = block.product_of(name)
        assert (product is not None) == (name in matrices or name.replace(".bias", ".weight") in matrices)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_axes_inside_heads_have_one_order_in_every_tensor_or_keep_theirs(block: Block) -> None:
    inside = [gate for gate in block.gates if gate.is_inside_heads]
    for name in (name for name, axes in block.tensors.items() if "head" in axes):
        assert sum(gate.ranks(name) for gate in inside) == (1 if inside else 0)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_gates_over_one_axis_are_named_after_it_and_read_tensors_that_have_it(block: Block) -> None:
    for gate in block.gates:
        assert gate.is_inside_heads or (gate.name,) == gate.axes
        for name in gate.tensors:
            assert set(gate.axes) <= set(block.tensors[name])


def test_heads_and_their_entries_make_one_axis_of_a_matrix() -> None:
    assert group_axes(("heads", "head", "hidden")) == (("heads", "head"), ("hidden",))
    assert group_axes(("hidden", "heads", "head")) == (("hidden",), ("heads", "head"))
    assert group_axes(("heads", "head")) == (("heads", "head"),)
    assert group_axes(("ffn", "hidden")) == (("ffn",), ("hidden",))
