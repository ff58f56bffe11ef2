"""ONNX models around the graphs of subnets."""

from __future__ import annotations

import json
from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from ortnas.export.graph.builder import Graph, add_initializer
from ortnas.export.graph.encoder import build_graph
from ortnas.export.graph.fixed_shapes import fix_shapes
from ortnas.export.graph.heads import output_shape
from ortnas.export.graph.inputs import USUAL_INPUTS, ModelInputs, input_names
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Array

OPSET = 20
# Counts changes of the graph that change its speed or its numbers: older timings and scores are not of it.
LAYOUT_VERSION = 1
IR_VERSION = 9
PRECISION_PROPERTY = "ortnas.precision"
# Smaller initializers are not worth a reference.
_EXTERNAL_BYTES = 1024


def output_names(dimensions: Dimensions) -> tuple[str, ...]:
    """Outputs of the exported models, one or (span) two."""
    return HEADS[dimensions.head].output_names


def float_model(
    tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet, inputs: ModelInputs = USUAL_INPUTS
) -> onnx.ModelProto:
    """The subnet as a float32 ONNX model.

    Inputs are int64 ``[batch, sequence]``: ``input_ids``, ``attention_mask`` (1 for tokens, 0 for padding; not where
    ``inputs`` have no mask) and, where there is more than one token type, ``token_type_ids``. The output is float32:
    ``sentence_embedding [batch, embedding_size]``; ``logits [batch, labels]`` (regression: 1), ``[batch, sequence,
    labels]`` or ``[batch, sequence, vocab]``; for spans ``start_logits`` and ``end_logits [batch, sequence]``. Outputs
    at padding mean nothing. Raises SpaceError where the subnet does not fit the supernet.
    """
    graph = build_graph(tensors, dimensions, subnet, inputs.mask)
    model = to_model(graph, dimensions, subnet, mask=inputs.mask)
    return model if inputs.shapes is None else fix_shapes(model, inputs.shapes)


def to_model(
    graph: Graph, dimensions: Dimensions, subnet: Subnet, external: bool = False, mask: bool = True
) -> onnx.ModelProto:
    """The model around a subnet's graph, which has a ``mask`` or none.

    With ``external`` it only names its larger initializers: a session takes them from ``graph.initializers``.
    """
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="ortnas")
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.graph.name = f"ortnas-{subnet.key}"
    model.graph.node.extend(graph.nodes)
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in input_names(dimensions, mask)
    )
    model.graph.output.extend(
        helper.make_tensor_value_info(output.name, TensorProto.FLOAT, output_shape(output, dimensions))
        for output in HEADS[dimensions.head].outputs
    )
    outputs = {output.name for output in model.graph.output}
    model.graph.value_info.extend(info for info in graph.value_info if info.name not in outputs)
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
