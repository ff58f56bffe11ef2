"""Which subnets to time: from all over latencies and sizes at first, then where the predictor needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ortnas.bench.timing import Workload
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.arrays import Rows, Vector
from ortnas.predictors.features import Machine, analytic_terms, kernels_of, tree_features, usual_prices
from ortnas.predictors.predictor import Predictor

# From genomes (n, genes) to a latency in ms (n,), as far as it is known before anything is timed.
Cost = Callable[[Genomes], Vector]
_POOL = 8192
# How far from a budget a subnet still says something about those on it.
_WINDOW = 0.1
# Among so many times the wanted number of those that the predictor is least sure of, the most different are taken.
_UNSURE_POOL = 10
_USUAL_MACHINE = Machine(kernels_of((), "int8"), 1, (Workload(),))


def usual_cost(space: SearchSpace) -> Cost:
    """What subnets take on an ordinary host, INT8, one thread, 128 tokens: right in proportion."""
    return lambda genomes: analytic_terms(space.expand(genomes), _USUAL_MACHINE) @ usual_prices("int8")


def stratified(
    space: SearchSpace, n: int, rng: np.random.Generator, taken: Genomes | None = None, cost: Cost | None = None
) -> Genomes:
    """Up to n distinct genomes that are not ``taken``: smallest, largest, and others evenly between them.

    Fewer than n only where no more are found. ``cost`` is what is known of latencies before anything is timed.
    """
    ends = np.stack([space.encode(space.smallest), space.encode(space.largest)])
    taken = np.empty((0, space.genes), np.int16) if taken is None else taken
    # Random genomes are rarely near the ends; changed copies of the ends are.
    near_ends = space.mutate(np.repeat(ends, _POOL // 32, axis=0), rng)
    pool = _fresh(space, np.concatenate([ends, space.sample(_POOL, rng), near_ends]), taken)
    return pool[rows_evenly_apart(space, pool, n, rng, taken, cost)]


def rows_evenly_apart(
    space: SearchSpace,
    pool: Genomes,
    n: int,
    rng: np.random.Generator,
    taken: Genomes | None = None,
    cost: Cost | None = None,
) -> Rows:
    """Up to n rows of a pool of genomes (m, genes): the cheapest, the dearest, and others evenly between them.

    One comes from each of n strata of equal ratio of latency, and is within it the most different, in sizes, from
    those chosen before (maximin; Johnson et al. 1990).
    """
    if not len(pool) or n < 1:
        return np.empty(0, np.int64)
    latency_ms = (cost or usual_cost(space))(pool)
    edges = np.geomspace(latency_ms.min(), latency_ms.max() * (1 + 1e-9), n + 1)
    stratum = np.searchsorted(edges[1:], latency_ms, side="right")
    picker = _Picker(space, pool, np.empty((0, space.genes), np.int16) if taken is None else taken)
    for row in dict.fromkeys([int(np.argmin(latency_ms)), int(np.argmax(latency_ms))]):
        picker.take(row)
    for number in rng.permutation(n):
        if not (stratum[picker.chosen] == number).any():
            picker.take_farthest(stratum == number)
    # Strata that hold none leave their turn to the subnets most different from all others.
    while len(picker.chosen) < n and picker.take_farthest(np.ones(len(pool), bool)):
        pass
    return np.array(picker.chosen[:n])


def most_useful(
    space: SearchSpace,
    predictor: Predictor,
    measured: Genomes,
    n: int,
    budget_ms: Sequence[float],
    rng: np.random.Generator,
) -> Genomes:
    """Up to n distinct genomes not yet ``measured``: half near the budgets, half where the predictor is least sure.

    Near is within ±10 % of a budget by prediction; budgets have equal shares. Where there are no such subnets, all are
    unsure ones.
    """
    pool = _fresh(space, np.concatenate([space.sample(_POOL, rng), space.mutate(measured, rng)]), measured)
    latency_ms, _ = predictor.predict(pool)
    uncertainty = predictor.uncertainty(pool)
    picker = _Picker(space, pool, measured)
    windows = [np.abs(latency_ms / budget - 1) <= _WINDOW for budget in budget_ms]
    for number in range(n // 2):
        if windows:
            picker.take_farthest(windows[number % len(windows)])
    wanted = n - len(picker.chosen)
    unsure = np.zeros(len(pool), bool)
    unsure[np.argsort(-uncertainty, kind="stable")[: _UNSURE_POOL * n]] = True
    while wanted > 0 and picker.take_farthest(unsure):
        wanted -= 1
    return pool[picker.chosen]


class _Picker:
    """Chooses rows of a pool, each as different as can be from those that were chosen or taken before."""

    def __init__(self, space: SearchSpace, pool: Genomes, taken: Genomes) -> None:
        self.chosen: list[int] = []
        sizes = tree_features(space.expand(np.concatenate([pool, taken]))).astype(np.float64)
        low, high = sizes.min(0, initial=np.inf), sizes.max(0, initial=-np.inf)
        scaled = (sizes - low) / np.where(high > low, high - low, 1)
        self._points = scaled[: len(pool)]
        # Where nothing is taken yet, all are as far away.
        self._distance = np.full(len(pool), np.inf)
        for point in scaled[len(pool) :]:
            self._approach(point)

    def take(self, row: int) -> None:
        self.chosen.append(row)
        self._approach(self._points[row])
        self._distance[row] = -1.0

    def take_farthest(self, among: npt.NDArray[np.bool_]) -> bool:
        """Whether there was one left."""
        rows = np.flatnonzero(among & (self._distance >= 0))
        if not len(rows):
            return False
        self.take(int(rows[np.argmax(self._distance[rows])]))
        return True

    def _approach(self, point: Vector) -> None:
        np.minimum(self._distance, np.square(self._points - point).sum(1), out=self._distance)


def _fresh(space: SearchSpace, genomes: Genomes, taken: Genomes) -> Genomes:
    """Distinct rows that are not taken, in an order that only depends on what they are."""
    distinct = np.unique(space.repair(genomes), axis=0)
    excluded = {genome.tobytes() for genome in np.asarray(taken, np.int16)}
    return distinct[[genome.tobytes() not in excluded for genome in distinct]]
