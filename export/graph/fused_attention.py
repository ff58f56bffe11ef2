"""ONNX Runtime's own operator for everything between attention's projections and its context, where nothing is masked.

``com.microsoft.MultiHeadAttention`` keeps the scores of a few queries at a time in cache. ONNX Runtime does not fuse
these nodes itself: it looks for a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ortnas.export.graph.builder import add_initializer
from ortnas.export.graph.position_operations import SHAPE

DOMAIN = "com.microsoft"
OPERATOR = "MultiHeadAttention"
_PARTS = ("query", "key", "value")


class _Attention(NamedTuple):
    """``replaced`` are the outputs of the nodes that go; ``parts`` are queries, keys and values before heads are put
    first."""

    name: str
    heads: int
    width: int
    parts: tuple[str, ...]
    replaced: frozenset[str]


def fuse_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, changed in place, with one node for each attention whose scores go straight into its softmax.

    ``model`` is one of ``export.graph`` or made of such, for any shape. Attention with biases, windows or integer
    products stays as it is.
    """
    graph = model.graph
    nodes = {output: node for node in graph.node for output in node.output}
    sizes = {item.name: item for item in graph.initializer if item.name.endswith("/head_sizes")}
    fused = {}
    for node in graph.node:
        if node.op_type == "Softmax" and (attention := _plain_attention(node, nodes, sizes)) is not None:
            fused[f"{attention.name}/joined"] = attention
    if not fused:
        return model
    replaced = {name for attention in fused.values() for name in attention.replaced}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] in fused:
            kept.extend(_fused_nodes(graph, fused[node.output[0]]))
        elif node.output[0] not in replaced:
            kept.append(node)
    graph.ClearField("node")
    graph.node.extend(_needed(kept, {item.name for item in graph.output}))
    read = {name for node in graph.node for name in node.input}
    initializers = [item for item in graph.initializer if item.name in read]
    graph.ClearField("initializer")
    graph.initializer.extend(initializers)
    stated = [info for info in graph.value_info if info.name not in replaced]
    graph.ClearField("value_info")
    graph.value_info.extend(stated)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def _plain_attention(
    softmax: onnx.NodeProto, nodes: Mapping[str, onnx.NodeProto], sizes: Mapping[str, onnx.TensorProto]
) -> _Attention | None:
    """What is around a softmax, or None where it is more than the products of its three projections."""
    name = softmax.output[0].rpartition("/")[0]
    mixed, scores = nodes.get(f"{name}/mixed"), nodes.get(f"{name}/scores")
    ordered = [f"{name}/{part}/transposed" for part in _PARTS]
    is_plain = (
        mixed is not None
        and scores is not None
        and list(softmax.input) == [scores.output[0]]
        and list(scores.input) == ordered[:2]
        and list(mixed.input) == [softmax.output[0], ordered[2]]
    )
    if not is_plain or f"{name}/head_sizes" not in sizes:
        return None
    heads, head_size = numpy_helper.to_array(sizes[f"{name}/head_sizes"]).tolist()
    inner = [softmax.output[0], f"{name}/scores", f"{name}/mixed", *ordered]
    parts = []
    for transposed in ordered:
        split = nodes[transposed].input[0]
        # Heads that are turned by position stay split; others need not be split at all.
        is_split_alone = split == f"{transposed.rpartition('/')[0]}/heads"
        parts.append(nodes[split].input[0] if is_split_alone else split)
        inner.extend([split] if is_split_alone else [])
    return _Attention(name, heads, heads * head_size, tuple(parts), frozenset(inner))


def _fused_nodes(graph: onnx.GraphProto, attention: _Attention) -> list[onnx.NodeProto]:
    name = attention.name
    add_initializer(graph, f"{name}/width", np.array([attention.width], np.int64))
    shape, joined = f"{name}/by_text", f"{name}/joined"
    nodes = [helper.make_node("Concat", [SHAPE, f"{name}/width"], [shape], name=shape, axis=0)]
    tokens = [f"{name}/{part}/by_text" for part in _PARTS]
    for source, output in zip(attention.parts, tokens, strict=True):
        nodes.append(helper.make_node("Reshape", [source, shape], [output], name=output))
    # The softmax scale rides on the query projection.
    settings = {"num_heads": attention.heads, "scale": 1.0}
    nodes.append(helper.make_node(OPERATOR, tokens, [joined], name=joined, domain=DOMAIN, **settings))
    return nodes


def _needed(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """In order, without those whose outputs nobody reads."""
    needed, read = list[onnx.NodeProto](), set(outputs)
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            needed.append(node)
            read.update(node.input)
    return needed[::-1]
