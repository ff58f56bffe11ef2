"""Measurement store -> latency predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.estimates import Reference, Timing, noise_floor
from bench.store import Measurement, Store, timings
from nas.console import Console
from nas.files import digest
from nas.run import Run
from nas.space import Subnet
from predictors.latency import Predictor, PredictorError, fit, load_predictor, predictor_folder, save_predictor
from predictors.quality import Quality
from predictors.transfer import transfer


def usable_timings(run: Run) -> tuple[list[Measurement], dict[str, Timing], Reference]:
    """The store's rows of this run's target and space, usable timings by subnet key, and what they refer to."""
    with Store(run.store_file) as store:
        rows = run.measurements(store)
    usable, reference = timings(rows, run.target.workloads)
    return rows, usable, reference


def budget_in_ms(budget: str, reference_ms: float) -> float:
    """``2x`` means half the full model's latency; a plain number is ms."""
    return reference_ms / float(budget[:-1]) if budget.endswith("x") else float(budget)


def fit_predictor(run: Run, source: Path | None = None) -> dict[str, Any]:
    """Fits the predictor of this target and precision, or recognises that it is fitted.

    With ``source``, the folder of a predictor of another host or workload, a few timings are enough: it is transferred.
    Raises PredictorError.
    """
    run.console.heading(
        "fit: a latency predictor",
        "An analytic prior and boosted trees learn the timings, so that the search can ask for thousands more.",
    )
    rows, usable, _ = usable_timings(run)
    known = load_predictor(source) if source else None
    folder, inputs = folder_of(run), _inputs(run, rows, known)
    predictor = _existing(folder, inputs)
    if predictor is None:
        predictor = fit_timings(run, rows, usable, known)
        save_predictor(folder, predictor)
        run.event("fit", inputs=inputs, **asdict(predictor.quality))
    show_quality(run.console, predictor.quality, predictor.level)
    return asdict(predictor.quality) | {"predictor": str(folder)}


def show_quality(
    console: Console, quality: Quality, level: float, title: str = "Predictor, on measurements held out of the fit"
) -> None:
    """A table of the figures on held-out measurements, and the warning if there is one."""
    window, floor = quality.window_kendall, quality.noise_floor
    rows = [
        ("measurements", str(quality.measurements)),
        ("left out as outliers", str(quality.outliers)),
        ("mean error", f"{quality.mean_error:.1%}"),
        ("noise floor of the timings", "unknown" if floor is None else f"{floor:.1%}"),
        ("95th-percentile error", f"{quality.error_p95:.1%}"),
        ("errors of at most 5 %", f"{quality.within_5:.0%}"),
        ("errors of at most 10 %", f"{quality.within_10:.0%}"),
        ("Kendall rank correlation", f"{quality.kendall:.3f}"),
        ("the same within ±10 % of a budget", "unknown" if window is None else f"{window:.3f}"),
        (f"latencies under the {level:.0%} bound", f"{quality.coverage:.0%}"),
        ("error without any predictor", f"{quality.constant_error:.1%}"),
    ]
    console.table(title, ("figure", "value"), rows)
    if quality.warning:
        console.say(f"\nwarning: {quality.warning}")


def folder_of(run: Run) -> Path:
    """Where the predictor of the run's target and precision lies."""
    return predictor_folder(run.predictors_folder, run.configuration.precision, run.target.hash)


def fit_timings(
    run: Run, rows: Sequence[Measurement], usable: Mapping[str, Timing], source: Predictor | None = None
) -> Predictor:
    """A predictor of these timings, from nothing or from another one. Raises PredictorError."""
    subnets = {row.subnet_key: row.subnet for row in rows}
    space = run.supernet.space
    genomes = np.stack([space.encode(Subnet.from_json(subnets[key])) for key in usable])
    latency_ms = np.array([timing.latency_ms for timing in usable.values()])
    errors = np.array([timing.error for timing in usable.values()])
    target, precision = run.target.to_json(), run.configuration.precision
    floor, inputs = noise_floor(usable.values()), _inputs(run, rows, source)
    if source is None:
        return fit(space, genomes, latency_ms, errors, target, precision, floor, inputs)
    if source.space != space:
        raise PredictorError("the predictor to start from was fitted for another search space")
    return transfer(source, genomes, latency_ms, errors, target, floor, inputs, precision)


def _inputs(run: Run, rows: Sequence[Measurement], source: Predictor | None) -> str:
    samples = [(row.subnet_key, row.samples.to_json() if row.samples else None) for row in rows]
    start = [source.inputs, source.target] if source else []
    return digest(samples, run.supernet.space.to_json(), run.target.hash, *start)


def _existing(folder: Path, inputs: str) -> Predictor | None:
    try:
        predictor = load_predictor(folder)
    except PredictorError:
        return None
    return predictor if predictor.inputs == inputs else None
