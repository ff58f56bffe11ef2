"""Measurement store -> latency predictor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bench.store import Measurement, Store, timings
from bench.timing import Timing
from nas.files import digest
from nas.run import Run
from nas.space import Subnet
from predictors.latency import Predictor, PredictorError, fit, load_predictor, save_predictor


def usable_timings(run: Run) -> tuple[list[Measurement], dict[str, Timing], float]:
    """The store's rows of this run's target, usable timings by subnet key, and the anchor's latency in ms."""
    with Store(run.store_file) as store:
        rows = store.measurements(run.target, run.configuration.precision, run.timed_model)
    usable, reference_ms = timings(rows)
    return rows, usable, reference_ms


def fit_predictor(run: Run) -> dict[str, Any]:
    """Fits ``predictor/``, or recognises that it is fitted to these measurements. Raises PredictorError."""
    run.console.heading(
        "fit: a latency predictor",
        "Gradient-boosted trees on analytic terms learn the timings, so that the search can ask for thousands more.",
    )
    rows, usable, _ = usable_timings(run)
    inputs = digest(
        [(row.subnet_key, row.samples_ns, row.anchor_ns) for row in rows], run.supernet.space.to_json(), run.target.hash
    )
    predictor = _existing(run, inputs)
    if predictor is None:
        subnets = {row.subnet_key: row.subnet for row in rows}
        space = run.supernet.space
        genomes = np.stack([space.encode(Subnet.from_json(subnets[key])) for key in usable])
        latency_ms = np.array([timing.latency_ms for timing in usable.values()])
        target, precision = run.target.to_json(), run.configuration.precision
        predictor = fit(space, genomes, latency_ms, target, precision, noise_floor(usable), inputs)
        save_predictor(run.predictor_folder, predictor)
        run.event("fit", inputs=inputs, **asdict(predictor.quality))
    quality = predictor.quality
    run.console.table(
        "Predictor, on measurements held out of the fit",
        ("figure", "value"),
        [
            ("measurements", str(quality.measurements)),
            ("mean error", f"{quality.mean_error:.1%}"),
            ("95th-percentile error", f"{quality.error_p95:.1%}"),
            ("noise floor of the timings", f"{quality.noise_floor:.1%}"),
            ("Kendall rank correlation", f"{quality.kendall:.3f}"),
            (f"share under the {predictor.level:.0%} bound", f"{quality.coverage:.0%}"),
            ("bound above the prediction", f"{predictor.upper_factor - 1:.1%}"),
        ],
    )
    return asdict(quality) | {"upper_factor": predictor.upper_factor, "predictor": str(run.predictor_folder)}


def _existing(run: Run, inputs: str) -> Predictor | None:
    try:
        predictor = load_predictor(run.predictor_folder)
    except PredictorError:
        return None
    return predictor if predictor.inputs == inputs else None


def noise_floor(usable: dict[str, Timing]) -> float:
    """Mean relative difference that repeating a measurement would show, from its two halves.

    A half has half the samples, hence sqrt(2) times the noise of the whole.
    """
    differences = []
    for timing in usable.values():
        middle = len(timing.samples_ns) // 2
        anchor_middle = len(timing.anchor_ns) // 2
        halves = (
            Timing(timing.samples_ns[:middle], timing.anchor_ns[:anchor_middle], timing.reference_ms),
            Timing(timing.samples_ns[middle:], timing.anchor_ns[anchor_middle:], timing.reference_ms),
        )
        differences.append(abs(halves[0].latency_ms / halves[1].latency_ms - 1) / np.sqrt(2))
    return float(np.mean(differences))
