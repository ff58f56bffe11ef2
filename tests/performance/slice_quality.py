"""How good slices are before and after training: ``python tests/performance/slice_quality.py RUN_FOLDER [--json]``.

Scores fp32 ONNX of some subnets on the report split of a finished run, cut from the reordered teacher (untrained) and
from the trained supernet. The last line of ``--json`` is one object with ``SUBNET_untrained`` and ``SUBNET_trained``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from export.build import Exporter, model_outputs
from export.metrics import METRICS
from export.weights import SupernetFolder
from nas.configuration import read_configuration
from nas.console import Console
from nas.run import Run
from nas.space import Layer, Subnet


def subnets(run: Run) -> dict[str, Subnet]:
    """The full network and one dimension reduced at a time, the way the space picks source layers."""
    full, space = run.teacher.dimensions, run.supernet.space

    def uniform(hidden: int, depth: int, heads: int, ffn: int) -> Subnet:
        sources = space.sources[space.depth.index(depth)]
        return Subnet(hidden, tuple(Layer(source, heads, full.head_size, ffn) for source in sources))

    hidden, depth, heads, ffn = full.hidden_size, full.num_layers, full.num_heads, full.ffn_size
    fewer = max(choice for choice in space.depth if choice <= 2 * depth // 3)
    return {
        "full": full.full_subnet,
        "half_heads": uniform(hidden, depth, heads // 2, ffn),
        "third_ffn": uniform(hidden, depth, heads, ffn // 3),
        "two_thirds_depth": uniform(hidden, fewer, heads, ffn),
        "two_thirds_hidden": uniform(2 * hidden // 3, depth, heads, ffn),
        "two_thirds_all_half_ffn": uniform(2 * hidden // 3, fewer, 2 * heads // 3, ffn // 2),
        "smallest": space.smallest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = Run(read_configuration(arguments.run / "run.yaml", {}), Console(to_stderr=arguments.json))
    report = run.part("report")

    def score(folder: SupernetFolder, subnet: Subnet) -> float:
        exporter = Exporter(folder, run.exporter.recipe, run.exporter.calibration)
        return METRICS[run.metric](model_outputs(exporter.build(subnet, "fp32"), report.examples), report.reference)

    figures: dict[str, float] = {}
    rows = []
    for name, subnet in subnets(run).items():
        figures[f"{name}_untrained"] = untrained = score(run.teacher, subnet)
        figures[f"{name}_trained"] = trained = score(run.supernet, subnet)
        rows.append((name.replace("_", " "), subnet.describe(), f"{untrained:.4f}", f"{trained:.4f}"))
    run.console.table(
        f"{run.metric} on {len(report.examples)} report texts", ("slice", "subnet", "untrained", "trained"), rows
    )
    run.close()
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
