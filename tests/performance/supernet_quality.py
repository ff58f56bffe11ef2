"""How good subnets of a trained supernet are: ``python tests/performance/supernet_quality.py RUN_FOLDER [--json]``.

The teacher, the largest and the smallest subnet, and the best subnet of a half and of a quarter of the encoder's
multiply-adds, each chosen among random ones on the search part (``--candidates``, 24). Scores are of the report part,
which nothing was chosen on, or of its first ``--texts``: of the float network, of the same slices before training, and
of the INT8 ONNX model. The last line of ``--json`` is one object with ``NAME_untrained``, ``NAME_fp32`` and
``NAME_int8`` for teacher, largest, half, quarter and smallest.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS
from ortnas.export.part import Part
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import read_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.courses import load_network
from ortnas.nas.text import take
from ortnas.nas.training.step_subnets import multiply_adds
from ortnas.nas.training.steps import network_outputs
from ortnas.nas.training.supernet import Supernet

POOL, SEED = 20_000, 0


def candidates(run: Run, share: float, count: int) -> list[Subnet]:
    """Random subnets within 2 % of a share of the largest one's multiply-adds."""
    space = run.models.supernet.space
    rng = np.random.default_rng([SEED, round(100 * share)])
    pool = np.unique(space.sample(POOL, rng), axis=0)
    near = pool[np.abs(multiply_adds(space)(pool) / (share * space.largest.multiply_adds) - 1) < 0.02]
    chosen = rng.permutation(len(near))[:count]
    return [space.decode(genome) for genome in near[chosen]]


def first(part: Part, count: int | None) -> Part:
    if count is None:
        return part
    teacher = None if part.teacher is None else part.teacher[:count]
    return replace(part, encoded=take(part.encoded, count), examples=part.examples[:count], teacher=teacher)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--texts", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    run = Run(read_configuration(arguments.run / "resolved.yaml", {"folder": str(arguments.run)}), console)
    supernet, teacher = load_network(run.folder.supernet), load_network(run.folder.teacher)
    search, report = run.models.part("search"), first(run.models.part("report"), arguments.texts)

    def score(network: Supernet, subnet: Subnet, part: Part) -> float:
        return METRICS[run.texts.metric](network_outputs(network, part.encoded, subnet), part)

    chosen = {"largest": run.models.supernet.space.largest}
    with console.progress("choosing subnets on the search part") as progress:
        for number, (name, share) in enumerate((("half", 0.5), ("quarter", 0.25)), start=1):
            chosen[name] = max(
                candidates(run, share, arguments.candidates), key=lambda subnet: score(supernet, subnet, search)
            )
            progress(number, 2, name)
    chosen["smallest"] = run.models.supernet.space.smallest

    full = teacher.dimensions.full_subnet
    settings = [("teacher", full, teacher, run.models.teacher_exporter)]
    settings += [(name, subnet, supernet, run.models.exporter) for name, subnet in chosen.items()]
    figures: dict[str, float] = {}
    rows = []
    for name, subnet, network, exporter in settings:
        outputs = model_outputs(exporter.build(subnet, "int8"), report.encoded, run.configuration.head)
        figures[f"{name}_untrained"] = score(teacher, subnet, report)
        figures[f"{name}_fp32"] = score(network, subnet, report)
        figures[f"{name}_int8"] = METRICS[run.texts.metric](outputs, report)
        scores = [f"{figures[f'{name}_{kind}']:.4f}" for kind in ("untrained", "fp32", "int8")]
        share = subnet.multiply_adds / full.multiply_adds
        rows.append((name, subnet.describe(), f"{share:.2f}", *scores))
    columns = ("network", "architecture", "share of multiply-adds", "before training", "trained, fp32", "trained, INT8")
    console.table(f"{run.texts.metric} on {len(report.encoded)} report texts", columns, rows)
    run.close()
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
