"""What a subnet will score, learnt from the scores so far: a linear prior, and boosted trees on what it leaves over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost

from ortnas.nas.architecture.space import Genomes, Population, SearchSpace
from ortnas.nas.arrays import Matrix, Rows, Vector

# With fewer scores, as many subnets from all over the space tell more than a model of them.
MINIMUM_SCORES = 16
_MEMBERS = 5
_RIDGE = 0.3
_ROUNDS = 40
_TREES = {
    "objective": "reg:squarederror",
    "eta": 0.1,
    "max_depth": 3,
    "min_child_weight": 3,
    "subsample": 0.8,
    "colsample_bynode": 0.6,
    "nthread": 1,
}


def features(space: SearchSpace, genomes: Genomes) -> Matrix:
    """Sizes as shares of the space's largest, (n, features): of the whole subnet, then layer by
    layer; last the products that stay in float, 1 where they do."""
    values, largest = (_sizes(space.expand(rows)) for rows in (genomes, space.encode(space.largest)[None]))
    shares: Matrix = values / np.maximum(largest, 1)
    return shares


def _sizes(population: Population) -> Matrix:
    width = population.num_heads * population.head_size
    ffn = population.ffn_size
    whole = (population.hidden_size, population.depth, width.sum(1), ffn.sum(1), population.multiply_adds)
    return np.column_stack([*whole, width, ffn, *population.keep_float.values()]).astype(np.float64)


@dataclass(frozen=True)
class _Member:
    """One linear model with its trees; both look at features."""

    coefficients: Vector
    booster: xgboost.Booster

    def predict(self, rows: Matrix) -> Vector:
        trees: Vector = self.booster.inplace_predict(rows.astype(np.float32)).astype(np.float64)
        linear: Vector = rows @ self.coefficients[1:] + self.coefficients[0]
        total: Vector = linear + trees
        return total


@dataclass(frozen=True)
class Surrogate:
    """An ensemble fitted to re-weighted scores (Bayesian bootstrap, Rubin 1981)."""

    space: SearchSpace
    members: tuple[_Member, ...]
    centre: float
    scale: float

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """Expected score and how unsure it is, (n,) each: mean and standard deviation over the ensemble."""
        rows = features(self.space, genomes)
        predictions = np.stack([member.predict(rows) for member in self.members])
        return self.centre + self.scale * predictions.mean(0), self.scale * predictions.std(0)


def fit_surrogate(space: SearchSpace, genomes: Genomes, scores: Vector, seed: int) -> Surrogate | None:
    """A model of scores (n,) of genomes (n, genes); None for too few of them or none that differ."""
    if len(scores) < MINIMUM_SCORES or np.ptp(scores) == 0:
        return None
    rows = features(space, genomes)
    centre, scale = float(scores.mean()), float(scores.std())
    wanted = (scores - centre) / scale
    rng = np.random.default_rng([seed, len(scores)])
    members = tuple(_fit(rows, wanted, rng.exponential(size=len(scores)), number) for number in range(_MEMBERS))
    return Surrogate(space, members, centre, scale)


def _fit(rows: Matrix, wanted: Vector, weights: Vector, seed: int) -> _Member:
    extended = np.column_stack([np.ones(len(rows)), rows])
    weighted = extended * weights[:, None]
    penalty = np.diag([1e-9, *[_RIDGE] * rows.shape[1]])
    coefficients = np.linalg.solve(weighted.T @ extended + penalty, weighted.T @ wanted).astype(np.float64)
    # Starting threads takes longer than copying a few hundred rows.
    residual = wanted - extended @ coefficients
    data = xgboost.DMatrix(rows.astype(np.float32), label=residual, weight=weights, nthread=1)
    booster = xgboost.train({**_TREES, "seed": seed, "base_score": 0.0}, data, num_boost_round=_ROUNDS)
    return _Member(coefficients, booster)


def most_promising(
    expected: Vector, deviation: Vector, costs: Matrix, reached: Vector, reached_costs: Matrix, n: int, bonus: float
) -> Rows:
    """n rows of proposals with expected scores (m,), how unsure those are (m,) and costs (m, k), one after the other.

    Each is the one with the largest margin over the best score (``reached``, of subnets with ``reached_costs``) that is
    had at no more of any cost, where ``bonus`` times its deviation counts in its favour. Those chosen before count as
    reached with what is expected of them, so that choices lie all along the front. Without costs (k = 0) only the
    best score counts.
    """
    best = np.full(len(expected), reached.min() if len(reached) else 0.0)
    for score, cost in zip(reached, reached_costs, strict=True):
        best = np.where((costs >= cost).all(1), np.maximum(best, score), best)
    hopes = expected + bonus * deviation
    chosen: list[int] = []
    for _ in range(min(n, len(expected))):
        margins = hopes - best
        margins[chosen] = -np.inf
        row = int(margins.argmax())
        chosen.append(row)
        best = np.where((costs >= costs[row]).all(1), np.maximum(best, expected[row]), best)
    return np.array(chosen, np.int64)
