"""What the head's part of a graph is called and shaped."""

from __future__ import annotations

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS, Output

# The embedding once more, as a sequence of one token: what loaders of hidden states ask packages for.
ALIAS = "last_hidden_state"
FLOAT_PRODUCTS = tuple(name for head in HEADS.values() for name in head.float_products)


def output_shape(output: Output, dimensions: Dimensions) -> tuple[int | str, ...]:
    """Lengths of an output's axes, or names of those that are dynamic."""
    return tuple(dimensions.sizes.get(label, label) for label in output.axes)
