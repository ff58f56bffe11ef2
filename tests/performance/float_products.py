"""Is it worth searching which products stay float? ``python tests/performance/float_products.py RUN_FOLDER [--json]``.

INT8 subnets of a trained run under one budget, on a host whose cost model is known (``bench.simulated``), so that only
the search differs. The recipe is one that costs something: weights of 7 bits with one scale a tensor, as on processors
without VNNI. *none*: every product is integer. *afterwards*: searches under parts of the budget, each winner filled up
to the budget by the greedy search of ``ortnas sensitivity``; the best of them. *genome*: the search decides. Every
search scores as many candidates; filling up scores more. Scores are of models as they are shipped, on the first texts
of the search part; those of the report part chose nothing. ``--outliers`` harms the INT8 models of the network, and not
its float model. The last line of ``--json`` holds both scores for each budget, seed and way (``2x_0_none_search``,
``2x_0_none_report``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ortnas.bench.session import Setup
from ortnas.bench.simulated import cost_ms
from ortnas.bench.timing import Workload
from ortnas.export.build import Exporter
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.part import Part
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Array, Vector
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import read_configuration
from ortnas.nas.run.models import searched_products
from ortnas.nas.run.run import Run
from ortnas.nas.text import take
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution, Settings
from ortnas.search.loop import run_search
from ortnas.search.mixed_precision import Evaluation, Goal, Products, Resolution, search_precision
from ortnas.search.scoring import Scorer

WORKLOAD = Workload(1, 128)
SHARES = (0.85,)
POOL = 2048


class CostModel:
    """The simulated host's own law as a predictor that is never wrong."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        latency_ms = np.array([latency_of(self.space.decode(genome)) for genome in genomes])
        return latency_ms, latency_ms


def latency_of(subnet: Subnet) -> float:
    return cost_ms(subnet.to_json(), WORKLOAD, Setup())


class Ways:
    """The three ways on one supernet and recipe."""

    def __init__(self, exporter: Exporter, part: Part, metric: str, folder: Path, seed: int) -> None:
        self.exporter, self.part, self.metric, self.folder, self.seed = exporter, part, metric, folder, seed

    def scorer(self, space: SearchSpace, form: str) -> Scorer:
        exporter = replace(self.exporter, supernet=replace(self.exporter.supernet, space=space))
        return Scorer(exporter, self.part, "int8", self.metric, self.folder / f"{form}.jsonl", form)

    def best(self, space: SearchSpace, budget_ms: float, candidates: int) -> Subnet:
        """Of a search: the best of its four best, scored as they are shipped."""
        settings = Settings(pool=POOL)
        evolution = Evolution(space, [Constraint(CostModel(space), budget_ms)], settings, self.seed)
        run_search(evolution, self.scorer(space, "sliced"), candidates)
        own = self.scorer(space, "own")
        return max((candidate.subnet for candidate in evolution.ranking[:4]), key=own.score)

    def filled(self, subnet: Subnet, products: Sequence[str], budget_ms: float) -> Subnet:
        """With the products in float that ``ortnas sensitivity`` would choose within the budget."""
        space = self.exporter.supernet.space.leaving_float(products)
        scorer = self.scorer(space, "sliced")
        layers = {layer.source for layer in subnet.layers}
        names = [name for name in products if int(name.split("/")[1]) in layers]

        def evaluate(sets: Sequence[Products]) -> list[Evaluation]:
            variants = [replace(subnet, keep_float=tuple(sorted(kept))) for kept in sets]
            # Likelihoods are continuous and need no drift to break their ties.
            return [Evaluation(scorer.score(variant), 0.0, latency_of(variant)) for variant in variants]

        searched = search_precision(names, evaluate, Goal(np.inf, len(names), budget_ms), Resolution(0.0, 0.0), 4)
        return replace(subnet, keep_float=tuple(sorted(searched.chosen.kept)))


def with_outliers(tensors: dict[str, Array], factor: float) -> dict[str, Array]:
    """The same network, in which one channel of each layer's first head is so many times as active as it was: what
    reads it undoes that."""
    changed = {name: np.array(values) for name, values in tensors.items() if ".value." in name or ".output." in name}
    for name, values in changed.items():
        if ".value." in name:
            values[0, 0] *= factor
        elif name.endswith("output.weight"):
            values[:, 0, 0] /= factor
    return {**tensors, **changed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--budgets", default="2", help="speed-ups over the full INT8 model")
    parser.add_argument("--candidates", type=int, default=48)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--outliers", type=float, default=1, help="factor on one channel of every layer's values")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    run = Run(read_configuration(arguments.run / "resolved.yaml", {"folder": str(arguments.run)}), console)
    recipe = replace(recipe_named("avx2"), per_channel=False)
    supernet = run.models.supernet
    if arguments.outliers != 1:
        supernet = replace(supernet, tensors=with_outliers(supernet.tensors, arguments.outliers))
    exporter = Exporter(supernet, recipe, run.models.calibration)
    metric, report = run.texts.search_metric, run.models.part("report")
    part = run.models.part("search", metric)
    count = min(arguments.texts, len(part.encoded))
    part = replace(part, encoded=take(part.encoded, count), examples=part.examples[:count])
    if part.teacher is not None:
        part = replace(part, teacher=part.teacher[:count])
    products = searched_products(supernet.dimensions, recipe)
    full_ms = latency_of(supernet.dimensions.full_subnet)
    rows, figures = [], {}
    for speed_up in map(float, arguments.budgets.split(",")):
        for seed in range(arguments.seeds):
            with TemporaryDirectory() as scratch:
                ways = Ways(exporter, part, metric, Path(scratch), seed)
                budget_ms = full_ms / speed_up
                space = supernet.space
                own = ways.scorer(space, "own")
                chosen = {"none": ways.best(space, budget_ms, arguments.candidates)}
                console.say(f"none: {own.score(chosen['none']):.4f}")
                chosen["genome"] = ways.best(space.leaving_float(products), budget_ms, arguments.candidates)
                console.say(f"genome: {own.score(chosen['genome']):.4f}, {chosen['genome'].describe()}")
                smaller = [ways.best(space, share * budget_ms, arguments.candidates) for share in SHARES]
                filled = [ways.filled(subnet, products, budget_ms) for subnet in smaller]
                chosen["afterwards"] = max(filled, key=own.score)
                for name, subnet in chosen.items():
                    cache = Path(scratch) / "report.jsonl"
                    on_report = [
                        Scorer(exporter, report, precision, run.texts.metric, cache).score(subnet)
                        for precision in ("int8", "fp32")
                    ]
                    rows.append(
                        (
                            f"{speed_up:g}x",
                            str(seed),
                            name,
                            f"{latency_of(subnet):.2f}",
                            f"{own.score(subnet):.4f}",
                            *(f"{score:.4f}" for score in on_report),
                            subnet.describe(),
                        )
                    )
                    key = f"{speed_up:g}x_{seed}_{name}"
                    figures |= {f"{key}_search": own.score(subnet), f"{key}_report": on_report[0]}
                    console.say(" | ".join(rows[-1]))
    run.close()
    columns = ("budget", "seed", "in float", "ms", f"search {metric}", "report", "report fp32", "subnet")
    console.table("Which products stay in float", columns, rows)
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
