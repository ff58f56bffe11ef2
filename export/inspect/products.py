"""The matrix products of an ONNX graph: in integers or in floats, with a weight or not, and their multiply-adds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ortnas.export.inspect.messages import GRAPH_ATTRIBUTE, Message, attribute_value

Shape = tuple[int, ...]
Kernel = Literal["integer", "float"]

# ``accuracy_level`` of MatMulNBits at which activations are made int8.
_INT8_ACCURACY_LEVEL = 4
_KNOWN_DOMAINS = ("ai.onnx", "com.microsoft", "com.ms.")
# Operators that multiply matrices, by their names, where no rule says how to count them.
_PRODUCT_NAMES = re.compile(
    "MatMul|Gemm|Conv|Attention|Einsum|LSTM|GRU|RNN|MoE|RelativePositionBias|^Linear(Classifier|Regressor)$|^SVM"
)
_UNPACKED = "its weight is stored in few bits and unpacked to floats"
# Operators that change a tensor's form and not its values.
_RESHAPERS = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Product:
    """One matrix product of a graph.

    ``has_weight`` tells a product with a constant from one of two activations (attention scores and their use).
    ``reason`` says why a weight product is in floats, as far as the graph shows.
    """

    name: str
    operator: str
    kernel: Kernel
    has_weight: bool
    multiply_adds: int
    reason: str


@dataclass(frozen=True)
class Uncounted:
    """A node that multiplies matrices, or may, and that is in no sum."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True)
class _Call:
    """A node's attributes and the shapes of its two factors, of all inputs (None where absent), of its first output.

    ``right`` is empty where a packed operand takes its place.
    """

    attributes: Mapping[str, Any]
    left: Shape
    right: Shape
    inputs: tuple[Shape | None, ...]
    output: Shape

    def optional(self, position: int) -> Shape | None:
        return self.inputs[position] if position < len(self.inputs) else None


@dataclass(frozen=True)
class _Rule:
    """The kernel of a product, the positions of its factors among the inputs, and how to count its multiply-adds.

    ``count`` gives None for a call that it cannot count.
    """

    kernel: Kernel
    left: int
    right: int
    count: Callable[[_Call], int | None]


def _matrix(call: _Call) -> int:
    """MatMul, Gemm and their kin; ``transBatchA`` (com.microsoft.FusedMatMul) moves the rows to the front."""
    inner = call.left[-1]
    if call.attributes.get("transA"):
        inner = call.left[0] if call.attributes.get("transBatchA") else call.left[-2]
    return math.prod(call.output) * inner


def _packed_matrix(call: _Call) -> int:
    return math.prod(call.output) * int(call.attributes["K"])


def _convolution(call: _Call) -> int:
    """Weights are [output channels, ...] in every layout."""
    return math.prod(call.output) * math.prod(call.right[1:])


def _transposed_convolution(call: _Call) -> int:
    """Weights are [input channels, ...]."""
    return math.prod(call.left) * math.prod(call.right[1:])


def _einsum(call: _Call) -> int | None:
    terms = call.attributes["equation"].decode().replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2 or any("." in term for term in terms):
        return None
    sizes = dict(zip(terms[0], call.left, strict=True)) | dict(zip(terms[1], call.right, strict=True))
    return math.prod(sizes.values())


def _projection(call: _Call) -> int:
    """Queries, keys and values of com.microsoft.Attention: [batch, sequence, in] x [in, out]."""
    return math.prod(call.left) * call.right[-1]


def _self_attention(past: int) -> Callable[[_Call], int]:
    """Scores and their use in com.microsoft.Attention; ``past`` is the position of [2, batch, heads, past, size]."""

    def count(call: _Call) -> int:
        earlier = call.optional(past)
        total = call.left[1] + (earlier[3] if earlier else 0)
        widths = call.attributes.get("qkv_hidden_sizes") or [call.output[-1]] * 3
        return call.left[0] * call.left[1] * total * (int(widths[0]) + int(widths[2]))

    return count


def _attention(past: int) -> Callable[[_Call], int]:
    """Scores and their use where queries, keys and values are given; ``past`` is the position of the earlier keys,
    [batch, heads, past, size].

    Queries are [batch, sequence, heads * size], [batch, heads, sequence, size] or, packed with keys and values,
    [batch, sequence, heads, 3, size].
    """

    def count(call: _Call) -> int:
        key, earlier = call.optional(1), call.optional(past)
        query_size = math.prod(call.left) // 3 if len(call.left) == 5 else math.prod(call.left)
        present = call.left[1] if key is None else key[2] if len(key) == 4 else key[1]
        return (query_size + math.prod(call.output)) * (present + (earlier[2] if earlier else 0))

    return count


# By operator; one of a domain beside ONNX's own of the same name has the domain in front.
_RULES: dict[str, tuple[_Rule, ...]] = {
    "MatMul": (_Rule("float", 0, 1, _matrix),),
    "Gemm": (_Rule("float", 0, 1, _matrix),),
    "FusedMatMul": (_Rule("float", 0, 1, _matrix),),
    "TransposeMatMul": (_Rule("float", 0, 1, _matrix),),
    "FusedGemm": (_Rule("float", 0, 1, _matrix),),
    "MatMulInteger": (_Rule("integer", 0, 1, _matrix),),
    "MatMulIntegerToFloat": (_Rule("integer", 0, 1, _matrix),),
    "DynamicQuantizeMatMul": (_Rule("integer", 0, 1, _matrix),),
    "QLinearMatMul": (_Rule("integer", 0, 3, _matrix),),
    "QGemm": (_Rule("integer", 0, 3, _matrix),),
    "MatMulNBits": (_Rule("float", 0, 1, _packed_matrix),),
    "MatMulBnb4": (_Rule("float", 0, 1, _packed_matrix),),
    "Conv": (_Rule("float", 0, 1, _convolution),),
    "FusedConv": (_Rule("float", 0, 1, _convolution),),
    "NhwcFusedConv": (_Rule("float", 0, 1, _convolution),),
    "ConvTranspose": (_Rule("float", 0, 1, _transposed_convolution),),
    "ConvInteger": (_Rule("integer", 0, 1, _convolution),),
    "QLinearConv": (_Rule("integer", 0, 3, _convolution),),
    "Einsum": (_Rule("float", 0, 1, _einsum),),
    "Attention": (_Rule("float", 0, 1, _attention(4)),),
    "MultiHeadAttention": (_Rule("float", 0, 1, _attention(6)),),
    "com.microsoft.Attention": (_Rule("float", 0, 1, _projection), _Rule("float", 0, 0, _self_attention(4))),
    "QAttention": (_Rule("integer", 0, 1, _projection), _Rule("float", 0, 0, _self_attention(8))),
}


def _rules(node: Message) -> tuple[_Rule, ...]:
    return _RULES.get(f"{node.domain}.{node.op_type}") or _RULES.get(node.op_type, ())


def _is_custom(node: Message) -> bool:
    return bool(node.domain) and not node.domain.startswith(_KNOWN_DOMAINS)


def _name(node: Message) -> str:
    return str(node.name or next(filter(None, node.output), node.op_type))


def _given_name(name: str, given_names: Collection[str]) -> str:
    """Fusions decorate the name of the node that they begin with: ``fused NAME``, ``NAME/MatMulAddFusion``."""
    candidate = name.removeprefix("fused ")
    while candidate and candidate not in given_names:
        candidate = candidate.rpartition("/")[0]
    return candidate or name


def inner_graphs(node: Message) -> Iterator[Message]:
    """Bodies of a control flow node."""
    for attribute in node.attribute:
        if attribute.type == GRAPH_ATTRIBUTE:
            yield attribute.g
        yield from attribute.graphs


def tensors_to_measure(graph: Message) -> list[str]:
    """Names of the tensors whose shapes ``find_products`` needs."""
    initializers = {item.name for item in graph.initializer}
    names = {
        name
        for node in graph.node
        if _rules(node) and not _is_custom(node)
        for name in (*node.input, node.output[0])
        if name and name not in initializers
    }
    return sorted(names)


def find_products(
    graph: Message, shapes: Mapping[str, Shape], given_names: Collection[str] = ()
) -> tuple[tuple[Product, ...], tuple[Uncounted, ...]]:
    """The products of a graph in its order, and the nodes that could not be counted.

    ``shapes`` are those of ``tensors_to_measure``; ``given_names`` are the nodes' names before ONNX Runtime fused them.
    """
    shapes = {item.name: tuple(item.dims) for item in graph.initializer} | dict(shapes)
    constants = _constants(graph)
    producers = {output: node for node in graph.node for output in node.output}
    products: list[Product] = []
    uncounted: list[Uncounted] = []
    for node in graph.node:
        name, operator = _given_name(_name(node), given_names), node.op_type
        for body in inner_graphs(node):
            uncounted += _inside(body, f"inside {operator} {name}")
        if _is_custom(node):
            uncounted.append(Uncounted(name, operator, f"an operator of domain {node.domain}"))
            continue
        rules = _rules(node)
        if not rules:
            if _PRODUCT_NAMES.search(operator):
                uncounted.append(Uncounted(name, operator, "no rule for this operator"))
            continue
        attributes = {item.name: attribute_value(item) for item in node.attribute}
        inputs = tuple(shapes[tensor] if tensor else None for tensor in node.input)
        for rule in rules:
            factors = [node.input[position] for position in (rule.left, rule.right) if position < len(node.input)]
            left, right = (shapes.get(tensor, ()) for tensor in (*factors, "")[:2])
            call = _Call(attributes, left, right, inputs, shapes[node.output[0]])
            multiply_adds = rule.count(call)
            if multiply_adds is None:
                uncounted.append(Uncounted(name, operator, "no rule for its equation"))
                continue
            kernel = rule.kernel
            if attributes.get("accuracy_level") == _INT8_ACCURACY_LEVEL:
                kernel = "integer"
            has_weight = any(tensor in constants for tensor in factors)
            reason = ""
            if has_weight and kernel == "float":
                is_packed = rule.count is _packed_matrix
                reason = _UNPACKED if is_packed else _why_float(factors, constants, producers)
            products.append(Product(name, operator, kernel, has_weight, multiply_adds, reason))
    return tuple(products), tuple(uncounted)


def _inside(graph: Message, where: str) -> Iterator[Uncounted]:
    for node in graph.node:
        if _rules(node) or _is_custom(node) or _PRODUCT_NAMES.search(node.op_type):
            yield Uncounted(_name(node), node.op_type, where)
        for body in inner_graphs(node):
            yield from _inside(body, where)


def _constants(graph: Message) -> set[str]:
    """Tensors that are the same in every run: initializers and what is computed from them alone."""
    constants = {item.name for item in graph.initializer}
    for node in graph.node:
        if all(name in constants for name in node.input if name) and not any(inner_graphs(node)):
            constants.update(filter(None, node.output))
    return constants


def _why_float(factors: Collection[str], constants: set[str], producers: Mapping[str, Message]) -> str:
    is_quantized = {name in constants: _is_dequantized(name, producers) for name in factors}
    weight, activation = is_quantized[True], is_quantized.get(False, True)
    if weight and activation:
        return "input and weight are quantized, but ONNX Runtime did not fuse them"
    if weight:
        return "its input is not quantized"
    if activation:
        return "its weight is not quantized"
    return "neither its input nor its weight is quantized"


def _is_dequantized(name: str, producers: Mapping[str, Message]) -> bool:
    while (node := producers.get(name)) is not None and node.op_type in _RESHAPERS:
        name = node.input[0]
    return node is not None and node.op_type == "DequantizeLinear"
