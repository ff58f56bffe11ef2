"""What a part of a network is made of, as data: all that others count, cut, permute, quantize and name.

A network has an entry, which makes the residual stream of the embeddings, layers, which have the same products, and an
exit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.ops import Axes

N = TypeVar("N", int, npt.NDArray[np.int64])


@dataclass(frozen=True)
class Product:
    """A weight product: ``name`` is its node's in the exported graph, after the layer's, ``module`` its tensors'."""

    name: str
    module: str

    @property
    def weight(self) -> str:
        return f"{self.module}.weight"


@dataclass(frozen=True)
class Gate:
    """A gate of 1 on every unit, whose gradient ranks the units (see ``nas.training.importance``).

    The gradient is read off ``tensors``, in which a factor on the unit has the same effect: the sum of weight times
    gradient over all axes but ``axes``, the units'. It ranks the last of them, after which it is named; inside heads,
    where several gates rank one axis, that of ``modules``.
    """

    name: str
    tensors: tuple[str, ...]
    axes: Axes
    modules: tuple[str, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Whether the units are the residual stream's, which every block has a gate on."""
        return self.axes == ("hidden",)

    @property
    def is_inside_heads(self) -> bool:
        """Whether every head has an order of its own."""
        return self.axes == ("heads", "head")

    def ranks(self, tensor: str) -> bool:
        return tensor.rsplit(".", 1)[0] in self.modules


@dataclass(frozen=True)
class Part:
    """A part of a layer that a subnet may do without: the residual stream then passes it by.

    ``name`` begins the names of its nodes in the exported graph, ``modules`` those of its tensors. ``axis`` has no
    entries where it is left out. ``output`` is the tensor of the graph that is the residual stream behind it.
    """

    name: str
    axis: str
    modules: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Block:
    """The entry, a layer or the exit. An axis that no gate ranks keeps its order.

    ``tensors`` has the axes of every tensor by its name within the block, ``products`` are in the graph's order.
    ``output`` is the tensor of the exported graph that is the residual stream behind the block. ``parts`` of a layer
    are in the order of computing.
    """

    tensors: Mapping[str, Axes]
    products: tuple[Product, ...]
    gates: tuple[Gate, ...]
    output: str
    parts: tuple[Part, ...] = ()

    def product_of(self, tensor: str) -> Product | None:
        """The product that a tensor is the weight or the bias of."""
        module = tensor.rsplit(".", 1)[0]
        return next((product for product in self.products if product.module == module), None)

    def part_of(self, tensor: str) -> Part:
        """The part of a layer that a tensor belongs to."""
        module = tensor.rsplit(".", 1)[0]
        return next(part for part in self.parts if module in part.modules)

    def multiply_adds(self, sizes: Mapping[str, N]) -> N:
        """Per token, of all products; ``sizes`` has a number or an array for every label."""
        products: list[Any] = [
            math.prod([sizes[label] for label in self.tensors[product.weight]]) for product in self.products
        ]
        total: N = sum(products[1:], start=products[0])
        return total


# The layer of BERT and kin: sizes of subnets are those of its axes.
POST_NORM = Block(
    tensors={
        "query.weight": ("heads", "head", "hidden"),
        "query.bias": ("heads", "head"),
        "key.weight": ("heads", "head", "hidden"),
        "key.bias": ("heads", "head"),
        "value.weight": ("heads", "head", "hidden"),
        "value.bias": ("heads", "head"),
        "output.weight": ("hidden", "heads", "head"),
        "output.bias": ("hidden",),
        "attention_norm.weight": ("hidden",),
        "attention_norm.bias": ("hidden",),
        "ffn_in.weight": ("ffn", "hidden"),
        "ffn_in.bias": ("ffn",),
        "ffn_out.weight": ("hidden", "ffn"),
        "ffn_out.bias": ("hidden",),
        "ffn_norm.weight": ("hidden",),
        "ffn_norm.bias": ("hidden",),
    },
    products=(
        Product("attention/query", "query"),
        Product("attention/key", "key"),
        Product("attention/value", "value"),
        Product("attention/output", "output"),
        Product("ffn/in", "ffn_in"),
        Product("ffn/out", "ffn_out"),
    ),
    # Inside a head, query and key have an order of their own: only their products count.
    gates=(
        Gate("heads", ("output.weight",), ("heads",)),
        Gate("value", ("output.weight",), ("heads", "head"), modules=("value", "output")),
        Gate("query", ("query.weight", "query.bias"), ("heads", "head"), modules=("query", "key")),
        Gate("ffn", ("ffn_out.weight",), ("ffn",)),
        Gate("hidden", ("attention_norm.weight", "attention_norm.bias"), ("hidden",)),
        Gate("hidden", ("ffn_norm.weight", "ffn_norm.bias"), ("hidden",)),
    ),
    output="ffn/norm",
    parts=(
        Part("attention", "heads", ("query", "key", "value", "output", "attention_norm"), "attention/norm"),
        Part("ffn", "ffn", ("ffn_in", "ffn_out", "ffn_norm"), "ffn/norm"),
    ),
)
# A layer whose FFN multiplies its inner values by those of another product (Shazeer 2020, "GLU Variants").
GATED = replace(
    POST_NORM,
    tensors={**POST_NORM.tensors, "ffn_gate.weight": ("ffn", "hidden"), "ffn_gate.bias": ("ffn",)},
    products=(*POST_NORM.products[:-1], Product("ffn/gate", "ffn_gate"), POST_NORM.products[-1]),
    parts=(POST_NORM.parts[0], replace(POST_NORM.parts[1], modules=("ffn_gate", *POST_NORM.parts[1].modules))),
)
NOTHING = Block(tensors={}, products=(), gates=(), output="")


def counted_layer(is_gated: bool) -> Block:
    """A block with the products of layers, gated or not."""
    return GATED if is_gated else POST_NORM
