"""Searches to compare with: pymoo's NSGA-II, random search, and the seed system's evolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from nas.space import Genomes, SearchSpace

Vector = npt.NDArray[np.float64]
# Scores (n,) and predicted latencies (n,) of genomes (n, genes).
Score = Callable[[Genomes], tuple[Vector, Vector]]


class _Canonical(Repair):  # type: ignore[misc]
    """Rounds genes and zeroes those of absent layers, so that its elimination of duplicates knows one network again."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Problem, rows: Any, **kwargs: Any) -> Any:  # noqa: ARG002 pymoo's signature
        return self.space.repair(np.rint(rows)).astype(int)


class _Problem(Problem):  # type: ignore[misc]
    """Minus score and latency of integer genes; remembers what was scored, in order."""

    def __init__(self, space: SearchSpace, score: Score) -> None:
        super().__init__(n_var=space.genes, n_obj=2, xl=0, xu=space.bounds - 1, vtype=int)
        self.score = score
        self.scored: dict[bytes, npt.NDArray[np.int16]] = {}

    def _evaluate(self, rows: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        genomes = rows.astype(np.int16)
        scores, latency_ms = self.score(genomes)
        for genome in genomes:
            self.scored.setdefault(genome.tobytes(), genome)
        out["F"] = np.column_stack([-scores, latency_ms])


def pymoo_nsga2(space: SearchSpace, score: Score, wanted: int, seed: int, population: int) -> Genomes:
    """The first ``wanted`` different genomes that pymoo's NSGA-II scores, in order; its operators for integers."""
    problem = _Problem(space, score)
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=_Canonical(space)),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=_Canonical(space)),
        repair=_Canonical(space),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=("n_gen", 10 * wanted), seed=seed, verbose=False)
    while len(problem.scored) < wanted and algorithm.has_next():
        algorithm.next()
    return np.stack(list(problem.scored.values()))[:wanted]
