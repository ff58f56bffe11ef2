"""The float ONNX graph of a subnet, laid out so that ONNX Runtime runs its INT8 form fast under default options.

Activations stay 2-D, ``[batch * sequence, hidden]``, outside attention, and every weight product is a ``Gemm`` with its
bias: ONNX Runtime turns the quantized form into integer products and leaves the layer norms on their fast kernel.
Only standard operators are used; ONNX Runtime fuses them itself. Nodes are named after the checkpoint's layers: those
of ``layers/4`` come from its fifth, wherever that stands in the subnet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from export.heads import HEAD_PRODUCTS, OUTPUT_NAMES, add_head, output_shape
from nas.layout import Dimensions, cut_layers, cut_top
from nas.space import Subnet

OPSET = 20
# Counts changes of the graph that change its speed or its numbers: older timings and scores are not of it.
LAYOUT_VERSION = 1
IR_VERSION = 9
PRECISION_PROPERTY = "ortnas.precision"
# Finite, so that a row of padding gives no NaN; large enough to vanish in the softmax.
MASKED_SCORE = -10000.0
# Smaller initializers are not worth a reference.
_EXTERNAL_BYTES = 1024

Array = npt.NDArray[np.float32]
# What an axis of a graph's tensor is made of: a label of nas.layout, several flattened into one, or a fixed size.
Axis = str | tuple[str, ...] | int
_ALL_HEADS: tuple[str, ...] = ("heads", "head")
_ACTIVATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
}


def input_names(dimensions: Dimensions) -> tuple[str, ...]:
    """Inputs of the exported models; one token type needs no input to choose it."""
    types = ("token_type_ids",) if dimensions.token_types > 1 else ()
    return ("input_ids", "attention_mask", *types)


def output_names(dimensions: Dimensions) -> tuple[str, ...]:
    """Outputs of the exported models, one or (span) two."""
    return OUTPUT_NAMES[dimensions.head]


class Graph:
    """Nodes and initializers in the making; every method returns the name of the tensor that it adds.

    Initializers are views of the supernet's tensors wherever they hold the same values.

    ``axes`` says of every initializer whose shape depends on the subnet what its axes are made of, ``sizes`` the same
    of the entries of those that hold sizes.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, npt.NDArray[np.generic]] = {}
        self.value_info: list[onnx.ValueInfoProto] = []
        self.axes: dict[str, tuple[Axis, ...]] = {}
        self.sizes: dict[str, tuple[Axis, ...]] = {}

    def constant(self, name: str, value: npt.NDArray[np.generic], axes: tuple[Axis, ...] = ()) -> str:
        self.initializers.setdefault(name, value)
        if axes:
            self.axes[name] = axes
        return name

    def integers(self, *values: int) -> str:
        return self.constant("integers." + "_".join(map(str, values)), np.array(values, np.int64))

    def sizes_of(self, name: str, entries: tuple[Axis, ...], sizes: Mapping[str, int]) -> str:
        self.sizes[name] = entries
        return self.constant(name, entry_sizes(entries, sizes))

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        shape: Sequence[int | str] | None = None,
        name: str = "",
        **attributes: object,
    ) -> str:
        """``shape`` is stated for inner tensors whose width the quantizer needs; ``name`` is the output's if empty."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=name or output, **attributes))
        if shape is not None:
            self.value_info.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape)))
        return output

    def linear(
        self, name: str, x: str, weight: Array, bias: Array, axes: tuple[Axis, Axis], rows: str = "tokens"
    ) -> str:
        """``x @ weight.T + bias`` for x [rows, in] and weight [out, in]; ``axes`` are the weight's."""
        width, depth = axes
        operands = [x, self.constant(f"{name}.weight", weight.T, (depth, width))]
        operands.append(self.constant(f"{name}.bias", bias, (width,)))
        return self.node("Gemm", operands, name, (rows, weight.shape[0]))

    def layer_norm(self, name: str, x: str, weight: Array, bias: Array, epsilon: float, axis: Axis = "hidden") -> str:
        operands = [x, self.constant(f"{name}.weight", weight, (axis,)), self.constant(f"{name}.bias", bias, (axis,))]
        return self.node("LayerNormalization", operands, name, ("tokens", weight.shape[0]), axis=-1, epsilon=epsilon)

    def activation(self, kind: str, name: str, x: str, shape: Sequence[int | str]) -> str:
        operator, attributes = _ACTIVATIONS[kind]
        return self.node(operator, [x], name, shape, **attributes)


def entry_sizes(entries: tuple[Axis, ...], sizes: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Each entry's size, given those of the labels it is made of."""
    labels = [(entry,) if isinstance(entry, str) else entry for entry in entries]
    return np.array(
        [entry if isinstance(entry, int) else math.prod(sizes[label] for label in entry) for entry in labels], np.int64
    )


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
    return [*projection, *layers, *HEAD_PRODUCTS[dimensions.head]]


def residual_stream(dimensions: Dimensions, layer: int) -> str:
    """The tensor that comes out of a source layer; -1 are the embeddings."""
    if layer >= 0:
        return f"layers/{layer}/ffn/norm"
    return "embeddings/projected" if dimensions.table_size else "embeddings/norm"


def float_model(tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet) -> onnx.ModelProto:
    """The subnet as a float32 ONNX model.

    Inputs are int64 ``[batch, sequence]``: ``input_ids``, ``attention_mask`` (1 for tokens, 0 for padding) and, where
    there is more than one token type, ``token_type_ids``. The output is float32: ``sentence_embedding [batch,
    embedding_size]`` of unit length; ``logits [batch, labels]`` (regression: 1), ``[batch, sequence, labels]`` or
    ``[batch, sequence, vocab]``; for spans ``start_logits`` and ``end_logits [batch, sequence]``. Outputs at padding
    mean nothing. Raises SpaceError where the subnet does not fit the supernet.
    """
    return to_model(build_graph(tensors, dimensions, subnet), dimensions, subnet)


def to_model(graph: Graph, dimensions: Dimensions, subnet: Subnet, external: bool = False) -> onnx.ModelProto:
    """The model around a subnet's graph.

    With ``external`` it only names its larger initializers: a session takes them from ``graph.initializers``.
    """
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="ortnas")
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.graph.name = f"ortnas-{subnet.key}"
    model.graph.node.extend(graph.nodes)
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in input_names(dimensions)
    )
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, output_shape(dimensions))
        for name in output_names(dimensions)
    )
    model.graph.value_info.extend(graph.value_info)
    for name, values in graph.initializers.items():
        add_initializer(model.graph, name, values, external and values.nbytes >= _EXTERNAL_BYTES)
    state_subnet(model, subnet, "fp32")
    return model


def state_subnet(model: onnx.ModelProto, subnet: Subnet, precision: str) -> None:
    """Writes into the model's metadata which subnet it is, replacing what stood there."""
    del model.metadata_props[:]
    properties = {
        # The quantizer's shape inference is a save and reload; these models state the shapes that it needs.
        "onnx.infer": "onnxruntime.quant",
        "ortnas.subnet": json.dumps(subnet.to_json()),
        PRECISION_PROPERTY: precision,
    }
    helper.set_model_props(model, properties)


def add_initializer(
    target: onnx.GraphProto, name: str, values: npt.NDArray[np.generic], external: bool = False
) -> None:
    """Writes values, of any memory layout, where they will stay: a tensor made apart would be copied once more."""
    tensor = target.initializer.add()
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.dims.extend(values.shape)
    if external:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
    else:
        tensor.raw_data = values.tobytes()
