"""The float ONNX graph of a subnet, laid out so that ONNX Runtime runs its INT8 form fast under default options.

Activations stay 2-D, ``[batch * sequence, hidden]``, outside attention, and every weight product is a ``Gemm`` with its
bias: ONNX Runtime turns the quantized form into integer products and leaves the layer norms on their fast kernel.
Only standard operators are used; ONNX Runtime fuses them itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas.layout import Dimensions, cut_layers, cut_top
from nas.space import Subnet

OPSET = 20
# Counts changes of the graph that change its speed or its numbers: older timings and scores are not of it.
LAYOUT_VERSION = 1
IR_VERSION = 9
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = {"embedding": "sentence_embedding", "classification": "logits"}
# Finite, so that a row of padding gives no NaN; large enough to vanish in the softmax.
MASKED_SCORE = -10000.0

Array = npt.NDArray[np.float32]


class _Graph:
    """Nodes and initializers in the making; every method returns the name of the tensor that it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.value_info: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("integers." + "_".join(map(str, values)), np.array(values, np.int64))

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        shape: Sequence[int | str] | None = None,
        **attributes: object,
    ) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        if shape is not None:
            self.value_info.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape)))
        return output

    def linear(self, name: str, x: str, weight: Array, bias: Array, rows: str = "tokens") -> str:
        """``x @ weight.T + bias`` for x [rows, in] and weight [out, in]."""
        operands = [x, self.constant(f"{name}.weight", weight.T), self.constant(f"{name}.bias", bias)]
        return self.node("Gemm", operands, name, (rows, weight.shape[0]))

    def layer_norm(self, name: str, x: str, weight: Array, bias: Array, epsilon: float) -> str:
        operands = [x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        return self.node("LayerNormalization", operands, name, ("tokens", weight.shape[0]), axis=-1, epsilon=epsilon)


def _activation(graph: _Graph, kind: str, name: str, x: str, size: int) -> str:
    if kind == "gelu":
        return graph.node("Gelu", [x], name, ("tokens", size))
    if kind == "gelu_tanh":
        return graph.node("Gelu", [x], name, ("tokens", size), approximate="tanh")
    return graph.node("Relu", [x], name, ("tokens", size))


def _attention(graph: _Graph, name: str, x: str, weights: Mapping[str, Array], bias: str, shape: str) -> str:
    """Self-attention of x [tokens, hidden]; returns the heads' outputs side by side, [tokens, heads * head_size]."""
    heads, head_size, hidden = weights["query.weight"].shape
    width = heads * head_size
    split = graph.node("Concat", [shape, graph.integers(heads, head_size)], f"{name}/split_shape", axis=0)
    # The softmax scale rides on the query projection: one multiplication less per score.
    scale = np.float32(1 / math.sqrt(head_size))
    operands = {
        "query": (weights["query.weight"] * scale, weights["query.bias"] * scale, (0, 2, 1, 3)),
        "key": (weights["key.weight"], weights["key.bias"], (0, 2, 3, 1)),
        "value": (weights["value.weight"], weights["value.bias"], (0, 2, 1, 3)),
    }
    parts = {}
    for part, (weight, part_bias, order) in operands.items():
        flat = graph.linear(f"{name}/{part}", x, weight.reshape(width, hidden), part_bias.reshape(width))
        split_heads = graph.node("Reshape", [flat, split], f"{name}/{part}/heads")
        parts[part] = graph.node("Transpose", [split_heads], f"{name}/{part}/transposed", perm=order)
    scores = graph.node("MatMul", [parts["query"], parts["key"]], f"{name}/scores")
    masked = graph.node("Add", [scores, bias], f"{name}/masked_scores")
    probabilities = graph.node("Softmax", [masked], f"{name}/probabilities", axis=-1)
    mixed = graph.node("MatMul", [probabilities, parts["value"]], f"{name}/mixed")
    joined = graph.node("Transpose", [mixed], f"{name}/joined", perm=(0, 2, 1, 3))
    return graph.node("Reshape", [joined, graph.integers(-1, width)], f"{name}/context", ("tokens", width))


def _embeddings(graph: _Graph, top: Mapping[str, Array], epsilon: float) -> str:
    hidden = top["embeddings.word"].shape[1]
    flat = graph.integers(-1)
    tokens = graph.node("Reshape", ["input_ids", flat], "embeddings/tokens")
    types = graph.node("Reshape", ["token_type_ids", flat], "embeddings/types")
    # Positions 0..sequence-1 repeated for every sentence of the batch.
    length = graph.node("Gather", ["shape", graph.constant("one", np.array(1, np.int64))], "sequence_length", axis=0)
    zero = graph.constant("zero", np.array(0, np.int64))
    positions = graph.node("Range", [zero, length, graph.constant("one", np.array(1, np.int64))], "embeddings/range")
    expanded = graph.node("Expand", [positions, "shape"], "embeddings/expanded")
    positions = graph.node("Reshape", [expanded, flat], "embeddings/positions")
    rows = [
        graph.node("Gather", [graph.constant(table, top[table]), ids], f"embeddings/{part}", ("tokens", hidden), axis=0)
        for part, table, ids in (
            ("word", "embeddings.word", tokens),
            ("position", "embeddings.position", positions),
            ("token_type", "embeddings.token_type", types),
        )
    ]
    summed = graph.node("Add", [rows[0], rows[1]], "embeddings/word_position", ("tokens", hidden))
    summed = graph.node("Add", [summed, rows[2]], "embeddings/sum", ("tokens", hidden))
    weight, bias = top["embeddings.norm.weight"], top["embeddings.norm.bias"]
    return graph.layer_norm("embeddings/norm", summed, weight, bias, epsilon)


def _sentence_embedding(graph: _Graph, x: str, top: Mapping[str, Array], shape: str) -> None:
    """Mean of the unmasked tokens, projected to the checkpoint's width and scaled to length one."""
    size, hidden = top["head.projection.weight"].shape
    tokens = graph.node(
        "Reshape", [x, graph.node("Concat", [shape, graph.integers(hidden)], "head/token_shape", axis=0)], "head/tokens"
    )
    mask = graph.node("Unsqueeze", ["mask", graph.integers(1)], "head/mask")
    total = graph.node("MatMul", [mask, tokens], "head/sum")
    count = graph.node("ReduceSum", [mask, graph.integers(2)], "head/count", keepdims=1)
    mean = graph.node("Div", [total, count], "head/mean")
    pooled = graph.node("Squeeze", [mean, graph.integers(1)], "head/pooled", ("batch", hidden))
    weight = graph.constant("head/projection.weight", top["head.projection.weight"].T)
    projected = graph.node("MatMul", [pooled, weight], "head/projection", ("batch", size))
    graph.node("LpNormalization", [projected], OUTPUTS["embedding"], axis=-1, p=2)


def _logits(graph: _Graph, x: str, top: Mapping[str, Array], shape: str) -> None:
    """BERT's pooler and classifier on the first token of each sentence."""
    hidden = top["head.pooler.weight"].shape[1]
    tokens = graph.node(
        "Reshape", [x, graph.node("Concat", [shape, graph.integers(hidden)], "head/token_shape", axis=0)], "head/tokens"
    )
    zero = graph.constant("zero", np.array(0, np.int64))
    first = graph.node("Gather", [tokens, zero], "head/first_token", ("batch", hidden), axis=1)
    dense = graph.linear("head/pooler", first, top["head.pooler.weight"], top["head.pooler.bias"], rows="batch")
    pooled = graph.node("Tanh", [dense], "head/pooled", ("batch", hidden))
    weight = graph.constant("head/classifier.weight", top["head.classifier.weight"].T)
    bias = graph.constant("head/classifier.bias", top["head.classifier.bias"])
    graph.node("Gemm", [pooled, weight, bias], OUTPUTS["classification"])


def float_model(tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet) -> onnx.ModelProto:
    """The subnet as a float32 ONNX model.

    Inputs are int64 ``[batch, sequence]``: ``input_ids``, ``attention_mask`` (1 for tokens, 0 for padding) and
    ``token_type_ids``. The output is float32: ``sentence_embedding [batch, embedding_size]`` of unit length, or
    ``logits [batch, labels]``. Raises SpaceError where the subnet does not fit the supernet.
    """
    dimensions.check(subnet)
    top = cut_top(tensors, subnet, dimensions.head)
    epsilon = dimensions.layer_norm_epsilon
    hidden = subnet.hidden_size
    graph = _Graph()
    shape = graph.node("Shape", ["input_ids"], "shape")
    graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    spread = graph.node("Unsqueeze", ["mask", graph.integers(1, 2)], "attention/mask")
    masked = graph.constant("attention/masked_score", np.array(MASKED_SCORE, np.float32))
    inverse = graph.node("Sub", [graph.constant("one.float", np.array(1, np.float32)), spread], "attention/padding")
    bias = graph.node("Mul", [inverse, masked], "attention/bias")
    x = _embeddings(graph, top, epsilon)
    for position, (_, weights) in enumerate(cut_layers(tensors, subnet)):
        name = f"layers/{position}"
        context = _attention(graph, f"{name}/attention", x, weights, bias, shape)
        output = weights["output.weight"].reshape(hidden, -1)
        context = graph.linear(f"{name}/attention/output", context, output, weights["output.bias"])
        x = graph.node("Add", [context, x], f"{name}/attention/residual", ("tokens", hidden))
        norm = weights["attention_norm.weight"], weights["attention_norm.bias"]
        x = graph.layer_norm(f"{name}/attention/norm", x, *norm, epsilon)
        inner = graph.linear(f"{name}/ffn/in", x, weights["ffn_in.weight"], weights["ffn_in.bias"])
        inner = _activation(graph, dimensions.activation, f"{name}/ffn/activation", inner, len(weights["ffn_in.bias"]))
        outer = graph.linear(f"{name}/ffn/out", inner, weights["ffn_out.weight"], weights["ffn_out.bias"])
        x = graph.node("Add", [outer, x], f"{name}/ffn/residual", ("tokens", hidden))
        x = graph.layer_norm(f"{name}/ffn/norm", x, weights["ffn_norm.weight"], weights["ffn_norm.bias"], epsilon)
    head = {"embedding": _sentence_embedding, "classification": _logits}[dimensions.head]
    head(graph, x, top, shape)

    width = dimensions.embedding_size if dimensions.head == "embedding" else dimensions.num_labels
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"ortnas-{subnet.key}",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS],
            [helper.make_tensor_value_info(OUTPUTS[dimensions.head], TensorProto.FLOAT, ["batch", width])],
            list(graph.initializers.values()),
            value_info=graph.value_info,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ortnas",
    )
    # The quantizer's shape inference is a save and reload; this model states the shapes that it needs.
    helper.set_model_props(model, {"onnx.infer": "onnxruntime.quant"})
    return model
