"""Static INT8 quantization in memory with ONNX Runtime's QDQ quantizer."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import get_qmin_qmax_for_qType

from ortnas.export.graph.builder import add_initializer
from ortnas.export.graph.model import PRECISION_PROPERTY
from ortnas.export.int8.calibration import INTEGER_OPERATORS
from ortnas.export.int8.recipes import Recipe

WORD_TABLE = "embeddings.word"
# A table is rounded in parts that stay in the processor's cache.
_ROWS_AT_A_TIME = 1024
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


def _round_weights(model: onnx.ModelProto) -> None:
    """Replaces ``QuantizeLinear`` of a weight by what it gives, with the quantizer's scales and zero points."""
    graph = model.graph
    initializers = {item.name: item for item in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in initializers]
    renamed = {}
    for node in nodes:
        weight, scale, zero_point = (numpy_helper.to_array(initializers[name]) for name in node.input)
        # Weights of a product are [in, out]; scales are one number or one for every column, as is the zero point.
        levels = np.rint(weight / scale) + zero_point
        limits = np.iinfo(zero_point.dtype)
        name = renamed[node.output[0]] = f"{node.input[0]}_quantized"
        add_initializer(graph, name, np.clip(levels, limits.min, limits.max).astype(zero_point.dtype))
        graph.initializer.remove(initializers[node.input[0]])
        graph.node.remove(node)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)


def _keep_residual_stream_float(model: onnx.ModelProto) -> None:
    """The quantizer hands the dequantized tensor to every consumer; only integer products need it."""
    producers = {output: node for node in model.graph.node for output in node.output}
    source = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and (quantize := producers.get(node.input[0])) is not None:
            source[node.output[0]] = quantize.input[0]
    for node in model.graph.node:
        is_integer = node.op_type in INTEGER_OPERATORS and node.input[1] in producers
        if not is_integer and node.op_type != "DequantizeLinear":
            for position, name in enumerate(node.input):
                node.input[position] = source.get(name, name)


def _quantize_word_table(model: onnx.ModelProto) -> None:
    """Stores the word embeddings as int8 rows with a scale each; looked-up rows are dequantized, not the table."""
    graph = model.graph
    table = next(item for item in graph.initializer if item.name == WORD_TABLE)
    gather = next(node for node in graph.node if node.op_type == "Gather" and node.input[0] == WORD_TABLE)
    rows = numpy_helper.to_array(table)
    quantized, scale = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        scale[part] = np.maximum(np.abs(rows[part]).max(axis=1), 1e-12) / np.float32(127)
        quantized[part] = np.rint(rows[part] / scale[part, None])
    graph.initializer.remove(table)
    add_initializer(graph, f"{WORD_TABLE}_quantized", quantized)
    add_initializer(graph, f"{WORD_TABLE}_scale", scale)
    ids, output = gather.input[1], gather.output[0]
    position = list(graph.node).index(gather)
    graph.node.remove(gather)
    looked_up = (
        helper.make_node("Gather", [f"{WORD_TABLE}_quantized", ids], [f"{output}/int8"], name=f"{output}/int8", axis=0),
        helper.make_node("Gather", [f"{WORD_TABLE}_scale", ids], [f"{output}/scale"], name=f"{output}/scale", axis=0),
        helper.make_node(
            "DequantizeLinear", [f"{output}/int8", f"{output}/scale"], [output], name=f"{output}/dequantized", axis=0
        ),
    )
    for offset, node in enumerate(looked_up):
        graph.node.insert(position + offset, node)


def quantize(model: onnx.ModelProto, ranges: TensorsData, recipe: Recipe) -> onnx.ModelProto:
    """The QDQ form of a float model from ``export.graph.encoder``, quantized by ONNX Runtime.

    Inputs of every ``Gemm`` and its weights are integer, per-channel where the recipe says so, unless the recipe keeps
    the node in float; outputs stay float. The given model is used up.
    """
    # ONNX Runtime 1.20 sets the range of every softmax, though it is no input of a product, and asks that there is one.
    for node in model.graph.node:
        if node.op_type == "Softmax":
            ranges.data.setdefault(node.output[0], TensorData(lowest=np.float32(0), highest=np.float32(1)))
    # The quantizer reports each weight scale that it widens for an int32 bias; that is its work, not news.
    logging.getLogger().addFilter(_mute_weight_scale_notes)
    try:
        quantizer = QDQQuantizer(
            model,
            recipe.per_channel,
            recipe.reduce_range,
            _TYPES[recipe.weight_type],
            _TYPES[recipe.activation_type],
            ranges,
            [],
            float_products(model, recipe),
            INTEGER_OPERATORS,
            # Weights are left in float and rounded below: the quantizer would do so channel by channel.
            {
                "OpTypesToExcludeOutputQuantization": INTEGER_OPERATORS,
                "AddQDQPairToWeight": True,
                "TensorQuantOverrides": _channel_scales(model, recipe) if recipe.per_channel else {},
            },
        )
        quantizer.quantize_model()
    finally:
        logging.getLogger().removeFilter(_mute_weight_scale_notes)
    quantized: onnx.ModelProto = quantizer.model.model
    _round_weights(quantized)
    _keep_residual_stream_float(quantized)
    if recipe.embeddings:
        _quantize_word_table(quantized)
    quantizer.model.topological_sort()
    # They were for the quantizer; ONNX Runtime infers shapes itself.
    quantized.graph.ClearField("value_info")
    for item in quantized.metadata_props:
        if item.key == PRECISION_PROPERTY:
            item.value = "int8"
    return quantized


def _channel_scales(model: onnx.ModelProto, recipe: Recipe) -> dict[str, list[dict[str, Any]]]:
    """By weight, what the quantizer computes of every output channel, for all channels at once: its own way, one after
    the other, takes most of the time of an export."""
    lowest, highest = get_qmin_qmax_for_qType(
        _TYPES[recipe.weight_type].tensor_type, reduce_range=recipe.reduce_range, symmetric=True
    )
    zero_point = np.round((float(lowest) + float(highest)) / 2)
    left_out = set(float_products(model, recipe))
    weights = {
        node.input[1] for node in model.graph.node if node.op_type in INTEGER_OPERATORS and node.name not in left_out
    }
    scales: dict[str, list[dict[str, Any]]] = {}
    for item in model.graph.initializer:
        if item.name in weights:
            # Weights are [in, out].
            largest = np.abs(numpy_helper.to_array(item)).max(axis=0)
            widths = 2 * largest.astype(np.float64) / (float(highest) - float(lowest))
            # As the quantizer does for channels of zeros.
            is_empty = widths < np.finfo(largest.dtype).tiny
            values = np.where(is_empty, 1.0, widths).astype(largest.dtype)
            zero_points = np.where(is_empty, 0, zero_point)
            scales[item.name] = [
                {"axis": 1, "scale": scale, "zero_point": zero}
                for scale, zero in zip(values, zero_points.tolist(), strict=True)
            ]
    return scales


def float_products(model: onnx.ModelProto, recipe: Recipe) -> list[str]:
    """Names of the weight products that the recipe leaves in float."""
    products = (node.name for node in model.graph.node if node.op_type in INTEGER_OPERATORS)
    return [name for name in products if recipe.keeps_float(name)]


def _mute_weight_scale_notes(record: logging.LogRecord) -> bool:
    return "Increasing scale for weight" not in record.getMessage()
