"""Models for requests of one shape: everything that depends on the shape alone is computed once, here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from ortnas.export.graph.builder import add_initializer
from ortnas.export.graph.position_operations import SHAPE

# A folded tensor that is larger than this, and than what it is made of, is left to the runtime, which folds it when it
# loads the model: files grow by no more than the sizes that a search is told.
_LARGEST_GROWTH_BYTES = 2**16
_Constants = dict[str, npt.NDArray[np.generic]]


def fix_shapes(model: onnx.ModelProto, shapes: tuple[int, int]) -> onnx.ModelProto:
    """The model for requests of this batch and sequence; it is changed in place.

    ``model`` is one of ``export.graph`` or made of such, whose nodes are in order. Inputs and outputs have their sizes,
    and no node computes with sizes, but for those of large constants.
    """
    graph = model.graph
    sizes = dict(zip(("batch", "sequence"), shapes, strict=True))
    for item in (*graph.input, *graph.output):
        for axis in item.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = sizes[axis.dim_param]
    # They name sizes that are known now, and served the quantizer.
    graph.ClearField("value_info")
    nodes = _of_shape(graph)
    folded = _folded(nodes, _computed(model, nodes, shapes))
    kept = [node for node in graph.node if node.output[0] not in folded]
    graph.ClearField("node")
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    left = [item for item in graph.initializer if item.name in read]
    graph.ClearField("initializer")
    graph.initializer.extend(left)
    for name in folded.keys() & read:
        add_initializer(graph, name, folded[name])
    return model


def _of_shape(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that compute with the shape of requests, and with nothing of what requests hold."""
    constants = {item.name for item in graph.initializer}
    depend, nodes = {SHAPE}, []
    for node in graph.node:
        if not depend.isdisjoint(node.input) and all(name in constants or name in depend for name in node.input):
            depend.update(node.output)
            nodes.append(node)
    return nodes


def _computed(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], shapes: tuple[int, int]) -> _Constants:
    """What all of these nodes give, with the shape, and the constants that they read."""
    read = {name for node in nodes for name in node.input}
    constants = {item.name: item for item in model.graph.initializer if item.name in read}
    shape = numpy_helper.from_array(np.array(shapes, np.int64), SHAPE)
    names = [name for node in nodes for name in node.output]
    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.graph.name = "shapes"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend([shape, *constants.values()])
    # Their types are inferred.
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = dict(zip(names, session.run(names, {}), strict=True))
    read_values = {name: numpy_helper.to_array(item) for name, item in constants.items()}
    return {SHAPE: numpy_helper.to_array(shape), **read_values, **values}


def _folded(nodes: Sequence[onnx.NodeProto], values: _Constants) -> _Constants:
    """What becomes constant: the shape, and outputs of nodes that read constants and are not too large."""
    folded, computed = {SHAPE: values[SHAPE]}, {name for node in nodes for name in node.output}
    for node in nodes:
        reads_computed = [name for name in node.input if name in computed and name not in folded]
        read_bytes = sum(values[name].nbytes for name in node.input)
        written_bytes = sum(values[name].nbytes for name in node.output)
        if not reads_computed and written_bytes <= max(_LARGEST_GROWTH_BYTES, read_bytes):
            folded |= {name: values[name] for name in node.output}
    return folded
