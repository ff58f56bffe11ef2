"""Static INT8 quantization in memory with ONNX Runtime's calibrator and QDQ quantizer."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import MinMaxCalibrater, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from export.recipes import Recipe

Feeds = Mapping[str, npt.NDArray[np.int64]]
INTEGER_OPERATORS = ["Gemm"]
WORD_TABLE = "embeddings.word"
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


class CalibrationError(ValueError):
    """Calibration data that gives no usable ranges."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[Feeds]) -> None:
        self.batches: Iterator[Feeds] = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


class _InMemoryMinMax(MinMaxCalibrater):  # type: ignore[misc]
    """ONNX Runtime's min-max calibrator on the inputs of the integer operators, without files.

    The base class reads the model from a path; its state is set here instead.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.op_types_to_calibrate = INTEGER_OPERATORS
        self.augmented_model_path = io.BytesIO()
        self.symmetric = self.use_external_data_format = self.per_channel = self.moving_average = False
        self.max_intermediate_outputs = None
        self.intermediate_outputs: list[Any] = []
        self.calibrate_tensors_range = None
        self.num_model_outputs = len(model.graph.output)
        self.model_original_outputs = {output.name for output in model.graph.output}
        self.execution_providers = ["CPUExecutionProvider"]
        self.augment_graph()
        self.create_inference_session()

    def select_tensors_to_calibrate(self, model: onnx.ModelProto) -> tuple[list[str], dict[str, Any]]:
        inputs = (node.input[0] for node in model.graph.node if node.op_type in INTEGER_OPERATORS)
        return list(dict.fromkeys(inputs)), {}

    def create_inference_session(self) -> None:
        self.infer_session = onnxruntime.InferenceSession(
            self.augmented_model_path.getvalue(), providers=self.execution_providers
        )


@dataclass(frozen=True)
class Calibration:
    """Ranges of the tensors that will be quantized, and the float model's output for the first batch (start and end
    logits of a span on the last axis)."""

    ranges: TensorsData
    output: npt.NDArray[np.float32]


def calibrate(model: onnx.ModelProto, batches: Sequence[Feeds]) -> Calibration:
    """Min and max of every tensor that will be quantized, over the batches.

    Raises CalibrationError for no data, all-padding data, or ranges that are not finite or have no width.
    """
    if not batches or not any(batch["attention_mask"].any() for batch in batches):
        raise CalibrationError("calibration needs at least one batch with tokens that are not padding")
    asked = [item.name for item in model.graph.input]
    batches = [{name: batch[name] for name in asked} for batch in batches]
    calibrater = _InMemoryMinMax(model)
    calibrater.collect_data(_Reader(batches))
    ranges = calibrater.compute_data()
    for name, data in ranges.items():
        low, high = (np.asarray(bound).item() for bound in data.range_value)
        if not np.isfinite([low, high]).all():
            raise CalibrationError(f"calibration: {name} is not finite; the weights or the data are damaged")
        if low == high == 0:
            raise CalibrationError(f"calibration: {name} is always zero; the network is degenerate")
    outputs = calibrater.infer_session.run([item.name for item in model.graph.output], batches[0])
    return Calibration(ranges, outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1))


def _keep_residual_stream_float(model: onnx.ModelProto) -> None:
    """The quantizer hands the dequantized tensor to every consumer; only integer operators need it."""
    source = {}
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and (quantize := producers.get(node.input[0])) is not None:
            source[node.output[0]] = quantize.input[0]
    for node in model.graph.node:
        if node.op_type not in ("Gemm", "DequantizeLinear"):
            for position, name in enumerate(node.input):
                node.input[position] = source.get(name, name)


def _quantize_word_table(model: onnx.ModelProto) -> None:
    """Stores the word embeddings as int8 rows with a scale each; looked-up rows are dequantized, not the table."""
    graph = model.graph
    table = next(item for item in graph.initializer if item.name == WORD_TABLE)
    gather = next(node for node in graph.node if node.op_type == "Gather" and node.input[0] == WORD_TABLE)
    rows = numpy_helper.to_array(table)
    scale = np.maximum(np.abs(rows).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
    quantized = np.rint(rows / scale[:, None]).astype(np.int8)
    graph.initializer.remove(table)
    graph.initializer.append(numpy_helper.from_array(quantized, f"{WORD_TABLE}_quantized"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{WORD_TABLE}_scale"))
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
    """The QDQ form of a float model from ``export.graph``, quantized by ONNX Runtime.

    Inputs of every ``Gemm`` and its weights are integer, per-channel where the recipe says so; outputs stay float.
    The given model is used up.
    """
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
            [],
            INTEGER_OPERATORS,
            {"OpTypesToExcludeOutputQuantization": INTEGER_OPERATORS},
        )
        quantizer.quantize_model()
    finally:
        logging.getLogger().removeFilter(_mute_weight_scale_notes)
    quantized: onnx.ModelProto = quantizer.model.model
    _keep_residual_stream_float(quantized)
    _quantize_word_table(quantized)
    quantizer.model.topological_sort()
    return quantized


def _mute_weight_scale_notes(record: logging.LogRecord) -> bool:
    return "Increasing scale for weight" not in record.getMessage()
