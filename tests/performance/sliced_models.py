"""What a sliced INT8 model stands for: ``python tests/performance/sliced_models.py RUN_FOLDER [--quick] [--json]``.

A sliced model is cut from the quantized full network, one of its own is calibrated and quantized by itself. Random
subnets of a run are built both ways. *Latency*: both forms in turn in one process, beside a second session of the own
form, whose deviation is what repeating alone does. *Score*: both forms on the run's search part, whose labels training
did not see, and how alike they rank. The last line of ``--json`` holds ``latency_error`` (median relative difference
between the forms), ``repeat_error`` (the same between two sessions of one model), ``latency_kendall``, ``score_error``
(mean difference in points), ``score_kendall`` and ``top_share`` (share of the best quarter by own scores that the best
half by sliced scores holds).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import TimingProtocol, Workload, time_interleaved
from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import read_configuration
from ortnas.nas.run.run import Run
from ortnas.predictors.survey import stratified

SEED = 1
FORMS = ("own", "sliced", "own again")


def time_forms(models: dict[str, bytes], workload: Workload, protocol: TimingProtocol) -> dict[str, float]:
    """Median latency in ms by form."""
    sessions = {name: make_session(model, Setup()) for name, model in models.items()}
    samples = time_interleaved(sessions, "own", [workload], protocol)
    return {name: float(np.median(timed.model_ns)) / 1e6 for name, timed in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--subnets", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="ten subnets")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    run = Run(read_configuration(arguments.run / "resolved.yaml", {"folder": str(arguments.run)}), console)
    count = 10 if arguments.quick else arguments.subnets
    space, part, head = run.models.supernet.space, run.models.part("search"), run.configuration.head
    subnets: list[Subnet] = [space.decode(genome) for genome in stratified(space, count, np.random.default_rng(SEED))]
    workload = Workload(1, 128, run.models.supernet.dimensions.vocab_size)
    latency_ms, scores = [], []
    with console.progress("subnets") as progress:
        for number, subnet in enumerate(subnets, start=1):
            own, sliced = run.models.exporter.build(subnet, "int8"), run.models.exporter.sliced(subnet)
            timed = time_forms(
                dict(zip(FORMS, (own, sliced, own), strict=True)), workload, TimingProtocol.fixed(30, runs=3)
            )
            latency_ms.append([timed[form] for form in FORMS])
            outputs = [model_outputs(model, part.encoded, head) for model in (own, sliced)]
            scores.append([METRICS[run.texts.metric](output, part) for output in outputs])
            progress(number, len(subnets), subnet.describe())
    run.close()
    own_ms, sliced_ms, again_ms = np.array(latency_ms).T
    own_score, sliced_score = np.array(scores).T
    best = np.argsort(-own_score, kind="stable")[: max(1, count // 4)]
    kept = np.argsort(-sliced_score, kind="stable")[: count // 2]
    figures = {
        "subnets": len(subnets),
        "latency_error": float(np.median(np.abs(sliced_ms / own_ms - 1))),
        "latency_error_largest": float(np.abs(sliced_ms / own_ms - 1).max()),
        "repeat_error": float(np.median(np.abs(again_ms / own_ms - 1))),
        "repeat_error_largest": float(np.abs(again_ms / own_ms - 1).max()),
        "latency_bias": float(np.mean(sliced_ms / own_ms - 1)),
        "latency_kendall": float(kendalltau(own_ms, sliced_ms).statistic),
        "score_error": float(100 * np.mean(sliced_score - own_score)),
        "score_error_largest": float(100 * np.abs(sliced_score - own_score).max()),
        "score_kendall": float(kendalltau(own_score, sliced_score).statistic),
        "top_share": float(np.isin(best, kept).mean()),
    }
    console.table(
        f"{len(subnets)} subnets, INT8 sliced and of their own; {run.texts.metric} on {len(part.encoded)} search texts",
        ("subnet", "own ms", "sliced ms", "own again ms", "own score", "sliced score"),
        [
            (subnet.describe(), *(f"{value:.2f}" for value in times), *(f"{value:.4f}" for value in pair))
            for subnet, times, pair in zip(subnets, latency_ms, scores, strict=True)
        ],
    )
    console.table("in short", ("figure", "value"), [(name, f"{value:.4f}") for name, value in figures.items()])
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
