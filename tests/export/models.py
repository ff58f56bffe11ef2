"""ONNX models that ortnas did not make, and what ONNX Runtime makes of models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ortnas.bench.session import Setup
from ortnas.export.inspect.running import optimized_file

Sizes = Sequence[int | str]


def random_weight(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(sum(name.encode())).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def random_integers(name: str, kind: type[np.integer[Any]], *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(sum(name.encode())).integers(1, 100, shape)
    return numpy_helper.from_array(values.astype(kind), name)


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sizes | None],
    outputs: Sequence[str],
    weights: Sequence[onnx.TensorProto] = (),
    input_type: int = TensorProto.FLOAT,
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """A model with inputs of one type, and float32 outputs whose shapes are not said."""
    graph = helper.make_graph(
        list(nodes),
        "handmade",
        [helper.make_tensor_value_info(name, input_type, sizes) for name, sizes in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    opsets += [helper.make_opsetid(function.domain, 1) for function in functions]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))
    content: bytes = model.SerializeToString()
    return content


def optimized_graph(model: bytes | Path, setup: Setup) -> onnx.ModelProto:
    """The graph that ONNX Runtime really runs under default options, weights included."""
    with optimized_file(model, setup) as path:
        return onnx.load(path)


def two_gemms() -> bytes:
    """x [batch, 24] -> Gemm 'first' [24, 40] -> Relu -> Gemm 'second' [40, 8]."""
    return make_model(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], name="second", transB=1),
        ],
        {"x": ["batch", 24]},
        ["y"],
        [random_weight("w1", 24, 40), random_weight("b1", 40), random_weight("w2", 8, 40), random_weight("b2", 8)],
    )


def convolutions() -> bytes:
    """Images [batch, 3, 8, 8] -> Conv -> Relu -> grouped Conv -> MatMul."""
    return make_model(
        [
            helper.make_node("Conv", ["pixels", "w1", "b1"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "w2"], ["d"], name="grouped", group=2, strides=[2, 2]),
            helper.make_node("Flatten", ["d"], ["f"], name="flat"),
            helper.make_node("MatMul", ["f", "w3"], ["y"], name="classifier"),
        ],
        {"pixels": ["batch", 3, 8, 8]},
        ["y"],
        [
            random_weight("w1", 16, 3, 3, 3),
            random_weight("b1", 16),
            random_weight("w2", 32, 8, 1, 1),
            random_weight("w3", 512, 5),
        ],
    )


def branches() -> bytes:
    """x [batch, 4] -> If with a MatMul in either branch ('inner_a', 'inner_b')."""

    def body(name: str) -> onnx.GraphProto:
        node = helper.make_node("MatMul", ["x", "w"], [f"{name}_out"], name=name)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_out", 1, None)])

    return make_model(
        [
            helper.make_node("ReduceSum", ["x"], ["s"], name="sum", keepdims=0),
            helper.make_node("Cast", ["s"], ["c"], name="cast", to=TensorProto.BOOL),
            helper.make_node(
                "If", ["c"], ["y"], name="choice", then_branch=body("inner_a"), else_branch=body("inner_b")
            ),
        ],
        {"x": ["batch", 4]},
        ["y"],
        [random_weight("w", 4, 4)],
    )


def export_bert(path: Path) -> Path:
    """A random two-layer BERT (32 hidden, 4 heads, 64 FFN, 40 positions) as torch's exporter writes it."""
    import torch
    import transformers

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.BertModel(
                transformers.BertConfig(
                    vocab_size=100,
                    hidden_size=32,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    intermediate_size=64,
                    max_position_embeddings=40,
                ),
                add_pooling_layer=False,
            ).eval()

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]
            return output

    torch.manual_seed(0)
    ids = torch.randint(0, 100, (2, 8))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's notes
        torch.onnx.export(
            Encoder(),
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(path),
            input_names=names,
            output_names=["hidden"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names},
            opset_version=17,
            dynamo=False,
        )
    return path
