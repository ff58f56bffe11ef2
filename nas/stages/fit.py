"""Measurement store -> latency predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.estimates import AnchorLatency, Timing, noise_floor
from ortnas.bench.session import Setup
from ortnas.bench.store import Measurement, timings
from ortnas.bench.timing import Workload
from ortnas.nas.architecture.presets import covering
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.stages.stored_timings import imported_target, open_store
from ortnas.predictors.features import PRECISIONS
from ortnas.predictors.fitting import (
    MINIMUM_MEASUREMENTS,
    Predictor,
    PredictorError,
    find_predictor,
    fit_predictor,
    load_predictor,
    predictor_folder,
    save_predictor,
)
from ortnas.predictors.latency_files import LatencyFileError, read_latency_file
from ortnas.predictors.quality import Quality, judge
from ortnas.predictors.transfer import transfer


def usable_timings(
    run_folder: RunFolder, run_models: Models
) -> tuple[list[Measurement], dict[str, Timing], AnchorLatency]:
    """The store's rows of this run's target and space, usable timings by subnet key, and what they refer to."""
    with open_store(run_folder.store_file) as store:
        rows = run_models.measurements(store)
    usable, reference = timings(rows, run_models.target.workloads)
    return rows, usable, reference


def fit(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    run_models: Models,
    source: Path | None = None,
) -> dict[str, Any]:
    """Fits the predictor of this target and precision, or recognises that it is fitted.

    With ``source``, the folder of a predictor of another host or workload, a few timings are enough: it is transferred.
    Raises PredictorError.
    """
    console.heading(
        "fit: a latency predictor",
        "An analytic prior and boosted trees learn the timings, so that the search can ask for thousands more.",
    )
    rows, usable, _ = usable_timings(run_folder, run_models)
    start = load_predictor(source) if source else None
    folder, inputs = folder_of(configuration, run_folder, run_models), _inputs(run_models, rows, start)
    predictor = _existing(folder, inputs)
    if predictor is None:
        predictor = fit_timings(configuration, run_models, rows, usable, start)
        save_predictor(folder, predictor)
        run_folder.event("fit", inputs=inputs, **asdict(predictor.quality))
    show_quality(console, predictor.quality, predictor.level)
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


def folder_of(configuration: Configuration, run_folder: RunFolder, run_models: Models) -> Path:
    """Where the predictor of the run's target and precision lies."""
    return predictor_folder(run_folder.predictors, configuration.precision, run_models.target.hash)


def fit_timings(
    configuration: Configuration,
    run_models: Models,
    rows: Sequence[Measurement],
    usable: Mapping[str, Timing],
    source: Predictor | None = None,
) -> Predictor:
    """A predictor of these timings, from nothing or from another one. Raises PredictorError."""
    subnets = {row.subnet_key: row.subnet for row in rows}
    space = run_models.supernet.space
    genomes = np.stack([space.encode(Subnet.from_json(subnets[key])) for key in usable])
    latency_ms = np.array([timing.latency_ms for timing in usable.values()])
    errors = np.array([timing.error for timing in usable.values()])
    target, precision = run_models.target, configuration.precision
    floor, inputs = noise_floor(usable.values()), _inputs(run_models, rows, source)
    if source is None:
        return fit_predictor(space, genomes, latency_ms, errors, target, precision, floor, inputs)
    if source.space != space:
        raise PredictorError("the predictor to start from was fitted for another search space")
    return transfer(source, genomes, latency_ms, errors, target, floor, inputs, precision)


def _inputs(run_models: Models, rows: Sequence[Measurement], source: Predictor | None) -> str:
    samples = [(row.subnet_key, row.samples.to_json() if row.samples else None) for row in rows]
    start = [source.inputs, source.target.to_json()] if source else []
    return digest(samples, run_models.supernet.space.to_json(), run_models.target.hash, *start)


def _existing(folder: Path, inputs: str) -> Predictor | None:
    try:
        predictor = load_predictor(folder)
    except PredictorError:
        return None
    return predictor if predictor.inputs == inputs else None


def fit_latency_file(
    file: Path,
    out: Path | None,
    rows: int | None,
    precision: str,
    setup: Setup,
    workload: Workload,
    seed: int,
    console: Console,
) -> dict[str, Any]:
    """Fits to ``rows`` random timings of the file, or to all, and tells the errors on the others.

    The predictor is of the smallest space that holds the file's subnets; it is written where ``out`` names a folder.
    What the file does not tell, ``precision``, ``setup`` and ``workload`` do. Raises LatencyFileError,
    ConfigurationError and PredictorError.
    """
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision = {precision!r}; allowed are {', '.join(PRECISIONS)}")
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigurationError(f"{out}: a file with that name exists")
    read = read_latency_file(file)
    if rows is not None and not MINIMUM_MEASUREMENTS <= rows <= len(read):
        raise LatencyFileError(
            f"rows = {rows}; {MINIMUM_MEASUREMENTS} to {len(read)} can be fitted to, {file} has no more"
        )
    subnets = [Subnet.from_json(document) for document, _ in read]
    space = covering(subnets)
    genomes = np.stack([space.encode(subnet) for subnet in subnets])
    latency_ms = np.array([latency for _, latency in read])
    order = np.random.default_rng(seed).permutation(len(read))
    fitted, held_out = order[:rows], order[len(read) if rows is None else rows :]
    target = imported_target(file, setup, workload)
    inputs = digest(target.to_json(), precision, sorted(fitted.tolist()))
    predictor = fit_predictor(space, genomes[fitted], latency_ms[fitted], None, target, precision, inputs=inputs)
    show_quality(console, predictor.quality, predictor.level)
    result: dict[str, Any] = {"rows": len(fitted), "quality": asdict(predictor.quality)}
    if len(held_out):
        predicted_ms, upper_ms = predictor.predict(genomes[held_out])
        others = judge(latency_ms[held_out], predicted_ms, upper_ms, None, 0)
        show_quality(console, others, predictor.level, f"On the {len(held_out)} rows that it was not fitted to")
        result["rest"] = asdict(others)
    if out is not None:
        save_predictor(out, predictor)
        console.say(f"\nwrote {out}")
        result["predictor"] = str(out)
    return result


def checked_predictor(configuration: Configuration, run_folder: RunFolder, run_models: Models) -> Predictor:
    """The run's predictor. Raises PredictorError where it belongs to another target, space or precision."""
    predictor = find_predictor(run_folder.predictors, configuration.precision, run_models.target)
    if predictor.space != run_models.supernet.space:
        raise PredictorError("the predictor was fitted for another search space; run `ortnas bench` and `ortnas fit`")
    return predictor
