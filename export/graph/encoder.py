"""The float ONNX graph of a subnet, laid out so that ONNX Runtime runs its INT8 form fast under default options.

Activations stay 2-D, ``[batch * sequence, hidden]``, outside attention, and every weight product is a ``Gemm`` with its
bias: ONNX Runtime turns the quantized form into integer products and leaves the layer norms on their fast kernel.
Only standard operators are used; ONNX Runtime fuses them itself. Nodes are named after the checkpoint's layers: those
of ``layers/4`` come from its fifth, wherever that stands in the subnet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from ortnas.export.graph.builder import Array, Graph
from ortnas.export.graph.heads import add_head
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import Dimensions, cut_layers, cut_top
from ortnas.nas.architecture.subnet import Subnet

# Finite, so that a row of padding gives no NaN; large enough to vanish in the softmax.
MASKED_SCORE = -10000.0
_ALL_HEADS: tuple[str, ...] = ("heads", "head")


def input_names(dimensions: Dimensions) -> tuple[str, ...]:
    """Inputs of the exported models; one token type needs no input to choose it."""
    types = ("token_type_ids",) if dimensions.token_types > 1 else ()
    return ("input_ids", "attention_mask", *types)


def _attention(graph: Graph, name: str, x: str, weights: Mapping[str, Array], bias: str, shape: str) -> str:
    """Self-attention of x [tokens, hidden]; returns the heads' outputs side by side, [tokens, heads * head_size]."""
    heads, head_size, hidden = weights["query.weight"].shape
    width, sizes = heads * head_size, {"heads": heads, "head": head_size}
    head_sizes = graph.sizes_of(f"{name}/head_sizes", ("heads", "head"), sizes)
    split = graph.node("Concat", [shape, head_sizes], f"{name}/split_shape", axis=0)
    # The softmax scale rides on the query projection: one multiplication less per score.
    scale = np.float32(1 / math.sqrt(head_size))
    projections = {
        "query": (weights["query.weight"] * scale, weights["query.bias"] * scale, (0, 2, 1, 3)),
        "key": (weights["key.weight"], weights["key.bias"], (0, 2, 3, 1)),
        "value": (weights["value.weight"], weights["value.bias"], (0, 2, 1, 3)),
    }
    parts = {}
    for part, (weight, part_bias, order) in projections.items():
        flat_weight, flat_bias = weight.reshape(width, hidden), part_bias.reshape(width)
        flat = graph.linear(f"{name}/{part}", x, flat_weight, flat_bias, (_ALL_HEADS, "hidden"))
        split_heads = graph.node("Reshape", [flat, split], f"{name}/{part}/heads")
        parts[part] = graph.node("Transpose", [split_heads], f"{name}/{part}/transposed", perm=order)
    scores = graph.node("MatMul", [parts["query"], parts["key"]], f"{name}/scores")
    masked = graph.node("Add", [scores, bias], f"{name}/masked_scores")
    probabilities = graph.node("Softmax", [masked], f"{name}/probabilities", axis=-1)
    mixed = graph.node("MatMul", [probabilities, parts["value"]], f"{name}/mixed")
    joined = graph.node("Transpose", [mixed], f"{name}/joined", perm=(0, 2, 1, 3))
    context_sizes = graph.sizes_of(f"{name}/context_sizes", (-1, _ALL_HEADS), sizes)
    return graph.node("Reshape", [joined, context_sizes], f"{name}/context", ("tokens", width))


def _embeddings(graph: Graph, top: Mapping[str, Array], dimensions: Dimensions) -> str:
    width = top["embeddings.word"].shape[1]
    axis = "table" if dimensions.table_size else "hidden"
    flat = graph.integers(-1)
    tokens = graph.node("Reshape", ["input_ids", flat], "embeddings/tokens")
    # Positions 0..sequence-1 repeated for every sentence of the batch.
    length = graph.node("Gather", ["shape", graph.constant("one", np.array(1, np.int64))], "sequence_length", axis=0)
    zero = graph.constant("zero", np.array(0, np.int64))
    positions = graph.node("Range", [zero, length, graph.constant("one", np.array(1, np.int64))], "embeddings/range")
    expanded = graph.node("Expand", [positions, "shape"], "embeddings/expanded")
    positions = graph.node("Reshape", [expanded, flat], "embeddings/positions")

    def rows(part: str, table: Array, ids: str) -> str:
        operands = [graph.constant(f"embeddings.{part}", table, (table.shape[0], axis)), ids]
        return graph.node("Gather", operands, f"embeddings/{part}", ("tokens", width), axis=0)

    summed = rows("word", top["embeddings.word"], tokens)
    if "token_type_ids" in input_names(dimensions):
        types = graph.node("Reshape", ["token_type_ids", flat], "embeddings/types")
        position = rows("position", top["embeddings.position"], positions)
        token_type = rows("token_type", top["embeddings.token_type"], types)
        summed = graph.node("Add", [summed, position], "embeddings/word_position", ("tokens", width))
        summed = graph.node("Add", [summed, token_type], "embeddings/sum", ("tokens", width))
    else:
        position = rows("position", top["embeddings.position"] + top["embeddings.token_type"][0], positions)
        summed = graph.node("Add", [summed, position], "embeddings/sum", ("tokens", width))
    weight, bias = top["embeddings.norm.weight"], top["embeddings.norm.bias"]
    normed = graph.layer_norm("embeddings/norm", summed, weight, bias, dimensions.layer_norm_epsilon, axis)
    if not dimensions.table_size:
        return normed
    projection, offset = top["embeddings.projection.weight"], top["embeddings.projection.bias"]
    operands = [normed, graph.constant("embeddings/projection.weight", projection.T, (axis, "hidden"))]
    # ONNX Runtime runs a Gemm in integers where all readers of its output quantize it or none does. The first layer
    # does and its residual sum does not, so both read the output of another node: that of the bias.
    product = graph.node("Gemm", operands, "embeddings/projection", ("tokens", len(offset)))
    operands = [product, graph.constant("embeddings/projection.bias", offset, ("hidden",))]
    return graph.node("Add", operands, "embeddings/projected", ("tokens", len(offset)))


def build_graph(tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet) -> Graph:
    """Nodes and initializers of the subnet's float model. Raises SpaceError where it does not fit the supernet."""
    dimensions.check(subnet)
    top = cut_top(tensors, subnet, dimensions)
    epsilon = dimensions.layer_norm_epsilon
    hidden = subnet.hidden_size
    graph = Graph()
    shape = graph.node("Shape", ["input_ids"], "shape")
    graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    spread = graph.node("Unsqueeze", ["mask", graph.integers(1, 2)], "attention/mask")
    masked = graph.constant("attention/masked_score", np.array(MASKED_SCORE, np.float32))
    inverse = graph.node("Sub", [graph.constant("one.float", np.array(1, np.float32)), spread], "attention/padding")
    bias = graph.node("Mul", [inverse, masked], "attention/bias")
    x = _embeddings(graph, top, dimensions)
    for layer, weights in cut_layers(tensors, subnet):
        name = f"layers/{layer.source}"
        context = _attention(graph, f"{name}/attention", x, weights, bias, shape)
        output = weights["output.weight"].reshape(hidden, -1), weights["output.bias"]
        context = graph.linear(f"{name}/attention/output", context, *output, ("hidden", _ALL_HEADS))
        x = graph.node("Add", [context, x], f"{name}/attention/residual", ("tokens", hidden))
        norm = weights["attention_norm.weight"], weights["attention_norm.bias"]
        x = graph.layer_norm(f"{name}/attention/norm", x, *norm, epsilon)
        inner_weights = weights["ffn_in.weight"], weights["ffn_in.bias"]
        inner = graph.linear(f"{name}/ffn/in", x, *inner_weights, ("ffn", "hidden"))
        ffn_shape = ("tokens", len(weights["ffn_in.bias"]))
        inner = graph.activation(dimensions.activation, f"{name}/ffn/activation", inner, ffn_shape)
        outer_weights = weights["ffn_out.weight"], weights["ffn_out.bias"]
        outer = graph.linear(f"{name}/ffn/out", inner, *outer_weights, ("hidden", "ffn"))
        x = graph.node("Add", [outer, x], f"{name}/ffn/residual", ("tokens", hidden))
        x = graph.layer_norm(f"{name}/ffn/norm", x, weights["ffn_norm.weight"], weights["ffn_norm.bias"], epsilon)
    add_head(graph, x, top, dimensions, shape)
    return graph


def weight_products(dimensions: Dimensions) -> list[str]:
    """Names of all weight products of the full network's graph, in order."""
    layer = ("attention/query", "attention/key", "attention/value", "attention/output", "ffn/in", "ffn/out")
    projection = ["embeddings/projection"] if dimensions.table_size else []
    layers = [f"layers/{index}/{name}" for index in range(dimensions.num_layers) for name in layer]
    return [*projection, *layers, *HEADS[dimensions.head].products]


def residual_stream(dimensions: Dimensions, layer: int) -> str:
    """The tensor that comes out of a source layer; -1 are the embeddings."""
    if layer >= 0:
        return f"layers/{layer}/ffn/norm"
    return "embeddings/projected" if dimensions.table_size else "embeddings/norm"
