"""How large a subnet's model file is, from its sizes alone; vectorised over populations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ortnas.export.int8.recipes import ATTENTION_PRODUCTS, Recipe
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import head_of, network_of, top_axes
from ortnas.nas.architecture.ops import Axes, group_axes
from ortnas.nas.architecture.space import LAYER_DIMENSIONS, Population
from ortnas.nas.architecture.subnet import Subnet

Vector = npt.NDArray[np.float64]

# Nodes and names, in bytes: of the embeddings and the head, and of each layer.
_FLOAT_NODES = 3_100, 4_600
_INTEGER_NODES = 5_000, 10_660
# Of each product of two activations that runs in integers.
_ACTIVATION_NODES = 1_320
# By so much a file may be larger.
SIZE_ERROR_BYTES = 8_000


def model_bytes(dimensions: Dimensions, population: Population, recipe: Recipe | None) -> Vector:
    """Size of the ONNX file (n,): INT8 by a recipe, float32 without one. The word table is most of it."""
    sizes: dict[str, Vector] = {name: np.array(float(size)) for name, size in dimensions.sizes.items()}
    hidden = population.hidden_size.astype(np.float64)
    sizes |= {"hidden": hidden, "pooled": hidden}
    network, nodes = network_of(dimensions), _FLOAT_NODES if recipe is None else _INTEGER_NODES
    fixed, per_layer = np.add(nodes, network.node_bytes)
    total: Vector = np.full(hidden.shape, float(fixed))
    for name, axes in top_axes(dimensions).items():
        if name in network.folded_from:
            continue
        total = total + _tensor_bytes(name, axes, sizes, _top_product(dimensions, name), recipe)
    if HEADS[dimensions.head].has_decoder and not dimensions.has_own_decoder:
        # The decoder is a copy of the word table.
        axes = top_axes(dimensions)["embeddings.word"]
        total = total + _tensor_bytes("head.decoder.weight", axes, sizes, "head/decoder", recipe)
    for layer in range(dimensions.num_layers):
        block = network.layer_at(layer)
        of_layer = {
            "heads": population.num_heads[:, layer],
            "head": population.head_size[:, layer],
            "ffn": population.ffn_size[:, layer],
        }
        layer_sizes = sizes | {name: values.astype(np.float64) for name, values in of_layer.items()}
        present = {part: (of_layer[part.axis] > 0).astype(np.float64) for part in block.parts}
        for part in block.parts:
            total = total + per_layer / len(block.parts) * present[part]
        if recipe is not None:
            nodes_of_products = _ACTIVATION_NODES * len(ATTENTION_PRODUCTS[recipe.attention])
            total = total + nodes_of_products * present[block.parts[0]]
        for axes in network.folded.values():
            total = total + 4 * present[block.parts[0]] * _product(layer_sizes, axes)
        for name, axes in block.tensors.items():
            product = block.product_of(name)
            path = f"layers/{layer}/{product.name}" if product else None
            is_there = present[block.part_of(name)]
            size_bytes = _tensor_bytes(name, axes, layer_sizes, path, recipe)
            if recipe is not None and product and path is not None and path in population.keep_float:
                in_float = _tensor_bytes(name, axes, layer_sizes, path, None)
                if name == product.weight:
                    in_float = in_float - (_INTEGER_NODES[1] - _FLOAT_NODES[1]) / len(block.products)
                size_bytes = np.where(population.keep_float[path], in_float, size_bytes)
            total = total + is_there * size_bytes
    return total


def subnet_bytes(dimensions: Dimensions, subnet: Subnet, recipe: Recipe | None) -> int:
    """As ``model_bytes``, of one subnet."""
    sizes = {name: np.zeros((1, dimensions.num_layers), np.int64) for name in LAYER_DIMENSIONS}
    for layer in subnet.layers:
        for name, values in sizes.items():
            values[0, layer.source] = getattr(layer, name)
    shape = np.array([subnet.hidden_size]), np.array([len(subnet.layers)])
    keep_float = dict.fromkeys(subnet.keep_float, np.array([True]))
    population = Population(*shape, sizes["num_heads"], sizes["head_size"], sizes["ffn_size"], keep_float=keep_float)
    return int(model_bytes(dimensions, population, recipe)[0])


def _top_product(dimensions: Dimensions, name: str) -> str | None:
    """The weight product that a tensor of the embeddings or the head belongs to, if that runs in integers."""
    if product := network_of(dimensions).entry_of(dimensions).product_of(name):
        return product.name
    path = name.rsplit(".", 1)[0].replace(".", "/")
    return path if path in head_of(dimensions).products else None


def _tensor_bytes(
    name: str, axes: Axes, sizes: dict[str, Vector], product: str | None, recipe: Recipe | None
) -> Vector:
    elements = _product(sizes, axes)
    if recipe is None:
        return 4 * elements
    if name == "embeddings.word" and recipe.embeddings:
        return elements + 4 * sizes["vocab"]
    if product is None or recipe.keeps_float(product):
        return 4 * elements
    if name.endswith(".bias"):
        # int32, and with a scale for every channel a float and a zero point beside each.
        return (12 if recipe.per_channel else 4) * elements
    channels = _product(sizes, group_axes(axes)[0])
    return elements + (5 * channels if recipe.per_channel else 0)


def _product(sizes: dict[str, Vector], axes: Axes) -> Vector:
    elements = np.array(1.0)
    for label in axes:
        elements = np.asarray(elements * sizes[label], np.float64)
    return elements
