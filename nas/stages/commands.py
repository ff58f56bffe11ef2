"""What each command does with a run that is open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ortnas.nas.run.run import Run
from ortnas.nas.stages import bench as bench_stage
from ortnas.nas.stages import bundles, extract, fit, refined_subnet
from ortnas.nas.stages import data as data_stage
from ortnas.nas.stages import export as export_stage
from ortnas.nas.stages import refine as refine_stage
from ortnas.nas.stages import search as search_stage
from ortnas.nas.stages import sensitivity as sensitivity_stage
from ortnas.nas.stages import train as train_stage
from ortnas.nas.stages.plan import planned_bench_seconds, planned_steps


def data(run: Run) -> dict[str, Any]:
    return data_stage.data(run.configuration, run.console, run.folder, run.texts)


def train(run: Run) -> dict[str, Any]:
    steps = planned_steps(run.configuration, run.console, run.folder, run.texts, run.clock)
    try:
        return train_stage.train(run.configuration, run.console, run.folder, run.texts, run.target, steps)
    finally:
        run.reopen_models()


def bench(run: Run) -> dict[str, Any]:
    most_s = planned_bench_seconds(run.configuration, run.console, run.folder, run.texts, run.clock)
    return bench_stage.bench(run.configuration, run.console, run.folder, run.target, run.models, most_s)


def bundle(run: Run, path: Path) -> dict[str, Any]:
    run.target.is_elsewhere = True
    return bundles.bundle(run.configuration, run.console, run.folder, run.models, path)


def import_results(run: Run, path: Path) -> dict[str, Any]:
    return bundles.import_results(run.console, run.folder, path)


def fit_predictor(run: Run, source: Path | None = None) -> dict[str, Any]:
    return fit.fit(run.configuration, run.console, run.folder, run.models, source)


def search(run: Run) -> dict[str, Any]:
    return search_stage.search(run.configuration, run.console, run.folder, run.texts, run.target, run.models)


def list_within_budget(run: Run, n: int) -> dict[str, Any]:
    return search_stage.list_within_budget(
        run.configuration, run.console, run.folder, run.texts, run.target, run.models, n
    )


def export(run: Run) -> dict[str, Any]:
    return export_stage.export(run.configuration, run.console, run.folder, run.texts, run.target, run.models)


def deliver(run: Run, names: Sequence[str], out: Path | None = None, hub_name: str | None = None) -> dict[str, Any]:
    return export_stage.deliver(
        run.configuration, run.console, run.folder, run.texts, run.target, run.models, names, out, hub_name
    )


def refine(run: Run) -> dict[str, Any]:
    return refine_stage.refine(run.configuration, run.console, run.folder, run.texts, run.target, run.models, run.clock)


def refine_subnet(run: Run, name: str) -> dict[str, Any]:
    return refined_subnet.refine_subnet(
        run.configuration, run.console, run.folder, run.texts, run.target, run.models, name
    )


def extract_subnet(run: Run, name: str, folder: Path) -> dict[str, Any]:
    return extract.extract_subnet(run.configuration, run.console, run.folder, run.texts, run.models, name, folder)


def sensitivity(run: Run, name: str | None, tolerance: float, limit: int, budget: str | None) -> dict[str, Any]:
    return sensitivity_stage.sensitivity(
        run.configuration,
        run.console,
        run.folder,
        run.texts,
        run.target,
        run.models,
        name,
        tolerance,
        limit,
        budget,
    )
