"""Our search and those to compare it with, on anything that can score: which genomes they ask for, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution, Settings

Vector = npt.NDArray[np.float64]
BATCH = 16
# Of 10, 20 and 40 the best for pymoo on the recorded scores, from 100 scored candidates on.
PYMOO_POPULATION = 10


class Field(Protocol):
    """Where searches compete: a space with predicted latencies (and bounds) and scores, (n,) each."""

    space: SearchSpace

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]: ...

    def score(self, genomes: Genomes) -> Vector: ...


def ask_and_tell(field: Field, settings: Settings, wanted: int, seed: int) -> Genomes:
    """What our engine asks for."""
    evolution = Evolution(field.space, [Constraint(field)], settings, seed)
    while evolution.asked < wanted:
        proposals = evolution.ask(min(BATCH, wanted - evolution.asked))
        rows = zip(
            proposals.genomes.tolist(),
            proposals.latency_ms.tolist(),
            proposals.upper_ms.tolist(),
            field.score(proposals.genomes).tolist(),
            strict=True,
        )
        evolution.tell([Candidate.of(evolution.space, genome, ms, upper, score) for genome, ms, upper, score in rows])
    return np.array([candidate.genome for candidate in evolution.candidates], np.int16)


class _Canonical(Repair):
    """Rounds genes and zeroes those of absent layers, so that its elimination of duplicates knows one network again."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Problem, rows: Any, **kwargs: Any) -> Any:  # noqa: ARG002 pymoo's signature
        return self.space.repair(np.rint(rows)).astype(int)


class _Problem(Problem):
    """Minus score and latency of integer genes; remembers what was scored, in order."""

    def __init__(self, field: Field) -> None:
        super().__init__(n_var=field.space.genes, n_obj=2, xl=0, xu=field.space.bounds - 1, vtype=int)
        self.field = field
        self.scored: dict[bytes, npt.NDArray[np.int16]] = {}

    def _evaluate(self, rows: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        genomes = rows.astype(np.int16)
        for genome in genomes:
            self.scored.setdefault(genome.tobytes(), genome)
        out["F"] = np.column_stack([-self.field.score(genomes), self.field.predict(genomes)[0]])


def pymoo_nsga2(field: Field, wanted: int, seed: int) -> Genomes:
    """What pymoo's NSGA-II scores, with its operators for integers."""
    problem = _Problem(field)
    algorithm = NSGA2(
        pop_size=PYMOO_POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=_Canonical(field.space)),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=_Canonical(field.space)),
        repair=_Canonical(field.space),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=("n_gen", 10 * wanted), seed=seed, verbose=False)
    while len(problem.scored) < wanted and algorithm.has_next():
        algorithm.next()
    return np.stack(list(problem.scored.values()))[:wanted]


def _ours(**changes: Any) -> Callable[[Field, int, int], Genomes]:
    settings = Settings("front", **changes)
    return lambda field, wanted, seed: ask_and_tell(field, settings, wanted, seed)


# By their names in figures: the first ``wanted`` different genomes that each scores, given a seed.
SEARCHES: dict[str, Callable[[Field, int, int], Genomes]] = {
    "ours": _ours(),
    "plain": _ours(surrogate=False),
    "random": _ours(method="random", surrogate=False),
    "pymoo": pymoo_nsga2,
    "seed": _ours(method="evolved", surrogate=False),
}
LABELS = {
    "ours": "ours",
    "plain": "ours without the surrogate",
    "random": "random",
    "pymoo": f"pymoo NSGA-II, population {PYMOO_POPULATION}",
    "seed": "seed system: half mutated, half random",
}
