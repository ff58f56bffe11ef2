"""One network as float model, as ``quantize_static`` makes INT8 of it by default, and as we do: side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ortnas.bench.estimates import Timing
from ortnas.bench.host import Host
from ortnas.bench.request import Request
from ortnas.bench.target import Target
from ortnas.bench.timing import TimingProtocol
from ortnas.bench.visits import time_models
from ortnas.export.build import Exporter
from ortnas.export.graph.inputs import USUAL_INPUTS
from ortnas.export.inference import Drift, drift, model_outputs
from ortnas.export.int8.static_defaults import StaticDefaultsError
from ortnas.export.metrics import all_scores
from ortnas.export.package.package import packaged_model
from ortnas.export.part import Outputs, Part, Thresholds
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.stages.defaults_process import DefaultsProcess
from ortnas.nas.stages.packaging import drift_from_float
from ortnas.nas.stages.quantize_texts import BATCH, QuantizeTexts
from ortnas.search.intervals import SampledScores, sample_scores

FP32, DEFAULTS, INT8 = "fp32", "quantize_static", "int8"
_TITLES = {FP32: "FP32", DEFAULTS: "INT8 by quantize_static's defaults", INT8: "INT8 by ortnas"}
# They differ by half and more: what a package is known by elsewhere takes longer.
_PROTOCOL, _VISITS = TimingProtocol.fixed(8), 2


@dataclass(frozen=True)
class QuantizedModels:
    """Models by kind, as files of packages hold them, and what each answers on the scored texts."""

    exporter: Exporter
    subnet: Subnet
    texts: QuantizeTexts
    content: Mapping[str, bytes]
    outputs: Mapping[str, Outputs]
    thresholds: Mapping[str, Thresholds]

    @property
    def head(self) -> str:
        return self.exporter.supernet.dimensions.head

    def scored_part(self, kind: str) -> Part:
        return replace(self.texts.part, **self.thresholds[kind]._asdict())

    def scores(self, kind: str) -> dict[str, float]:
        """By metric."""
        return all_scores(self.head, self.outputs[kind], self.scored_part(kind))

    @cached_property
    def drift(self) -> Drift:
        """Of INT8 outputs from the float model's: on the scored texts; of logits over a vocabulary, which are not kept,
        on the first calibration texts."""
        if HEADS[self.head].fills_masks:
            return drift_from_float(self.exporter, self.subnet, self.content[INT8])
        int8, fp32 = (
            np.concatenate([row.reshape(-1, row.shape[-1]) for row in self.outputs[kind]]) for kind in (INT8, FP32)
        )
        return drift(int8, fp32)

    @cached_property
    def calibration_outputs(self) -> Outputs:
        """The float model's."""
        return model_outputs(self.content[FP32], self.texts.calibration.encoded, self.head)

    @cached_property
    def sampled(self) -> SampledScores:
        """By kind, of the metric that decides."""
        return sample_scores(self.texts.metric, self.outputs, self.texts.part, 0, self.thresholds)


def make_models(
    exporter: Exporter, texts: QuantizeTexts, defaults: DefaultsProcess, console: Console
) -> QuantizedModels:
    """Where texts have no labels, the float model's answers are the right ones. Raises ExportError.

    ``quantize_static`` has the usual model, for any shape and with a mask.
    """
    supernet = exporter.supernet
    head, subnet, scored = supernet.dimensions.head, supernet.dimensions.full_subnet, texts.part.encoded
    fp32 = exporter.build(subnet, "fp32")
    usual = fp32 if exporter.inputs == USUAL_INPUTS else replace(exporter, inputs=USUAL_INPUTS).build(subnet, "fp32")
    defaults.begin(usual, exporter.calibration, scored, head, BATCH)
    content = {FP32: packaged_model(fp32, head), INT8: packaged_model(exporter.build(subnet, "int8"), head)}
    outputs: dict[str, Outputs] = {kind: model_outputs(model, scored, head, BATCH) for kind, model in content.items()}
    try:
        content[DEFAULTS], outputs[DEFAULTS] = defaults.answer()
    except StaticDefaultsError as error:
        console.say(f"warning: no comparison with quantize_static's defaults: {error}")
    content = {kind: content[kind] for kind in _TITLES if kind in content}
    texts = texts.answered_by(head, outputs[FP32])
    thresholds = {kind: texts.thresholds(head, model) for kind, model in content.items()}
    return QuantizedModels(exporter, subnet, texts, content, outputs, thresholds)


def time_in_turn(models: QuantizedModels, host: Host, target: Target, console: Console) -> dict[str, Timing]:
    """By kind. Raises HostError."""
    request = Request(models.content[INT8], target.setup, target.workloads, _PROTOCOL)
    with console.progress("timing") as report:
        return time_models(models.content, request, host, _VISITS, report=report)


def table_rows(models: QuantizedModels, timings: Mapping[str, Timing]) -> list[dict[str, Any]]:
    """What is measured of each model, as JSON; ``speed_up`` and ``to_fp32`` are to the float model."""
    return [
        {
            "kind": kind,
            "name": _TITLES[kind],
            "measured_ms": timings[kind].latency_ms,
            "spread_ms": timings[kind].spread_ms,
            "p95_ms": timings[kind].percentile_ms(95),
            "speed_up": timings[FP32].latency_ms / timings[kind].latency_ms,
            "size_bytes": len(model),
            "scores": models.scores(kind),
            "to_fp32": models.sampled.difference(kind, FP32).to_json(),
        }
        for kind, model in models.content.items()
    ]


def show_table(console: Console, models: QuantizedModels, rows: list[dict[str, Any]], target: Target) -> None:
    texts, threads, request = models.texts, target.setup.threads, target.main_workload.describe()
    scored = "scores" if texts.are_labelled else "agreement with FP32"
    judged = f"{texts.part.size} {'queries' if texts.part.has_groups else 'texts'}"
    if texts.part.judgements is not None:
        judged = str(texts.part.judgements)
    console.table(
        f"Latency on this machine ({threads} thread(s), batch {request}); {scored} on {judged}",
        ("model", "measured ms", "speed-up", "size MB", texts.metric.replace("_", " "), "to FP32 (95 %)"),
        [
            (
                row["name"],
                f"{row['measured_ms']:.2f} ± {row['spread_ms']:.2f}",
                f"{row['speed_up']:.2f}x",
                f"{row['size_bytes'] / 1e6:.1f}",
                f"{row['scores'][texts.metric]:.4f}",
                "" if row["kind"] == FP32 else models.sampled.difference(row["kind"], FP32).signed,
            )
            for row in rows
        ],
    )
