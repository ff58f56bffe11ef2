"""From a chosen subnet to its package."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench import fastmath
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.openvino_runtime import RuntimeMissingError
from ortnas.bench.session import ONNXRUNTIME, OPENVINO, Setup
from ortnas.export.build import Exporter, Precision
from ortnas.export.inference import Drift, drift, load, load_for, model_outputs
from ortnas.export.inference import run as run_model
from ortnas.export.metrics import METRICS
from ortnas.export.package.coverage import measure_coverage
from ortnas.export.package.package import PackageContent, write_package
from ortnas.export.package.record import Coverage, Facts, Latency, TrainingData, read_record
from ortnas.export.package.sample import Sample
from ortnas.export.part import Outputs, Part, Thresholds
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import write_json
from ortnas.nas.judgements import pairs_of
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import Compared, show
from ortnas.nas.stages.origin import read_origin
from ortnas.nas.text import take
from ortnas.search.budget import Budget, file_name_of
from ortnas.search.comparison import Comparison, ComparisonRow


@dataclass(frozen=True)
class SearchFacts:
    """The budget as asked for and in ms, and the winner's score in the search; None where a subnet was not searched."""

    budget: str | None = None
    budget_ms: float | None = None
    score: float | None = None


def conclude(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    name: str,
    inputs: str,
    packages: list[Path],
    make: Callable[[], Comparison],
) -> dict[str, Any]:
    """Makes packages and the comparison of that name, or recognises that they are made of ``inputs``; shows them."""
    # Reports look for comparisons in the run, wherever the packages go.
    file = run_folder.path / "packages" / f"comparison-{name}.json"
    comparison = _recorded(file, inputs, packages)
    if comparison is None:
        comparison = replace(make(), inputs=inputs)
        write_json(file, comparison.to_json())
        run_folder.event("export", inputs=inputs, packages=[folder.name for folder in packages])
    show(configuration, console, texts, run_target, run_models, comparison.rows)
    announce(console, packages, run_models.target.setup.runtime)
    return comparison.to_json() | {"packages": [str(folder) for folder in packages]}


def package_name(configuration: Configuration, budget: Budget) -> str:
    return f"{configuration.precision}-{file_name_of(budget.label)}"


_LOADING = {
    ONNXRUNTIME: "session = onnxruntime.InferenceSession({!r})",
    OPENVINO: "model = openvino.Core().compile_model({!r}, 'CPU')",
}


def announce(console: Console, packages: Sequence[Path], runtime: str = ONNXRUNTIME) -> None:
    """Says where the packages are and how to run them."""
    for folder in packages:
        console.say(f"\npackage: {folder}")
        console.say(f"  {_LOADING[runtime].format(str(folder / 'model.onnx'))}")
        console.say(f'  {sys.executable} {shlex.quote(str(folder / "predict.py"))} "a text of yours"')


def _recorded(path: Path, inputs: str, packages: list[Path]) -> Comparison | None:
    """The comparison already made of these inputs, if its packages are there too."""
    try:
        comparison = Comparison.from_json(json.loads(path.read_text()))
        for folder in packages:
            read_record(folder)
    except (AttributeError, KeyError, OrtnasError, OSError, TypeError, ValueError):
        return None
    return comparison if comparison.inputs == inputs else None


_SAMPLE_TEXTS = 48
# Of a teacher's vectors so many numbers, of at least a few texts.
_SAMPLE_NUMBERS, _FEWEST_TEXTS = 400_000, 8


def package(
    configuration: Configuration,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    name: str,
    compared: Compared,
    search: SearchFacts,
) -> None:
    """Writes ``packages/NAME``. ``search`` is what only the caller knows.

    Raises CoverageError where an INT8 model runs too much in floats, PackageError where another model was timed.
    """
    entry, row, model = compared.entry, compared.row, compared.model
    recipe = run_models.recipe.keeping(entry.subnet.keep_float)
    thresholds = Thresholds(row.null_threshold, row.label_thresholds)
    source, *further = (weighted.source for weighted in configuration.data.sources)
    task = configuration.data.task
    write_package(
        run_folder.packages / name,
        PackageContent(
            name=f"{run_folder.path.name}-{name}",
            model=model,
            supernet=entry.exporter.supernet,
            subnet=entry.subnet,
            max_length=texts.max_length,
            sample=_sample(configuration, texts, run_models, model, thresholds),
            facts=Facts(
                precision=entry.precision,
                recipe=recipe,
                target=run_models.target,
                latency=_latency(row),
                checkpoint=configuration.checkpoint,
                provenance=entry.exporter.supernet.provenance,
                budget=search.budget,
                budget_ms=search.budget_ms,
                search_score=search.score,
                metric=texts.metric,
                **thresholds._asdict(),
                report=row.scores,
                report_size=run_models.data.counts["report"],
                judged=_judged(run_models),
                intervals=row.intervals,
                drift=drift_from_float(entry.exporter, entry.subnet, model),
                runtime_drift=drift_between_runtimes(entry.exporter, model, run_models.target.setup),
                coverage=measure_coverage(
                    model, entry.precision, run_models.target, recipe, configuration.quantization.coverage
                ),
                data=TrainingData(source, task, run_models.data.counts["training"], further, run_models.data.labelled),
                origin=read_origin(texts.checkpoint),
            ),
        ),
    )


def _judged(run_models: Models) -> str | None:
    judgements = run_models.data.judgements.get(pairs_of("report"))
    return None if judgements is None else str(judgements)


def _latency(row: ComparisonRow) -> Latency:
    return Latency(
        measured_ms=row.measured_ms,
        spread_ms=row.spread_ms,
        p95_ms=row.p95_ms,
        predicted_ms=row.predicted_ms,
        speed_up=row.speed_up,
        visits=[samples.to_json() for samples in row.visits],
        model_digest=row.model_digest,
    )


def coverage(configuration: Configuration, run_models: Models, model: bytes, precision: Precision) -> Coverage:
    """As ``measure_coverage``, of what the run demands. Raises CoverageError."""
    demanded = configuration.quantization.coverage
    return measure_coverage(model, precision, run_models.target, run_models.recipe, demanded)


def drift_from_float(exporter: Exporter, subnet: Subnet, model: bytes) -> Drift:
    """How far the packaged model's outputs lie from the float export's, on calibration texts."""
    feeds = exporter.calibration[0]
    float_output = run_model(load(exporter.build(subnet, "fp32")), feeds)
    return drift(run_model(load(model), feeds), float_output)


def drift_between_runtimes(exporter: Exporter, model: bytes, setup: Setup) -> Drift | None:
    """How far the target's runtime, or its products in bfloat16, compute from ONNX Runtime in float32, on calibration
    texts.

    None where that is what the target does, or where this machine cannot do as the target does; then ``verify`` there
    tells.
    """
    if setup.runtime == ONNXRUNTIME and not setup.fastmath_bfloat16:
        return None
    if setup.fastmath_bfloat16 and fastmath.obstacle(fingerprint()):
        return None
    feeds = exporter.calibration[0]
    try:
        session = load_for(model, setup)
    except RuntimeMissingError:
        return None
    return drift(run_model(session, feeds), run_model(load(model), feeds))


def _sample(
    configuration: Configuration, texts: Texts, run_models: Models, model: bytes, thresholds: Thresholds
) -> Sample:
    """Of the report part. Where the run's metric is of judged pairs, inputs are compared with the teacher's."""
    part = replace(run_models.part("report"), **thresholds._asdict())
    return make_sample(model, part, configuration.head, texts.text_metric)


def make_sample(model: bytes, part: Part, head: str, metric: str, outputs: Outputs | None = None) -> Sample:
    """The first inputs of a part, with what a package's outputs are compared with.

    ``outputs`` are the model's on the whole part, where they are known.
    """
    count = _SAMPLE_TEXTS
    if part.teacher is not None:
        count = min(count, max(_FEWEST_TEXTS, _SAMPLE_NUMBERS // part.teacher[0].size))
    encoded, examples = take(part.encoded, count), part.examples[:count]
    teacher = None if part.teacher is None else part.teacher[:count].round(4)
    # A few judged pairs say nothing.
    first = replace(part, encoded=encoded, examples=examples, teacher=teacher, judgements=None)
    labels = encoded.labels or ()
    return Sample(
        metric=metric,
        score=METRICS[metric](outputs[: len(encoded)] if outputs else model_outputs(model, encoded, head), first),
        examples=examples,
        # A corpus has no texts to encode again, only tokens.
        tokens=[] if examples else [(ids, tags) for ids, tags in zip(encoded.ids, labels, strict=True)],
        teacher=None if teacher is None else np.asarray(teacher, np.float64).round(4).tolist(),
    )
