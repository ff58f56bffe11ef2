"""Constrained evolution: ask for subnets under a latency bound, tell their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nas.space import Genomes, SearchSpace

Vector = npt.NDArray[np.float64]
_POOL = 8192
_TOURNAMENT = 3
# Subnets far below the budget waste it; those at least this near are preferred.
_NEAR_BUDGET = 0.85


class InfeasibleBudgetError(ValueError):
    """No subnet of the space meets the budget; ``fastest_ms`` is the lowest upper bound found."""

    def __init__(self, budget_ms: float, fastest_ms: float) -> None:
        super().__init__(
            f"no subnet meets the budget of {budget_ms:.3g} ms: the fastest has an upper bound of {fastest_ms:.3g} ms. "
            f"Use a budget of at least {fastest_ms:.3g} ms, or a space with smaller choices"
        )
        self.fastest_ms = fastest_ms


class LatencyBound(Protocol):
    """What evolution needs of a predictor."""

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """``latency_ms`` and ``upper_ms`` (n,) of genomes (n, genes)."""


@dataclass(frozen=True)
class Candidate:
    """A scored subnet with its predicted latency."""

    genome: tuple[int, ...]
    latency_ms: float
    upper_ms: float
    score: float


class Evolution:
    """Proposes genomes whose upper latency bound is within the budget, never one twice.

    Deterministic: the same seed and the same told scores give the same proposals. Raises InfeasibleBudgetError.
    """

    def __init__(
        self, space: SearchSpace, predictor: LatencyBound, budget_ms: float, population: int, seed: int
    ) -> None:
        self.space, self.predictor, self.budget_ms, self.population = space, predictor, budget_ms, population
        self.candidates: list[Candidate] = []
        self._seen: set[bytes] = set()
        self._rng = np.random.default_rng(seed)
        self._first = self._within_budget(self._initial_pool())

    def _initial_pool(self) -> Genomes:
        ends = np.stack([self.space.encode(self.space.smallest), self.space.encode(self.space.largest)])
        return np.concatenate([ends, self.space.sample(_POOL, self._rng)])

    def _within_budget(self, genomes: Genomes) -> tuple[Genomes, Vector, Vector]:
        latency_ms, upper_ms = self.predictor.predict(genomes)
        feasible = upper_ms <= self.budget_ms
        if not feasible.any() and not self.candidates:
            raise InfeasibleBudgetError(self.budget_ms, float(upper_ms.min()))
        return genomes[feasible], latency_ms[feasible], upper_ms[feasible]

    def ask(self, n: int) -> tuple[Genomes, Vector, Vector]:
        """Up to n unseen genomes with their predicted latency and bound; fewer only where no more are found."""
        genomes, latency_ms, upper_ms = self._within_budget(self._offspring()) if self.candidates else self._first
        fresh = self._unseen(genomes)
        if self.candidates and len(fresh) < n:
            # A small or nearly exhausted space: whatever random sampling still finds.
            genomes, latency_ms, upper_ms = self._within_budget(self._initial_pool())
            fresh = self._unseen(genomes)
        chosen = self._prefer_near_budget(fresh, upper_ms[fresh], n)
        for genome in genomes[chosen]:
            self._seen.add(genome.tobytes())
        return genomes[chosen], latency_ms[chosen], upper_ms[chosen]

    def tell(self, candidates: list[Candidate]) -> None:
        """Adds scored candidates, asked for or known from elsewhere; those over the budget only count as seen."""
        for candidate in candidates:
            self._seen.add(np.asarray(candidate.genome, np.int16).tobytes())
            if candidate.upper_ms <= self.budget_ms:
                self.candidates.append(candidate)

    @property
    def ranking(self) -> list[Candidate]:
        """Best score first; among equals the faster one."""
        return sorted(self.candidates, key=lambda candidate: (-candidate.score, candidate.latency_ms))

    def _offspring(self) -> Genomes:
        parents = np.asarray([candidate.genome for candidate in self.ranking[: self.population]], np.int16)
        # Rows are in order of rank, so the smallest of some random rows wins its tournament.
        first, second = self._rng.integers(0, len(parents), (2, _TOURNAMENT, _POOL)).min(1)
        crossed = self.space.mutate(self.space.cross(parents[first], parents[second], self._rng), self._rng)
        mutated = self.space.mutate(parents[first], self._rng)
        from_crossover = self._rng.random(_POOL) < 0.5
        children = np.where(from_crossover[:, None], crossed, mutated)
        return np.concatenate([children, self.space.sample(_POOL // 8, self._rng)])

    def _unseen(self, genomes: Genomes) -> npt.NDArray[np.int64]:
        """Rows that are neither seen before nor repeated."""
        _, first = np.unique(genomes, axis=0, return_index=True)
        rows = [row for row in np.sort(first) if genomes[row].tobytes() not in self._seen]
        return np.asarray(rows, np.int64)

    def _prefer_near_budget(self, rows: npt.NDArray[np.int64], upper_ms: Vector, n: int) -> npt.NDArray[np.int64]:
        if len(rows) <= n:
            return rows
        # A budget that every subnet meets is no guide; then the largest subnets are.
        near = upper_ms >= _NEAR_BUDGET * min(self.budget_ms, float(upper_ms.max()))
        shuffled = self._rng.permutation(len(rows))
        preferred = np.concatenate([shuffled[near[shuffled]], shuffled[~near[shuffled]]])
        chosen: npt.NDArray[np.int64] = rows[np.sort(preferred[:n])]
        return chosen
