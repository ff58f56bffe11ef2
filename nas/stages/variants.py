"""Timings of one network in several precisions, one beside the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization.calibrate import TensorsData

from ortnas.bench.host import Failure, Host, HostError
from ortnas.bench.request import Request
from ortnas.bench.target import Target
from ortnas.bench.timing import Nanoseconds, TimingProtocol
from ortnas.export.build import Exporter
from ortnas.export.graph.inputs import USUAL_INPUTS, ModelInputs
from ortnas.export.graph.model import LAYOUT_VERSION, float_model
from ortnas.export.inference import model_outputs
from ortnas.export.int8.calibration import INTEGER_OPERATORS, calibrate
from ortnas.export.int8.quantize import float_products, quantize
from ortnas.export.metrics import METRICS
from ortnas.export.part import Outputs, Part
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import append_line, digest, read_lines
from ortnas.search.mixed_precision import (
    Evaluation,
    Products,
    Resolution,
    mean_difference,
    score_resolution,
)
from ortnas.search.scoring import calibration_digest, part_digest

Array = npt.NDArray[np.float64]
# How many models are timed in turn with the all-INT8 one, and so how many a step of the search looks at.
GROUP_SIZE = 4
# A normal distribution's standard deviation over half the width of its middle half.
_DEVIATION = 1.4826
# A microsecond; clocks tell no less apart.
_LEAST_MS = 1e-3


@dataclass(frozen=True)
class Baseline:
    """The two ends: everything in float, and INT8 as configured. ``full_ms`` is the full model's INT8 latency."""

    fp32: Evaluation
    int8: Evaluation
    resolution: Resolution
    full_ms: float


class Variants:
    """INT8 models of one subnet that differ in the products left in float, evaluated on one part.

    ``anchor`` is the full model at the run's precision. Every evaluation is written to a ``file`` of JSON lines with
    what it depends on, and read back from there. Models are timed in so many ``rounds``.
    """

    def __init__(
        self,
        console: Console,
        host: Host,
        target: Target,
        anchor: bytes,
        part: Part,
        metric: str,
        exporter: Exporter,
        subnet: Subnet,
        file: Path,
        rounds: int = 80,
    ) -> None:
        self.console, self.host, self.target, self.anchor = console, host, target, anchor
        self.part, self.metric, self.exporter, self.subnet = part, metric, exporter, subnet
        self.protocol = TimingProtocol.fixed(rounds)
        self.file = file
        self.context = digest(
            LAYOUT_VERSION,
            exporter.supernet.digest,
            subnet.key,
            exporter.recipe.to_json(),
            calibration_digest(exporter.calibration),
            part_digest(part),
            metric,
            target.hash,
            self.protocol.to_json(),
        )
        entries = [entry for entry in read_lines(self.file) if entry["context"] == self.context]
        self._recorded_baseline = next((entry["baseline"] for entry in entries if "baseline" in entry), None)
        self._evaluations = {
            tuple(entry["kept"]): Evaluation(**entry["evaluation"]) for entry in entries if "kept" in entry
        }

    def build(self, kept: Products) -> bytes:
        """The INT8 model with these products in float, beside those that the recipe names."""
        recipe = replace(self.exporter.recipe, keep_float=(*self.exporter.recipe.keep_float, *kept))
        # The quantizer uses up the model and adds ranges of its own.
        model = self._float_model(replace(self.exporter.inputs, shapes=None))
        return self.exporter.finished(quantize(model, deepcopy(self._ranges), recipe))

    def multiply_adds(self) -> dict[str, int]:
        """Multiply-adds of each product that is still integer, for one sequence of the target's length, in order."""
        model, sequence = self._float_model(), self.target.main_workload.sequence
        graph, kept = model.graph, float_products(model, self.exporter.recipe)
        rows = {item.name: item.type.tensor_type.shape.dim[0].dim_param for item in (*graph.value_info, *graph.output)}
        weights = {item.name: int(np.prod(item.dims)) for item in graph.initializer}
        return {
            node.name: weights[node.input[1]] * (sequence if rows[node.output[0]] == "tokens" else 1)
            for node in graph.node
            if node.op_type in INTEGER_OPERATORS and node.name not in kept
        }

    @cached_property
    def baseline(self) -> Baseline:
        if (recorded := self._recorded_baseline) is not None:
            fp32, int8 = (Evaluation(**recorded[name]) for name in ("fp32", "int8"))
            return Baseline(fp32, int8, Resolution(**recorded["resolution"]), recorded["full_ms"])
        models = {"fp32": self.exporter.build(self.subnet, "fp32"), "full": self.anchor}
        rounds_ms = self._time(models)
        int8_ms = float(np.median(rounds_ms["int8"]))
        outputs = self._outputs(self._int8)
        baseline = Baseline(
            self._evaluation(self._float_outputs, int8_ms + added_ms(rounds_ms["fp32"], rounds_ms["int8"], int8_ms)),
            self._evaluation(outputs, int8_ms),
            Resolution(
                score_resolution(METRICS[self.metric], outputs, self._float_outputs, self.part),
                error_ms(rounds_ms["int8"]),
            ),
            int8_ms + added_ms(rounds_ms["full"], rounds_ms["int8"], int8_ms),
        )
        append_line(self.file, {"context": self.context, "baseline": asdict(baseline)})
        return baseline

    def evaluate(self, sets: Sequence[Products]) -> list[Evaluation]:
        """Of each set of products left in float, in groups that are timed in turn with the INT8 model as configured."""
        self._evaluations[()] = self.baseline.int8
        missing = [kept for kept in sets if kept not in self._evaluations]
        if missing:
            with self.console.progress(f"{max(map(len, sets))} in float") as report:
                for start in range(0, len(missing), GROUP_SIZE):
                    report(len(sets) - len(missing) + start, len(sets), "")
                    self._evaluate_group(missing[start : start + GROUP_SIZE])
                report(len(sets), len(sets), "")
        return [self._evaluations[kept] for kept in sets]

    def _evaluate_group(self, group: Sequence[Products]) -> None:
        models = {str(number): self.build(kept) for number, kept in enumerate(group)}
        rounds_ms = self._time(models)
        int8_ms = self.baseline.int8.latency_ms
        for kept, (name, model) in zip(group, models.items(), strict=True):
            latency_ms = int8_ms + added_ms(rounds_ms[name], rounds_ms["int8"], int8_ms)
            evaluation = self._evaluation(self._outputs(model), latency_ms)
            append_line(self.file, {"context": self.context, "kept": kept, "evaluation": asdict(evaluation)})
            self._evaluations[kept] = evaluation

    def _time(self, models: Mapping[str, bytes]) -> dict[str, Array]:
        """Latency in ms of every round, [rounds], of these models and of ``int8``, timed in turn. Raises HostError."""
        request = Request(self._int8, self.target.setup, self.target.workloads, self.protocol)
        results = self.host.measure(models, request)
        self.host.forget()
        rounds_ms: dict[str, Array] = {}
        for name, samples in results.items():
            if isinstance(samples, Failure):
                raise HostError(f"{self.host.name} could not time a model of {self.subnet.key}: {samples.reason}")
            rounds_ms[name] = self._rounds_ms(samples.model_ns)
            rounds_ms["int8"] = self._rounds_ms(samples.anchor_ns)
        return rounds_ms

    def _rounds_ms(self, samples_ns: Nanoseconds) -> Array:
        weights = [workload.weight for workload in self.target.workloads]
        return np.average(np.array(samples_ns, np.float64), axis=0, weights=weights) / 1e6

    def _outputs(self, model: bytes) -> Outputs:
        return model_outputs(model, self.part.encoded, self.exporter.supernet.dimensions.head)

    def _evaluation(self, outputs: Outputs, latency_ms: float) -> Evaluation:
        score = METRICS[self.metric](outputs, self.part)
        return Evaluation(score, mean_difference(outputs, self._float_outputs), latency_ms)

    def _float_model(self, inputs: ModelInputs = USUAL_INPUTS) -> onnx.ModelProto:
        return float_model(self.exporter.supernet.tensors, self.exporter.supernet.dimensions, self.subnet, inputs)

    @cached_property
    def _ranges(self) -> TensorsData:
        recipe = self.exporter.recipe
        return calibrate(
            self._float_model(), self.exporter.calibration, recipe.calibration, attention=recipe.attention
        ).ranges

    @cached_property
    def _int8(self) -> bytes:
        return self.build(())

    @cached_property
    def _float_outputs(self) -> Outputs:
        return self._outputs(self.exporter.build(self.subnet, "fp32"))


def added_ms(rounds_ms: Array, int8_rounds_ms: Array, int8_ms: float) -> float:
    """How much slower than INT8 a model is; both [rounds], timed in turn, ``int8_ms`` what INT8 usually takes.

    The median of what is added round by round: a host that slows down slows both, while the medians of all samples
    differ by chance as much as a product costs.
    """
    return float(np.median(rounds_ms / int8_rounds_ms) - 1) * int8_ms


def error_ms(rounds_ms: Array) -> float:
    """Standard error of ``added_ms`` of two models as noisy as this one, [rounds] (normal form)."""
    low, high = np.percentile(rounds_ms, (25, 75))
    return max(_LEAST_MS, _DEVIATION * float(high - low) / 2 * math.sqrt(math.pi / len(rounds_ms)))
