"""The float ONNX graph of a subnet, and what its weight products and residual stream are called.

Nodes are named after the checkpoint's layers: those of ``layers/4`` come from its fifth, wherever that stands in the
subnet.
"""

from __future__ import annotations

from collections.abc import Mapping

from ortnas.export.graph.builder import Graph
from ortnas.export.graph.operations import GraphOps
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import cut_layers, cut_top, head_of, kept_parts, network_of
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.arrays import Array
from ortnas.nas.wording import shown


def build_graph(tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet, mask: bool = True) -> Graph:
    """Nodes and initializers of the subnet's float model, with or without a mask among its inputs.

    Raises SpaceError where it does not fit the supernet.
    """
    dimensions.check(subnet)
    ops = GraphOps(dimensions.max_positions, mask)
    network, top = network_of(dimensions), cut_top(tensors, subnet, dimensions)
    hidden = network.encode(ops, network.look_up(ops, top), top, cut_layers(tensors, subnet, dimensions), dimensions)
    head_of(dimensions).apply(ops, hidden, top, dimensions)
    return ops.graph


def weight_products(dimensions: Dimensions) -> list[str]:
    """Names of all weight products of the full network's graph, in order."""
    network = network_of(dimensions)
    entry = [product.name for product in network.entry_of(dimensions).products]
    layers = [
        f"layers/{index}/{product.name}" for index in range(dimensions.num_layers) for product in network.layer.products
    ]
    return [*entry, *layers, *head_of(dimensions).products]


def check_products(dimensions: Dimensions, subnet: Subnet) -> None:
    """Raises SpaceError where the subnet leaves a weight product in float that its graph does not have."""
    kept = {f"layers/{layer.source}/{part.name}" for layer in subnet.layers for part in kept_parts(dimensions, layer)}
    products = set(weight_products(dimensions))
    for name in subnet.keep_float:
        if name not in products or name.rpartition("/")[0] not in kept:
            raise SpaceError(f"keep_float names {shown(name)}, which is no weight product of this subnet's layers")


def residual_stream(dimensions: Dimensions) -> dict[tuple[int, str], str]:
    """The tensors of the full network's graph that are its residual stream, in order: by source layer and the name of
    the part that they come out of. The first, that of the embeddings, is of layer -1 and of no part."""
    network = network_of(dimensions)
    layers = {
        (layer, part.name): f"layers/{layer}/{part.output}"
        for layer in range(dimensions.num_layers)
        for part in network.layer.parts
    }
    return {(-1, ""): network.entry_of(dimensions).output, **layers}
