"""The operations of networks as nodes of an ONNX graph, laid out so that ONNX Runtime runs its INT8 form fast.

Activations stay 2-D, ``[batch * sequence, width]``, outside attention, and every weight product is a ``Gemm`` with its
bias: ONNX Runtime turns the quantized form into integer products and leaves the layer norms on their fast kernel.
Only standard operators are used; ONNX Runtime fuses them itself, but for what ``fused_attention`` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from ortnas.export.graph.position_operations import SHAPE, PositionOps, Value
from ortnas.export.graph.reference import matrix
from ortnas.nas.architecture.ops import HeadPart, PoolingMode, Weight
from ortnas.nas.arrays import Array

_ACTIVATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
}
# Order of [batch, sequence, heads, head size] as attention's products read it.
_HEAD_ORDERS: dict[HeadPart, tuple[int, ...]] = {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}


class GraphOps(PositionOps):
    """Adds nodes to ``graph``."""

    def look_up(self, word: Weight[Array], position: Weight[Array] | None, token_type: Weight[Array] | None) -> Value:
        graph, flat = self.graph, self.graph.integers(-1)
        words = self._rows("word", word, graph.node("Reshape", ["input_ids", flat], "embeddings/tokens"))
        if position is None:
            return words if token_type is None else self._with_types(words, token_type)
        # Positions 0..sequence-1 repeated for every sentence of the batch.
        expanded = graph.node("Expand", [self._range(), SHAPE], "embeddings/expanded")
        positions = graph.node("Reshape", [expanded, flat], "embeddings/positions")
        if token_type is None or len(token_type.values) == 1:
            if token_type is not None:
                position = replace(position, values=position.values + token_type.values[0])
            return self.add("embeddings/sum", words, self._rows("position", position, positions))
        positioned = self._rows("position", position, positions)
        return self._with_types(self.add("embeddings/word_position", words, positioned), token_type)

    def _with_types(self, x: Value, table: Weight[Array]) -> Value:
        if len(table.values) == 1:
            only = self.graph.constant("embeddings.token_type", table.values[0], table.groups[1:])
            return x._replace(name=self.graph.node("Add", [x.name, only], "embeddings/sum", x.shape))
        types = self.graph.node("Reshape", ["token_type_ids", self.graph.integers(-1)], "embeddings/types")
        return self.add("embeddings/sum", x, self._rows("token_type", table, types))

    def _rows(self, part: str, table: Weight[Array], ids: str) -> Value:
        shape = "tokens", table.values.shape[1]
        operands = [self.graph.constant(f"embeddings.{part}", table.values, table.groups), ids]
        return Value(self.graph.node("Gather", operands, f"embeddings/{part}", shape, axis=0), shape)

    def linear(
        self, name: str, x: Value, weight: Weight[Array], bias: Weight[Array], output: str | None = None
    ) -> Value:
        return self._gemm(name, x, weight, bias, matrix(weight), matrix(bias), output)

    def _gemm(
        self,
        name: str,
        x: Value,
        weight: Weight[Array],
        bias: Weight[Array],
        values: Array,
        bias_values: Array,
        output: str | None = None,
    ) -> Value:
        width, depth = weight.groups
        shape = x.shape[0], len(bias_values)
        operands = [x.name, self.graph.constant(f"{name}.weight", values.T, (depth, width))]
        operands.append(self.graph.constant(f"{name}.bias", bias_values, bias.groups))
        # The shapes of outputs are stated with the model's.
        stated = shape if output is None else None
        return Value(self.graph.node("Gemm", operands, output or name, stated, name), shape, width)

    def enter(self, name: str, x: Value, weight: Weight[Array], bias: Weight[Array], output: str) -> Value:
        # ONNX Runtime runs a Gemm in integers where all readers of its output quantize it or none does. The first layer
        # does and its residual sum does not, so both read the output of another node: that of the bias.
        width, depth = weight.groups
        shape = x.shape[0], len(bias.values)
        operands = [x.name, self.graph.constant(f"{name}.weight", weight.values.T, (depth, width))]
        product = self.graph.node("Gemm", operands, name, shape)
        operands = [product, self.graph.constant(f"{name}.bias", bias.values, bias.groups)]
        return Value(self.graph.node("Add", operands, output, shape), shape)

    def project(
        self, name: str, x: Value, weight: Weight[Array], bias: Weight[Array] | None = None, output: str | None = None
    ) -> Value:
        width, depth = weight.groups
        shape = x.shape[0], len(weight.values)
        operands = [x.name, self.graph.constant(f"{name}.weight", weight.values.T, (depth, width))]
        if bias is None:
            # The shapes of outputs are stated with the model's.
            product = self.graph.node("MatMul", operands, output or name, None if output else shape, name)
            return Value(product, shape, width)
        product = self.graph.node("MatMul", operands, name, shape)
        operands = [product, self.graph.constant(f"{name}.bias", bias.values, bias.groups)]
        return Value(self.graph.node("Add", operands, output or f"{name}/biased"), shape, width)

    def layer_norm(self, name: str, x: Value, weight: Weight[Array], bias: Weight[Array], epsilon: float) -> Value:
        operands = [x.name, self.graph.constant(f"{name}.weight", weight.values, weight.groups)]
        operands.append(self.graph.constant(f"{name}.bias", bias.values, bias.groups))
        return x._replace(name=self.graph.node("LayerNormalization", operands, name, x.shape, axis=-1, epsilon=epsilon))

    def activation(self, kind: str, name: str, x: Value) -> Value:
        if kind == "log1p":
            one = self.graph.constant(f"{name}/one", np.array(1, np.float32))
            x = x._replace(name=self.graph.node("Add", [x.name, one], f"{name}/plus_one", x.shape))
            return x._replace(name=self.graph.node("Log", [x.name], name, x.shape))
        operator, attributes = _ACTIVATIONS[kind]
        return x._replace(name=self.graph.node(operator, [x.name], name, x.shape, **attributes))

    def add(self, name: str, x: Value, y: Value) -> Value:
        return x._replace(name=self.graph.node("Add", [x.name, y.name], name, x.shape))

    def multiply(self, name: str, x: Value, y: Value) -> Value:
        return x._replace(name=self.graph.node("Mul", [x.name, y.name], name, x.shape))

    def heads(
        self,
        name: str,
        x: Value,
        weight: Weight[Array],
        bias: Weight[Array],
        part: HeadPart,
        turns: Value | None = None,
        terms: int = 1,
    ) -> Value:
        heads, head_size = bias.values.shape
        attention = name.rpartition("/")[0]
        split = f"{attention}/split_shape"
        if f"{attention}/head_sizes" not in self.graph.initializers:
            sizes = self.graph.sizes_of(
                f"{attention}/head_sizes", (("heads",), ("head",)), {"heads": heads, "head": head_size}
            )
            self.graph.node("Concat", [SHAPE, sizes], split, axis=0)
        values, bias_values = matrix(weight), matrix(bias)
        if part == "query":
            # The softmax scale rides on the query projection: one multiplication less per score.
            scale = np.float32(1 / math.sqrt(terms * head_size))
            values, bias_values = values * scale, bias_values * scale
            self.graph.scaled |= {name, f"{name}/transposed"}
        flat = self._gemm(name, x, weight, bias, values, bias_values)
        split_heads = self.graph.node("Reshape", [flat.name, split], f"{name}/heads")
        if turns is not None:
            split_heads = self._turn(name, split_heads, turns)
        order = _HEAD_ORDERS[part]
        axes: tuple[int | str, ...] = ("batch", "sequence", heads, head_size)
        shape = tuple(axes[axis] for axis in order)
        return Value(self.graph.node("Transpose", [split_heads], f"{name}/transposed", shape, perm=order), shape)

    def attend(
        self,
        name: str,
        query: Value,
        key: Value,
        value: Value,
        mask: Value,
        by_position: tuple[Value, Value] | None = None,
    ) -> Value:
        graph = self.graph
        scores = graph.node("MatMul", [query.name, key.name], f"{name}/scores")
        if by_position is not None:
            by_query, by_key = by_position
            forth, back = f"{name}/to_position", f"{name}/from_position"
            products = graph.node("MatMul", [query.name, by_key.name], f"{forth}/products")
            scores = graph.node("Add", [scores, self._by_pair(forth, products)], f"{forth}/sum")
            keys = graph.node("Transpose", [key.name], f"{back}/keys", perm=(0, 1, 3, 2))
            products = graph.node("MatMul", [keys, by_query.name], f"{back}/products")
            by_key_first = self._by_pair(back, products)
            turned = graph.node("Transpose", [by_key_first], f"{back}/by_query", perm=(0, 1, 3, 2))
            scores = graph.node("Add", [scores, turned], f"{back}/sum")
        masked = self._biased(f"{name}/masked_scores", scores, mask)
        pairs = ("batch", value.shape[1], "sequence", "sequence")
        probabilities = graph.node("Softmax", [masked], f"{name}/probabilities", pairs, axis=-1)
        mixed = graph.node("MatMul", [probabilities, value.name], f"{name}/mixed")
        joined = graph.node("Transpose", [mixed], f"{name}/joined", perm=(0, 2, 1, 3))
        _, heads, _, head_size = value.shape
        sizes = {"heads": int(heads), "head": int(head_size)}
        context_sizes = graph.sizes_of(f"{name}/context_sizes", (-1, ("heads", "head")), sizes)
        shape = "tokens", math.prod(sizes.values())
        return Value(graph.node("Reshape", [joined, context_sizes], f"{name}/context", shape), shape)

    def _by_text(self, name: str, x: Value) -> str:
        """x [tokens, hidden] as [batch, sequence, hidden]."""
        (label,) = x.channels
        width = self.graph.sizes_of(f"{name}/hidden_size", (x.channels,), {label: int(x.shape[1])})
        target = self.graph.node("Concat", [SHAPE, width], f"{name}/token_shape", axis=0)
        return self.graph.node("Reshape", [x.name, target], f"{name}/tokens")

    def first_token(self, name: str, x: Value) -> Value:
        tokens = self._by_text(name, x)
        zero = self.graph.constant("zero", np.array(0, np.int64))
        shape = "batch", x.shape[1]
        return Value(self.graph.node("Gather", [tokens, zero], f"{name}/first_token", shape, axis=1), shape)

    def pool(self, mode: PoolingMode, name: str, x: Value, output: str | None = None) -> Value:
        if mode == "cls":
            return self.first_token(name, x)
        graph, tokens, shape = self.graph, self._by_text(name, x), ("batch", x.shape[1])
        if mode == "max":
            spread = graph.node("Unsqueeze", [self._shown(), graph.integers(2)], f"{name}/mask")
            shown = graph.node("Cast", [spread], f"{name}/shown", to=TensorProto.BOOL)
            lowest = graph.constant("lowest", np.array(np.finfo(np.float32).min, np.float32))
            masked = graph.node("Where", [shown, tokens, lowest], f"{name}/masked")
            largest = graph.node("ReduceMax", [masked, graph.integers(1)], output or f"{name}/pooled", keepdims=0)
            return Value(largest, shape)
        weights = graph.node("Unsqueeze", [self._weights(mode, name), graph.integers(1)], f"{name}/mask")
        total = graph.node("MatMul", [weights, tokens], f"{name}/sum")
        if mode != "lasttoken":
            count = graph.node("ReduceSum", [weights, graph.integers(2)], f"{name}/count", keepdims=1)
            if mode == "mean_sqrt_len_tokens":
                count = graph.node("Sqrt", [count], f"{name}/root")
            total = graph.node("Div", [total, count], f"{name}/mean")
        pooled = graph.node(
            "Squeeze", [total, graph.integers(1)], output or f"{name}/pooled", None if output else shape
        )
        return Value(pooled, shape)

    def _weights(self, mode: PoolingMode, name: str) -> str:
        """Of the tokens in a sum, [batch, sequence]: those of padding are 0."""
        if mode not in ("lasttoken", "weightedmean"):
            return self._shown()
        graph, shown = self.graph, self._shown()
        counted = graph.node("CumSum", [shown, graph.constant("one", np.array(1, np.int64))], f"{name}/counted")
        positions = graph.node("Mul", [counted, shown], f"{name}/positions")
        if mode == "weightedmean":
            return positions
        last = graph.node("ReduceMax", [positions, graph.integers(1)], f"{name}/last", keepdims=1)
        is_last = graph.node("Equal", [positions, last], f"{name}/is_last")
        return graph.node("Cast", [is_last], f"{name}/weights", to=TensorProto.FLOAT)

    def join(self, output: str, vectors: Sequence[Value]) -> Value:
        joined = self.graph.node("Concat", [vector.name for vector in vectors], output, axis=1)
        return Value(joined, ("batch", sum(int(vector.shape[1]) for vector in vectors)))

    def unit(self, output: str, x: Value) -> Value:
        return x._replace(name=self.graph.node("LpNormalization", [x.name], output, axis=-1, p=2))

    def truncate(self, output: str, x: Value, size: int) -> Value:
        graph = self.graph
        operands = [x.name, graph.integers(0), graph.integers(size), graph.integers(1)]
        return Value(graph.node("Slice", operands, output), ("batch", size))

    def by_text(self, name: str, x: Value, output: str) -> Value:
        width = int(x.shape[1])
        target = self.graph.node("Concat", [SHAPE, self.graph.integers(width)], f"{name}/token_shape", axis=0)
        return Value(self.graph.node("Reshape", [x.name, target], output), ("batch", "sequence", width))

    def columns(self, name: str, x: Value, outputs: tuple[str, ...]) -> Value:
        for column, output in enumerate(outputs):
            index = self.graph.constant(f"{name}/{output}.column", np.array(column, np.int64))
            scores = self.graph.node("Gather", [x.name, index], f"{name}/{output}", ("tokens",), axis=1)
            self.graph.node("Reshape", [scores, SHAPE], output)
        return x
