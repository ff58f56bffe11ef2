"""A small finished run folder, written part by part as the stages write theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from ortnas.bench.estimates import noise_floor
from ortnas.bench.session import Setup
from ortnas.bench.store import Measurement, Store, timings
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, Workload
from ortnas.export.intervals import Interval
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.files import append_line, write_json
from ortnas.predictors.fitting import fit_predictor, predictor_folder, save_predictor
from ortnas.search.budget import Budget
from ortnas.search.candidate import Candidate
from ortnas.search.comparison import Comparison, ComparisonRow
from ortnas.search.finalists import Finalist
from ortnas.search.loop import LOG_FILE
from ortnas.search.refinement import Refinement, Rung
from ortnas.search.resolution import PartResolution, ScoreResolution
from ortnas.search.result import SearchResult, read_result
from tests.networks import make_dimensions, make_space

FINGERPRINT = {"cpu": "Test <i>CPU</i> & Co", "isa": ["avx2"], "cores": 2, "onnxruntime": "1.32.0", "governor": None}
TARGET = Target(FINGERPRINT, Setup(), (Workload(1, 16, 120),))
LABELS = ("<script>alert(1)</script>", "yes & no", "</style><b>ja</b>")
REFERENCE_MS = 3.0
# How far the winner lies above its rivals: of the ready-made one it cannot be told.
GAINS = {
    "evenly shrunk 2x, INT8": Interval(0.05, 0.01, 0.09),
    "ready-made <b>L3</b>, INT8": Interval(0.005, -0.02, 0.03),
}
# The charts that the page of such a run has.
CHARTS = {
    "results",
    "front",
    "progress",
    "best",
    "predictor-int8",
    "errors-int8",
    "curve-int8",
    "terms-int8",
    "dataset",
    "host",
    "certainty",
    "training-loss",
    "training-score",
}


def cost_ms(space: SearchSpace, genomes: np.ndarray) -> np.ndarray:
    """A law with a constant part: 0.3 ms and one more for every 10,000 multiply-adds."""
    return 0.3 + space.expand(genomes).multiply_adds / 1e4


def write_run(folder: Path, labels: tuple[str, ...] = LABELS) -> Path:
    """A classification run with data, supernet, curves, 40 timed subnets, a predictor, two searches and packages."""
    rng = np.random.default_rng(0)
    space, dimensions = make_space(), make_dimensions("classification")
    configuration = {
        "checkpoint": "<b>bert</b>",
        "head": "classification",
        "precision": "int8",
        "data": {"source": "texts & labels", "task": "sst-2"},
        "folder": str(folder),
        "search": {"budgets": ["2x", "1.5"]},
    }
    folder.mkdir(parents=True)
    (folder / "resolved.yaml").write_text(yaml.safe_dump(configuration, allow_unicode=True), encoding="utf-8")
    counts = {"training": 900, "calibration": 16, "search": 100, "report": 200}
    notes = ["training: 3 of 900 rows hold <img src=x onerror=alert(2)>"]
    write_json(folder / "data" / "splits" / "splits.json", {"format": 1, "counts": counts, "notes": notes})
    append_line(folder / "events.jsonl", {"time": 1.79e9, "stage": "data", "counts": counts})
    write_json(
        folder / "supernet" / "supernet.json",
        {
            "dimensions": dimensions.to_json(),
            "space": space.to_json(),
            "labels": list(labels),
            "provenance": {"checkpoint": "<b>bert</b>", "seed": 0, "losses": {"labels": 1.0}},
        },
    )
    curve = folder / "curves" / "supernet.jsonl"
    for step in (20, 40, 60):
        append_line(curve, {"step": step, "loss": {"largest": 1 / step, "random": 2 / step}})
    append_line(curve, {"step": 60, "score": {"largest": 0.9, "smallest": 0.6}})
    _write_timings(folder, space, rng)
    for budget, budget_ms in (("2x", REFERENCE_MS / 2), ("1.5", 1.5)):
        _write_search(folder, space, budget, budget_ms, rng)
    _write_packages(folder, dimensions)
    return folder


def _write_timings(folder: Path, space: SearchSpace, rng: np.random.Generator) -> None:
    genomes = np.unique(space.sample(60, rng), axis=0)[:40]
    rows = []
    for _ in range(2):
        for genome, latency in zip(genomes, cost_ms(space, genomes), strict=True):
            subnet = space.decode(genome)
            slowed = rng.normal(1, 0.02, (2, 40)) * rng.uniform(1, 1.1)
            model, anchor = (slowed * [[latency], [REFERENCE_MS]] * 1e6).astype(int).tolist()
            rows.append(Measurement(subnet.key, subnet.to_json(), "ok", "", Samples((tuple(model),), (tuple(anchor),))))
    lost = space.smallest
    rows.append(Measurement(lost.key, lost.to_json(), "failed", "the host said <script>alert(3)</script>", None))
    with Store(folder / "bench.sqlite") as store:
        store.add(TARGET, "local", "int8", "model", rows)
        usable, _ = timings(store.measurements(TARGET, "int8", "model"), TARGET.workloads)
    latency_ms = np.array([timing.latency_ms for timing in usable.values()])
    errors = np.array([timing.error for timing in usable.values()])
    floor = noise_floor(usable.values())
    predictor = fit_predictor(space, genomes, latency_ms, errors, TARGET, "int8", floor, "inputs")
    save_predictor(predictor_folder(folder / "predictor", "int8", TARGET.hash), predictor)


def _write_search(folder: Path, space: SearchSpace, budget: str, budget_ms: float, rng: np.random.Generator) -> None:
    genomes = np.unique(space.sample(300, rng), axis=0)
    latency_ms = cost_ms(space, genomes)
    within = rng.permutation(np.flatnonzero(latency_ms * 1.05 <= budget_ms))[:12]
    search = folder / "search" / f"int8-{budget}"
    candidates = []
    for row in within:
        score = float(np.clip(0.6 + latency_ms[row] / 8 + rng.normal(0, 0.02), 0, 1))
        candidate = Candidate.of(space, genomes[row], latency_ms[row], latency_ms[row] * 1.05, score)
        candidates.append(candidate)
        append_line(search / LOG_FILE, {"subnet_key": candidate.subnet.key, **candidate.to_json()})
    best = sorted(candidates, key=lambda candidate: -candidate.score)[:3]
    finalists = tuple(
        Finalist(candidate, candidate.latency_ms * 1.01, 0.05, meets_budget=number > 0, is_hit=number > 0)
        for number, candidate in enumerate(best)
    )
    SearchResult(
        inputs="inputs",
        scored_with="context",
        budget=Budget.parse(budget),
        budget_ms=budget_ms,
        percentile=50,
        reference_ms=REFERENCE_MS,
        metric="accuracy",
        resolution=ScoreResolution(PartResolution("accuracy", 100, 0.0587), PartResolution("accuracy", 200, 0.0415)),
        rule="best",
        candidates=tuple(candidates),
        finalists=finalists,
        winner=finalists[1],
    ).write(search)
    keys = [finalist.subnet.key for finalist in finalists[1:]]
    Refinement(
        "inputs",
        "inputs",
        Budget.parse(budget),
        "accuracy",
        finalists[1].subnet,
        f"refined/int8-{budget}/{keys[0]}",
        finalists[1].score,
        finalists[1].score + 0.01,
        "",
        (
            Rung(dict.fromkeys(keys, 100), dict.fromkeys(keys, 30.0), dict.fromkeys(keys, 0.9)),
            Rung({keys[0]: 800}, {keys[0]: 240.0}, {keys[0]: 0.91}),
        ),
    ).write(search)
    full = space.largest.key
    append_line(folder / "search" / "scores.jsonl", {"context": "context", "subnet_key": full, "score": 0.95})
    append_line(folder / "events.jsonl", {"time": 1.79e9 + 60, "stage": "search", "budget": budget, "scored": 12})


def _write_packages(folder: Path, dimensions: Dimensions) -> None:
    search = read_result(folder / "search" / "int8-2x")
    assert search is not None
    assert search.winner is not None
    rows = tuple(
        ComparisonRow(
            name=name,
            subnet=subnet,
            precision=precision,
            measured_ms=measured_ms,
            spread_ms=0.04,
            p95_ms=measured_ms * 1.1,
            speed_up=REFERENCE_MS / measured_ms,
            predicted_ms=predicted_ms,
            size_bytes=12_345_678,
            model_digest="0" * 64,
            scores={"accuracy": accuracy, "f1": accuracy - 0.01},
            kind=kind,
            budget=budget,
            gains=GAINS if kind == "winner" else {},
        )
        for name, kind, budget, subnet, precision, measured_ms, predicted_ms, accuracy in (
            ("full model, FP32", "full", None, dimensions.full_subnet, "fp32", 6.0, None, 0.93),
            ("full model, INT8", "full", None, dimensions.full_subnet, "int8", REFERENCE_MS, None, 0.92),
            ("winner 2x, INT8", "winner", "2x", search.winner.subnet, "int8", 1.4, 1.38, 0.91),
            ("evenly shrunk 2x, INT8", "shrunk", "2x", make_space().smallest, "int8", 1.38, 1.37, 0.86),
            ("ready-made <b>L3</b>, INT8", "ready_made", None, dimensions.full_subnet, "int8", 1.39, None, 0.905),
        )
    )
    comparison = Comparison(rows, "accuracy", inputs="x")
    write_json(folder / "packages" / "comparison-int8.json", comparison.to_json())
    write_json(folder / "packages" / "int8-2x" / "ortnas.json", {"format": 4, "name": "<b>name</b>"})
