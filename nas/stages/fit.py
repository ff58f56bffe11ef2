"""Measurement store -> latency predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.estimates import Reference, Timing, noise_floor
from bench.store import Measurement, Store, timings
from nas.files import digest
from nas.run import Run
from nas.space import Subnet
from predictors.latency import Predictor, PredictorError, fit, load_predictor, predictor_folder, save_predictor


def usable_timings(run: Run) -> tuple[list[Measurement], dict[str, Timing], Reference]:
    """The store's rows of this run's target, usable timings by subnet key, and what they refer to."""
    with Store(run.store_file) as store:
        rows = store.measurements(run.target, run.configuration.precision, run.timed_model)
    usable, reference = timings(rows, run.target.workloads)
    return rows, usable, reference


def budget_in_ms(budget: str, reference_ms: float) -> float:
    """``2x`` means half the full model's latency; a plain number is ms."""
    return reference_ms / float(budget[:-1]) if budget.endswith("x") else float(budget)


def fit_predictor(run: Run) -> dict[str, Any]:
    """Fits the predictor of this target and precision, or recognises that it is fitted. Raises PredictorError."""
    run.console.heading(
        "fit: a latency predictor",
        "Gradient-boosted trees on analytic terms learn the timings, so that the search can ask for thousands more.",
    )
    rows, usable, _ = usable_timings(run)
    folder, inputs = folder_of(run), _inputs(run, rows)
    predictor = _existing(folder, inputs)
    if predictor is None:
        predictor = fit_timings(run, rows, usable)
        save_predictor(folder, predictor)
        run.event("fit", inputs=inputs, **asdict(predictor.quality))
    quality = predictor.quality
    run.console.table(
        "Predictor, on measurements held out of the fit",
        ("figure", "value"),
        [
            ("measurements", str(quality.measurements)),
            ("mean error", f"{quality.mean_error:.1%}"),
            ("95th-percentile error", f"{quality.error_p95:.1%}"),
            ("noise floor of the timings", "unknown" if quality.noise_floor is None else f"{quality.noise_floor:.1%}"),
            ("Kendall rank correlation", f"{quality.kendall:.3f}"),
            (f"share under the {predictor.level:.0%} bound", f"{quality.coverage:.0%}"),
        ],
    )
    return asdict(quality) | {"predictor": str(folder)}


def folder_of(run: Run) -> Path:
    """Where the predictor of the run's target and precision lies."""
    return predictor_folder(run.predictors_folder, run.configuration.precision, run.target.hash)


def fit_timings(run: Run, rows: Sequence[Measurement], usable: Mapping[str, Timing]) -> Predictor:
    """A predictor of these timings. Raises PredictorError."""
    subnets = {row.subnet_key: row.subnet for row in rows}
    space = run.supernet.space
    genomes = np.stack([space.encode(Subnet.from_json(subnets[key])) for key in usable])
    latency_ms = np.array([timing.latency_ms for timing in usable.values()])
    errors = np.array([timing.error for timing in usable.values()])
    target, precision = run.target.to_json(), run.configuration.precision
    floor = noise_floor(usable.values())
    return fit(space, genomes, latency_ms, errors, target, precision, floor, _inputs(run, rows))


def _inputs(run: Run, rows: Sequence[Measurement]) -> str:
    samples = [(row.subnet_key, row.samples.to_json() if row.samples else None) for row in rows]
    return digest(samples, run.supernet.space.to_json(), run.target.hash)


def _existing(folder: Path, inputs: str) -> Predictor | None:
    try:
        predictor = load_predictor(folder)
    except PredictorError:
        return None
    return predictor if predictor.inputs == inputs else None
