"""AutoTinyBERT-style latency file -> latency predictor, without a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.latency_files import LatencyFileError, read_latency_file
from bench.timing import Setup, Workload
from nas.configuration import ConfigurationError
from nas.console import Console
from nas.files import digest
from nas.presets import covering
from nas.space import Subnet
from nas.stages.datasets import imported_target
from nas.stages.fit import show_quality
from predictors.features import PRECISIONS
from predictors.latency import MINIMUM_MEASUREMENTS, fit, save_predictor
from predictors.quality import judge


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
    known, rest = order[:rows], order[len(read) if rows is None else rows :]
    target = imported_target(file, setup, workload).to_json()
    inputs = digest(target, precision, sorted(known.tolist()))
    predictor = fit(space, genomes[known], latency_ms[known], None, target, precision, inputs=inputs)
    show_quality(console, predictor.quality, predictor.level)
    result: dict[str, Any] = {"rows": len(known), "quality": asdict(predictor.quality)}
    if len(rest):
        predicted_ms, upper_ms = predictor.predict(genomes[rest])
        others = judge(latency_ms[rest], predicted_ms, upper_ms, None, 0)
        show_quality(console, others, predictor.level, f"On the {len(rest)} rows that it was not fitted to")
        result["rest"] = asdict(others)
    if out is not None:
        save_predictor(out, predictor)
        console.say(f"\nwrote {out}")
        result["predictor"] = str(out)
    return result
