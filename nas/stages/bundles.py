"""Timing on hosts that cannot be reached: a bundle goes there by hand, its results come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.bundle import ResultsError, plan_digest, read_header, read_results, write_bundle
from ortnas.bench.store import Store
from ortnas.bench.target import Target
from ortnas.bench.timing import Setup, Workload
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import parse_json, write_json
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.stages.bench import measurement_of
from ortnas.nas.stages.packaging import coverage
from ortnas.nas.wording import said
from ortnas.predictors.features import PRECISIONS
from ortnas.predictors.survey import stratified


def bundle(
    configuration: Configuration, console: Console, run_folder: RunFolder, run_models: Models, path: Path
) -> dict[str, Any]:
    """Writes the models of ``bench.subnets`` subnets, the worker and a plan as one file for another host.

    The quantization recipe is the configured one, or this machine's: the other host's instruction sets are unknown.
    """
    settings, precision = configuration.bench, configuration.precision
    console.heading(
        f"bundle: {settings.subnets} subnets for a host that cannot be reached",
        f"Quantized by the recipe {run_models.recipe.name}; for other instruction sets set quantization.recipe.",
    )
    space = run_models.supernet.space
    if precision == "int8":
        coverage(
            configuration, run_models, run_models.exporter.sliced(run_models.supernet.dimensions.full_subnet), precision
        )
    genomes = stratified(space, settings.subnets, np.random.default_rng(configuration.seed))
    subnets = {subnet.key: subnet for subnet in map(space.decode, genomes)}

    def models() -> Iterator[tuple[str, bytes]]:
        with console.progress("bundle") as report:
            for number, (key, subnet) in enumerate(subnets.items(), start=1):
                exporter = run_models.exporter
                yield key, exporter.sliced(subnet) if precision == "int8" else exporter.build(subnet, precision)
                report(number, len(subnets), "")

    plan = write_bundle(path, models(), run_models.request, settings.visits)
    document = {
        "plan": plan,
        "precision": precision,
        "timed_model": run_models.timed_model,
        "subnets": {key: subnet.to_json() for key, subnet in subnets.items()},
    }
    write_json(_plan_file(run_folder, plan["digest"]), document)
    size_bytes = path.stat().st_size
    console.say(f"{path}: {size_bytes / 1e6:.0f} MB, {len(subnets)} subnets")
    console.say(f"on the host (Python 3.10 or newer, numpy, onnxruntime):  python {path.name}")
    run_folder.event("bundle", plan=plan["digest"], subnets=len(subnets), size_bytes=size_bytes)
    return {"bundle": str(path), "subnets": len(subnets), "size_bytes": size_bytes, "plan": plan["digest"]}


def import_results(console: Console, run_folder: RunFolder, path: Path) -> dict[str, Any]:
    """Adds what a bundle of this run measured to the store, under the name of its host. Raises ResultsError."""
    console.heading(f"import: timings from {path.name}", "Checked line by line against the bundle's plan.")
    digest = read_header(path)["plan"]
    file = _plan_file(run_folder, digest)
    if not file.is_file():
        raise ResultsError(f"{path}: results of a bundle that this run did not write (plan {digest[:12]})")
    document, subnets = read_plan(file, digest)
    plan = document["plan"]
    results = read_results(path, plan)
    workloads = tuple(Workload.from_json(workload) for workload in plan["workloads"])
    target = Target(results.fingerprint, Setup.from_json(plan["setup"]), workloads)
    share = plan["protocol"]["share"]
    precision, model = document["precision"], document["timed_model"]
    with Store(run_folder.store_file) as store:
        if store.notice:
            console.say(store.notice)
        stored = {(row.subnet_key, row.samples) for row in store.measurements(target, precision, model)}
        measurements = [measurement_of(subnets[key], visit, share) for key, visit in results.visits]
        fresh = [row for row in measurements if (row.subnet_key, row.samples) not in stored]
        store.add(target, results.host, precision, model, fresh)
    known_count = len(measurements) - len(fresh)
    console.say(
        f"{len(fresh)} new timings of {results.host} ({results.fingerprint['cpu']}), {known_count} known"
        + (f"; {len(results.missing)} subnets are not finished" if results.missing else "")
    )
    console.say(f"as a target: target.host = stored:{results.host}")
    run_folder.event("import", plan=digest, target=target.hash, measurements=len(fresh))
    return {
        "host": results.host,
        "target": target.hash,
        "imported": len(fresh),
        "known": known_count,
        "missing": list(results.missing),
        "complete": results.complete,
    }


def read_plan(file: Path, digest: str) -> tuple[dict[str, Any], dict[str, Subnet]]:
    """What a run wrote down of a bundle, and its subnets by key. Raises ResultsError where that was changed."""
    try:
        document: dict[str, Any] = parse_json(file.read_text(encoding="utf-8"))
        plan = document["plan"]
        subnets = {key: Subnet.from_json(subnet) for key, subnet in document["subnets"].items()}
        intact = plan["digest"] == digest == plan_digest(plan)
        intact &= {name: subnets[name].key for name, _ in plan["models"]} == {key: key for key in subnets}
        intact &= document["precision"] in PRECISIONS and isinstance(document["timed_model"], str)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{file} cannot be read: {said(error)}; write the bundle again") from error
    if not intact:
        raise ResultsError(f"{file}, the plan of the bundle, was changed; write the bundle again")
    return document, subnets


def is_results(path: Path) -> bool:
    """Whether a file is a bundle's results rather than a latency file of another kind. Raises OSError."""
    with path.open("rb") as stream:
        start = stream.read(200).lstrip()
    # A latency file's lines are Python dictionaries with sample_ keys in single quotes.
    return start.startswith(b'{"')


def _plan_file(run_folder: RunFolder, digest: str) -> Path:
    return run_folder.path / "bundles" / f"{digest[:16]}.json"
