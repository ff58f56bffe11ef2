"""Ranges of the tensors that will be quantized, from ONNX Runtime's calibrators, in memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto
from onnxruntime import OrtValue
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import (
    CalibraterBase,
    EntropyCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
    TensorsData,
)

from ortnas.bench.conditions import usable_processors
from ortnas.export.int8.recipes import Attention, is_integer_attention
from ortnas.nas.arrays import Feeds
from ortnas.nas.failures import OrtnasError

INTEGER_OPERATORS = ["Gemm"]
# What became of accuracy with the methods that do not take the extremes, elsewhere and by
# tests/performance/quantization_accuracy.py.
METHOD_WARNINGS = {
    "entropy": (
        "calibration 'entropy' cuts off the largest activations: BERT-large fell from 84.6 to 83.0 exact match on "
        "SQuAD (onnxruntime issue 10571), and MiniLM-L6 was no better than with 'minmax' (SST-2 88.1 to 88.2, STS-B "
        "86.57 to 86.60)"
    ),
    "percentile": (
        "calibration 'percentile' cuts off the largest activations: BERT-large fell from 84.6 to 0.3 exact match on "
        "SQuAD (onnxruntime issue 10571), and MiniLM-L6 was no better than with 'minmax' (SST-2 87.8 to 88.2, STS-B "
        "86.52 to 86.60)"
    ),
}
# By the same measurement MiniLM-L6 does well on the ranges of one text; nothing says that other networks do.
FEW_TEXTS = 16
# Every calibrated activation of a part is in memory at once.
_TOKENS_AT_A_TIME = 512


class CalibrationError(OrtnasError):
    """Calibration data that gives no usable ranges."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[Feeds]) -> None:
        self.batches: Iterator[Feeds] = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


class _Session(onnxruntime.InferenceSession):  # type: ignore[misc]
    """Refuses outputs that are not finite and keeps the model's own of the first batch.

    ONNX Runtime's reductions and numpy's histograms pass over NaN.
    """

    own_outputs: int
    first: tuple[npt.NDArray[np.float32], ...] = ()

    def run(self, output_names: Any, input_feed: Feeds, run_options: Any = None) -> list[npt.NDArray[np.float32]]:
        outputs: list[npt.NDArray[np.float32]] = super().run(output_names, input_feed, run_options)
        named = list(zip((item.name for item in self.get_outputs()), outputs, strict=True))
        # What is calibrated comes after the model's own outputs, and tells more.
        for name, values in named[self.own_outputs :] + named[: self.own_outputs]:
            _check_finite(name.removesuffix("_ReduceMin").removesuffix("_ReduceMax"), values)
        # A copy: an output keeps all memory of its session alive.
        self.first = self.first or tuple(output.copy() for output in outputs[: self.own_outputs])
        return outputs


class _InMemory(CalibraterBase):  # type: ignore[misc]
    """A calibrator on the inputs of weight products, and of the products of two activations that ``attention``
    names, without files.

    The base class reads the model from a path; the state of all calibrators is set here instead. Settings are the
    defaults of ONNX Runtime's ``create_calibrator``.
    """

    symmetric = per_channel = use_external_data_format = False

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[Any]], attention: Attention) -> None:
        self.attention = attention
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.weights = weights
        self.op_types_to_calibrate = INTEGER_OPERATORS
        self.augmented_model_path = io.BytesIO()
        self.intermediate_outputs: list[Any] = []
        self.calibrate_tensors_range = self.collector = None
        self.num_model_outputs = len(model.graph.output)
        self.model_original_outputs = {output.name for output in model.graph.output}
        self.execution_providers = ["CPUExecutionProvider"]
        self.augment_graph()
        self.create_inference_session()

    def select_tensors_to_calibrate(self, model: onnx.ModelProto) -> tuple[list[str], dict[str, onnx.ValueInfoProto]]:
        nodes = model.graph.node
        inputs = [node.input[0] for node in nodes if node.op_type in INTEGER_OPERATORS]
        inputs += [name for node in nodes if is_integer_attention(self.attention, node.name) for name in node.input]
        # A softmax has the range of all softmaxes.
        probabilities = {node.output[0] for node in nodes if node.op_type == "Softmax"}
        names = [name for name in dict.fromkeys(inputs) if name not in probabilities]
        return names, {info.name: info for info in model.graph.value_info}

    def create_inference_session(self) -> None:
        named = [item.name for item in self.model.graph.initializer if item.data_location == TensorProto.EXTERNAL]
        values = [OrtValue.ortvalue_from_numpy(np.ascontiguousarray(self.weights[name])) for name in named]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_processors()
        options.add_external_initializers(named, values)
        # A plan for the next run takes as much memory as the run itself.
        options.enable_mem_pattern = False
        content = self.augmented_model_path.getvalue()
        self.infer_session = _Session(content, options, providers=self.execution_providers)
        self.infer_session.own_outputs = self.num_model_outputs


class _MinMax(_InMemory, MinMaxCalibrater):  # type: ignore[misc]
    moving_average, max_intermediate_outputs = False, None


class _Histogram(_InMemory):
    def collect_data(self, data_reader: _Reader) -> None:
        for batch in data_reader.batches:
            # The base class holds every value of what it is given at once, and needs it to be of one shape.
            super().collect_data(_Reader([batch]))


class _Entropy(_Histogram, EntropyCalibrater):  # type: ignore[misc]
    method, num_bins, num_quantized_bins, percentile, scenario = "entropy", 128, 128, None, None


class _Percentile(_Histogram, PercentileCalibrater):  # type: ignore[misc]
    method, num_bins, num_quantized_bins, percentile, scenario = "percentile", 2048, None, 99.999, None
    symmetric = True


_CALIBRATERS: dict[str, type[_InMemory]] = {"minmax": _MinMax, "entropy": _Entropy, "percentile": _Percentile}
METHODS = tuple(_CALIBRATERS)


@dataclass(frozen=True)
class Calibration:
    """Ranges of the tensors that will be quantized, and the float model's output for the first batch (start and end
    logits of a span on the last axis)."""

    ranges: TensorsData
    output: npt.NDArray[np.float32]


def calibrate(
    model: onnx.ModelProto,
    batches: Sequence[Feeds],
    method: str = "minmax",
    weights: Mapping[str, npt.NDArray[Any]] = {},
    attention: Attention = "float",
) -> Calibration:
    """The range of every tensor that will be quantized, over the batches; padding counts, as models compute it too.

    Methods, as ONNX Runtime defines them: ``minmax``, the extremes; ``entropy``, the symmetric range whose 128 steps
    lose least of the distribution (Kullback-Leibler divergence); ``percentile``, the symmetric range that holds
    99.999 % of the values; the latter two are cut to the extremes. Their histograms take in one batch at a time, and
    the first one sets the width of their bins.

    ``weights`` holds the initializers that the model only names; ``attention`` is the recipe's. Raises CalibrationError
    for an unknown method, no data, all-padding data, batches that lack an input, or ranges that are not finite or have
    no width.
    """
    if method not in METHODS:
        raise CalibrationError(f"unknown calibration method {method!r}; allowed are {', '.join(METHODS)}")
    batches = _asked_inputs([item.name for item in model.graph.input], batches)
    calibrater = _CALIBRATERS[method](model, weights, attention)
    # The histogram calibrators print what they do.
    with contextlib.redirect_stdout(io.StringIO()):
        calibrater.collect_data(_Reader(batches))
        ranges: TensorsData = calibrater.compute_data()
    for name, data in ranges.items():
        low, high = np.asarray(data.range_value).reshape(2)
        _check_finite(name, np.array([low, high]))
        if low >= high:
            raise CalibrationError(
                f"calibration: {name} is always {f'{low:g}' if low else 'zero'}; the network is degenerate"
            )
    outputs = calibrater.infer_session.first
    return Calibration(ranges, outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1))


def calibration_warnings(method: str, batches: Sequence[Feeds]) -> list[str]:
    """Sentences about a choice that works and may yet cost accuracy; none for ``minmax`` on enough texts."""
    warnings = [METHOD_WARNINGS[method]] if method in METHOD_WARNINGS else []
    texts = sum(len(batch["attention_mask"]) for batch in batches)
    if texts < FEW_TEXTS:
        warnings.append(
            f"calibration on {texts} text{'s' * (texts > 1)}: values outside the ranges of so few are cut off; "
            f"take {FEW_TEXTS} or more"
        )
    return warnings


def _asked_inputs(asked: Sequence[str], batches: Sequence[Feeds]) -> list[Feeds]:
    """The batches without inputs that the model does not ask for, in parts."""
    for number, batch in enumerate(batches, start=1):
        if missing := [name for name in asked if name not in batch]:
            raise CalibrationError(
                f"calibration: batch {number} of {len(batches)} lacks {', '.join(missing)}; "
                f"every batch needs {', '.join(asked)}"
            )
    if not any(batch["attention_mask"].any() for batch in batches):
        raise CalibrationError("calibration needs at least one batch with tokens that are not padding")
    return [
        {name: batch[name][start : start + rows] for name in asked}
        for batch in batches
        for rows in [max(1, _TOKENS_AT_A_TIME // batch[asked[0]].shape[1])]
        for start in range(0, len(batch[asked[0]]), rows)
    ]


def _check_finite(name: str, values: npt.NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        raise CalibrationError(f"calibration: {name} is not finite; the weights or the data are damaged")
