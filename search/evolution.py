"""The search engine: ask for subnets within all budgets, tell their scores; nothing is asked for twice.

Constrained evolution for one budget, NSGA-II for a whole front (Deb et al. 2002). A generation proposes tens of
thousands of genomes; what is asked for are a few that the predictors' bounds and a model of the scores let through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.arrays import Matrix, Rows, Vector
from ortnas.nas.failures import OrtnasError
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint, Proposals, SizeLimit, predict
from ortnas.search.front import best_first
from ortnas.search.methods import METHODS
from ortnas.search.operators import enumerate_space, offspring, unseen
from ortnas.search.surrogate import Surrogate, fit_surrogate, most_promising

# A space of so few subnets is looked through whole before it counts as exhausted.
_ENUMERABLE = 100_000
# Generations towards budgets that none of the first pool meets, and attempts to find unseen subnets where few are left.
_ATTEMPTS = 10
# Subnets far below all limits waste them; those that are as near to one, as a share of it, are preferred. Where no
# model of the scores chooses, parents need more room between them.
_NEAR_LIMIT, _NEAR_LIMIT_UNGUIDED = 0.015, 0.15


class InfeasibleError(OrtnasError):
    """No subnet of the space keeps all that it has to keep."""


class InfeasibleSizeError(InfeasibleError):
    """No subnet of the space has so small a file."""

    def __init__(self, limit_bytes: float, smallest_bytes: float) -> None:
        super().__init__(
            f"no subnet's model fits into {limit_bytes / 1e6:.2f} MB: the smallest takes "
            f"{smallest_bytes / 1e6:.2f} MB. Allow that much (search.max_size_mb), or use a space with smaller choices"
        )


class InfeasibleBudgetError(InfeasibleError):
    """No subnet of the space meets a budget; ``fastest_ms`` is the lowest upper bound found."""

    def __init__(self, budget_ms: float, fastest_ms: float, target: str = "") -> None:
        where = f" on {target}" if target else ""
        super().__init__(
            f"no subnet meets the budget of {budget_ms:.3g} ms{where}: the fastest has an upper bound of "
            f"{fastest_ms:.3g} ms. Use a budget of at least {fastest_ms:.3g} ms, or a space with smaller choices"
        )
        self.fastest_ms = fastest_ms


@dataclass(frozen=True)
class Settings:
    """``goal``: the best score within the budgets, or the ``front`` of score against latency.

    ``method`` names where proposals come from (``search.methods``); ``population``: how many candidates are parents.
    ``surrogate`` lets a model of the scores choose among proposals; ``bonus``: how many standard deviations of it
    count in a proposal's favour. ``pool``: how many genomes a generation proposes.
    """

    goal: Literal["budget", "front"] = "budget"
    method: str = "evolution"
    population: int = 16
    surrogate: bool = True
    bonus: float = 1.0
    pool: int = 16_384


class Evolution:
    """Proposes genomes within all constraints, and within the limit of size if there is one.

    Deterministic: the same seed, and the same genomes asked for and scores told, give the same next proposals.
    Raises InfeasibleBudgetError, InfeasibleSizeError, and ValueError for an unknown method.
    """

    def __init__(
        self,
        space: SearchSpace,
        constraints: Sequence[Constraint],
        settings: Settings = Settings(),
        seed: int = 0,
        size_limit: SizeLimit | None = None,
    ) -> None:
        self.space, self.constraints, self.settings, self.seed = space, tuple(constraints), settings, seed
        self.size_limit = size_limit
        self.candidates: list[Candidate] = []
        self.asked = 0
        self._seen: set[bytes] = set()
        self._excess: list[float] = []
        if settings.method not in METHODS:
            raise ValueError(f"no search method is called {settings.method!r}; there are {', '.join(METHODS)}")
        self._sample = METHODS[settings.method]
        self._first = self._within(self._initial_pool(self._rng(0)))
        if not len(self._first.genomes):
            self._first = self._descend()

    def ask(self, n: int) -> Proposals:
        """Up to n unseen genomes within all budgets; fewer only where no more are found, none where none is left."""
        rng = self._rng(1)
        pool = self._first
        if self.candidates:
            pool = self._within(rng.permutation(self._sample(self.space, self._parents(), self.settings.pool, rng)))
        pool = pool.take(unseen(pool.genomes, self._seen))
        for attempt in range(1 if self.space.count <= _ENUMERABLE else _ATTEMPTS):
            if len(pool.genomes) >= n:
                break
            pool = pool.join(self._within(self._more(attempt, rng)))
            pool = pool.take(unseen(pool.genomes, self._seen))
        chosen = pool.take(self._choose(pool, n))
        self.mark(chosen.genomes)
        return chosen

    def mark(self, genomes: Genomes) -> None:
        """Counts genomes as asked for, as after ``ask``."""
        self._seen.update(genome.tobytes() for genome in np.asarray(genomes, np.int16))
        self.asked += len(genomes)

    def tell(self, candidates: Sequence[Candidate]) -> None:
        """Adds scored candidates, asked for or known from elsewhere; those over a budget are parents of last resort."""
        if not candidates:
            return
        genomes = self._genomes(candidates)
        _, excess = predict(self.constraints, genomes, self.size_limit)
        self.candidates += candidates
        self._excess += excess.max(1).tolist()
        self._seen.update(genome.tobytes() for genome in genomes)

    def constrain(self, constraints: Sequence[Constraint]) -> None:
        """Goes on under other constraints on the same targets; candidates are predicted anew."""
        self.constraints = tuple(constraints)
        if self.candidates:
            proposals, excess = predict(self.constraints, self._genomes(self.candidates), self.size_limit)
            latencies = zip(proposals.latency_ms.tolist(), proposals.upper_ms.tolist(), strict=True)
            self.candidates = [
                replace(candidate, latency_ms=latency_ms, upper_ms=upper_ms)
                for candidate, (latency_ms, upper_ms) in zip(self.candidates, latencies, strict=True)
            ]
            self._excess = excess.max(1).tolist()

    @property
    def ranking(self) -> list[Candidate]:
        """Candidates within the budgets that are scored in full: best score first, among equals the faster one."""
        full = [candidate for candidate in self._within_budget if not candidate.estimated]
        return sorted(full, key=lambda candidate: (-candidate.score, candidate.latency_ms))

    @property
    def _within_budget(self) -> list[Candidate]:
        pairs = zip(self.candidates, self._excess, strict=True)
        return [candidate for candidate, excess in pairs if excess <= 0]

    def rivals(self, proposals: Proposals, keep: int) -> list[Candidate | None]:
        """For each proposal, the candidate that it has to beat to matter; None where it matters whatever its score.

        Goal ``budget``: the ``keep``-th best. Goal ``front``: the best that is no slower.
        """
        ranking = self.ranking
        if self.settings.goal == "budget":
            rival = ranking[keep - 1] if len(ranking) >= keep else None
            return [rival] * len(proposals.genomes)
        costs = self._costs(proposals)
        reached = self._costs(self._proposals(ranking)) if ranking else np.empty((0, costs.shape[1]))
        no_dearer = [np.flatnonzero((reached <= cost).all(1)) for cost in costs]
        return [ranking[rows[0]] if len(rows) else None for rows in no_dearer]

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose, self.asked])

    def _initial_pool(self, rng: np.random.Generator) -> Genomes:
        ends = np.stack([self.space.encode(self.space.smallest), self.space.encode(self.space.largest)])
        nothing = np.empty((0, self.space.genes), np.int16)
        return np.concatenate([ends, self._sample(self.space, nothing, self.settings.pool, rng)])

    def _within(self, genomes: Genomes) -> Proposals:
        proposals, excess = predict(self.constraints, genomes, self.size_limit)
        return proposals.take(np.flatnonzero(excess.max(1) <= 0))

    def _descend(self) -> Proposals:
        """Subnets within budgets that none of the first pool meets: generations that only get nearer to them."""
        rng = self._rng(2)
        pool = np.concatenate([self._initial_pool(self._rng(0)), self.space.sample(self.settings.pool, rng)])
        for _ in range(_ATTEMPTS):
            proposals, excess = predict(self.constraints, pool, self.size_limit)
            within = np.flatnonzero(excess.max(1) <= 0)
            if len(within):
                return proposals.take(within)
            nearest = pool[np.argsort(excess.max(1), kind="stable")[: self.settings.population]]
            pool = np.concatenate([nearest, offspring(self.space, nearest, self.settings.pool, rng)])
        _, excess = predict(self.constraints, nearest[:1], self.size_limit)
        number = int(excess[0].argmax())
        if self.size_limit is not None and number == len(self.constraints):
            raise InfeasibleSizeError(self.size_limit.limit_bytes, float(self.size_limit.size_bytes(nearest[:1])[0]))
        worst = self.constraints[number]
        fastest_ms = float(worst.predictor.predict(nearest[:1])[1][0])
        raise InfeasibleBudgetError(worst.budget_ms, fastest_ms, worst.target)

    def _more(self, attempt: int, rng: np.random.Generator) -> Genomes:
        """Proposals where a generation brought too few that are new."""
        if self.space.count <= _ENUMERABLE:
            return enumerate_space(self.space)
        if not self.candidates or attempt % 2:
            return self.space.sample(self.settings.pool, rng)
        return offspring(self.space, self._genomes(self.candidates), self.settings.pool, rng)

    def _parents(self) -> Genomes:
        """The best candidates (m, genes) in order of rank."""
        order = best_first(self._objectives(), np.array(self._excess))
        chosen = order[: self.settings.population]
        return self._genomes([self.candidates[row] for row in chosen])

    @staticmethod
    def _genomes(candidates: Sequence[Candidate]) -> Genomes:
        return np.array([candidate.genome for candidate in candidates], np.int16)

    def _objectives(self) -> Matrix:
        """What is to be small, (candidates, objectives)."""
        scores = np.array([[-candidate.score] for candidate in self.candidates])
        return np.hstack([scores, self._costs(self._proposals(self.candidates))])

    def _costs(self, proposals: Proposals) -> Matrix:
        """The objectives beside the score, (n, costs)."""
        if self.settings.goal == "budget":
            return np.empty((len(proposals.genomes), 0))
        return proposals.latency_ms[:, None]

    def _proposals(self, candidates: Sequence[Candidate]) -> Proposals:
        genomes = self._genomes(candidates)
        latency_ms, upper_ms = np.array([(item.latency_ms, item.upper_ms) for item in candidates]).T
        return Proposals(genomes, latency_ms, upper_ms)

    def _choose(self, pool: Proposals, n: int) -> Rows:
        if len(pool.genomes) <= n:
            return np.arange(len(pool.genomes))
        surrogate = self._surrogate()
        rows = np.arange(len(pool.genomes))
        if self.settings.goal == "budget":
            is_near = self._is_near_limit(pool, _NEAR_LIMIT_UNGUIDED if surrogate is None else _NEAR_LIMIT)
            rows = np.argsort(~is_near, kind="stable")[: max(n, int(is_near.sum()))]
        elif not self.candidates:
            return _evenly_apart(pool.latency_ms, n)
        if surrogate is None:
            # In the order of proposal: what is proposed often, children of the best, comes early.
            return rows[:n]
        near = pool.take(rows)
        expected, deviation = surrogate.predict(near.genomes)
        within = self._within_budget
        reached = np.array([candidate.score for candidate in within])
        costs = self._costs(self._proposals(within)) if within else np.empty((0, 0))
        return rows[most_promising(expected, deviation, self._costs(near), reached, costs, n, self.settings.bonus)]

    def _is_near_limit(self, pool: Proposals, share: float) -> npt.NDArray[np.bool_]:
        _, excess = predict(self.constraints, pool.genomes, self.size_limit)
        used = 1 + excess.max(1)
        # Limits that every subnet keeps are no guide; then the largest subnets are.
        is_near: npt.NDArray[np.bool_] = used >= (1 - share) * min(1.0, float(used.max()))
        return is_near

    def _surrogate(self) -> Surrogate | None:
        if not self.settings.surrogate or not self.candidates:
            return None
        scores = np.array([candidate.score for candidate in self.candidates])
        return fit_surrogate(self.space, self._proposals(self.candidates).genomes, scores, self.seed)


def _evenly_apart(latency_ms: Vector, n: int) -> Rows:
    """n rows whose latencies lie evenly between the lowest and the highest."""
    distance = np.abs(latency_ms[:, None] - np.linspace(latency_ms.min(), latency_ms.max(), n))
    chosen: list[int] = []
    for column in range(n):
        distance[chosen, column] = np.inf
        chosen.append(int(distance[:, column].argmin()))
    return np.array(chosen, np.int64)
