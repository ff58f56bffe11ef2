"""Winners -> packages, and the table that compares them with the full model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.timing import Protocol, Timing
from export.build import Drift, Precision, drift, load, model_outputs, operators
from export.build import run as run_model
from export.metrics import METRICS, accuracy, mean_cosine, similarity_spearman
from export.package import PackageContent, PackageError, Sample, read_record, write_package
from nas.files import write_json
from nas.run import Run, digest
from nas.space import Subnet
from nas.stages.fit import usable_timings
from nas.stages.search import make_scorer
from search.scoring import Part

_SAMPLE_TEXTS = 48
_FINAL_ROUNDS = 25


def export(run: Run) -> dict[str, Any]:
    """Packages the winner of every search of this run's precision and prints the comparison."""
    run.console.heading(
        "export: packages and the proof",
        "Winners are exported once more, timed in turn with the full model, and scored on texts that nothing was "
        "chosen on.",
    )
    winners = _winners(run)
    report = run.part("report")
    inputs = digest([search["inputs"] for search in winners.values()], report.digest, run.target.hash)
    comparison_file = run.packages_folder / f"comparison-{run.configuration.precision}.json"
    packages = [run.packages_folder / package_name(run, budget) for budget in winners]
    comparison = _recorded(comparison_file, inputs, packages)
    if comparison is None:
        comparison = _compare(run, winners, report)
        comparison["inputs"] = inputs
        for budget, search in winners.items():
            _package(run, budget, search, comparison)
        write_json(comparison_file, comparison)
        run.event("export", inputs=inputs, packages=[package_name(run, budget) for budget in winners])
    _show(run, comparison)
    for folder in packages:
        run.console.say(f"\npackage: {folder}")
        run.console.say(f"  session = onnxruntime.InferenceSession({str(folder / 'model.onnx')!r})")
        run.console.say(f'  {sys.executable} {folder / "predict.py"} "a text of yours"')
    return comparison | {"packages": [str(folder) for folder in packages]}


def package_name(run: Run, budget: str) -> str:
    label = budget if budget.endswith("x") else f"{budget}ms"
    return f"{run.configuration.precision}-{label}"


def _winners(run: Run) -> dict[str, dict[str, Any]]:
    context = make_scorer(run).context
    winners = {}
    for budget in run.configuration.search.budgets:
        try:
            search = json.loads((run.search_folder(budget) / "search.json").read_text())
        except (OSError, ValueError):
            continue
        if search["scored_with"] != context:
            raise PackageError(
                f"the search for {budget} was made with another supernet, split or recipe; run `ortnas search` again"
            )
        if search["winner"] is not None:
            winners[budget] = search
    if not winners:
        raise PackageError(f"{run.folder}: no search has a winner yet; run `ortnas search`")
    return winners


def _compare(run: Run, winners: dict[str, dict[str, Any]], report: Part) -> dict[str, Any]:
    """Full model at both precisions and every winner: timed interleaved, scored on the report split."""
    precision = run.configuration.precision
    full = run.teacher.dimensions.full_subnet
    models: dict[str, bytes] = {}
    subnets: dict[str, tuple[Subnet, Precision, float | None]] = {}
    kinds: tuple[Precision, ...] = ("fp32", "int8")
    for kind in kinds:
        name = f"full model, {kind.upper()}"
        models[name] = run.anchor if kind == precision else run.teacher_exporter.build(full, kind)
        subnets[name] = (full, kind, None)
    for budget, search in winners.items():
        name = f"winner {budget}, {precision.upper()}"
        subnet = run.supernet.space.decode(np.asarray(search["winner"]["genome"]))
        models[name] = run.exporter.build(subnet, precision)
        subnets[name] = (subnet, precision, search["winner"]["predicted_ms"])
    run.console.say(f"timing {len(models)} models in turn")
    anchor_name = f"full model, {precision.upper()}"
    protocol = Protocol(run.protocol.warmup, max(_FINAL_ROUNDS, run.protocol.rounds), run.protocol.runs)
    samples = run.host.measure(models, run.target.setup, run.target.workload, protocol)
    _, _, reference_ms = usable_timings(run)
    rows = []
    for name, model in models.items():
        timing = Timing(tuple(samples[name]), tuple(samples[anchor_name]), reference_ms)
        subnet, kind, predicted_ms = subnets[name]
        rows.append(
            {
                "name": name,
                "subnet": subnet.to_json(),
                "precision": kind,
                "measured_ms": timing.latency_ms,
                "spread_ms": timing.spread_ms,
                "speed_up": reference_ms / timing.latency_ms,
                "predicted_ms": predicted_ms,
                "size_bytes": len(model),
                "scores": _report_scores(run, model, report),
                "samples_ns": samples[name],
            }
        )
    return {"rows": rows, "reference_ms": reference_ms, "metric": run.metric, "target": run.target.to_json()}


def _report_scores(run: Run, model: bytes, report: Part) -> dict[str, float]:
    outputs = model_outputs(model, report.examples)
    if run.configuration.head == "classification":
        return {"accuracy": accuracy(outputs, report.reference)}
    return {
        "mean_cosine": mean_cosine(outputs, report.reference),
        "similarity_spearman": similarity_spearman(outputs, report.reference),
    }


def _package(run: Run, budget: str, search: dict[str, Any], comparison: dict[str, Any]) -> None:
    precision = run.configuration.precision
    subnet = run.supernet.space.decode(np.asarray(search["winner"]["genome"]))
    model = run.exporter.build(subnet, precision)
    row = next(row for row in comparison["rows"] if row["name"] == f"winner {budget}, {precision.upper()}")
    write_package(
        run.packages_folder / package_name(run, budget),
        PackageContent(
            name=f"{run.folder.name}-{package_name(run, budget)}",
            model=model,
            supernet=run.supernet,
            subnet=subnet,
            max_length=run.configuration.data.max_length,
            sample=_sample(run, model),
            record={
                "precision": precision,
                "checkpoint": run.configuration.checkpoint,
                "provenance": run.supernet.provenance,
                "recipe": run.recipe.to_json(),
                "budget": budget,
                "budget_ms": search["budget_ms"],
                "latency": {
                    name: row[name] for name in ("measured_ms", "spread_ms", "predicted_ms", "speed_up", "samples_ns")
                },
                "search_score": search["winner"]["score"],
                "metric": run.metric,
                "report": row["scores"],
                "report_size": len(run.splits.report),
                "drift": vars(_drift(run, subnet, model)),
                "operators": operators(model),
                "target": run.target.to_json(),
            },
        ),
    )


def _drift(run: Run, subnet: Subnet, model: bytes) -> Drift:
    """How far the packaged model's outputs lie from the float export's, on calibration texts."""
    feeds = run.exporter.calibration[0]
    float_output = run_model(load(run.exporter.build(subnet, "fp32")), feeds)
    return drift(run_model(load(model), feeds), float_output)


def _sample(run: Run, model: bytes) -> Sample:
    """The first texts of the report split, with what their outputs are compared with."""
    texts = run.splits.report[:_SAMPLE_TEXTS]
    part = run.part("report")
    reference = part.reference[: len(texts)]
    if run.configuration.head == "embedding":
        reference = np.round(np.asarray(reference, np.float64), 4)
    score = METRICS[run.metric](model_outputs(model, run.encoded(texts)), reference)
    return Sample(run.metric, [item.text for item in texts], [item.pair for item in texts], reference.tolist(), score)


def _recorded(path: Path, inputs: str, packages: list[Path]) -> dict[str, Any] | None:
    """The comparison already made of these inputs, if its packages are there too."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["inputs"] != inputs:
            return None
        for folder in packages:
            read_record(folder)
    except (OSError, ValueError, KeyError):
        return None
    return document


def _show(run: Run, comparison: dict[str, Any]) -> None:
    names = list(comparison["rows"][0]["scores"])
    host = run.configuration.target
    run.console.table(
        f"Latency on this machine ({host.threads} thread(s), batch {host.batch} x {host.sequence} tokens); "
        f"scores on {len(run.splits.report)} report texts",
        ("model", "measured ms", "speed-up", "predicted ms", "size MB", *(name.replace("_", " ") for name in names)),
        [
            (
                row["name"],
                f"{row['measured_ms']:.2f} ± {row['spread_ms']:.2f}",
                f"{row['speed_up']:.2f}x",
                f"{row['predicted_ms']:.2f}" if row["predicted_ms"] else "",
                f"{row['size_bytes'] / 1e6:.1f}",
                *(f"{row['scores'][name]:.4f}" for name in names),
            )
            for row in comparison["rows"]
        ],
    )
