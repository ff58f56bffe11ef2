"""Boosted trees on what the analytic prior leaves over, as many as help on measurements that they have not seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xgboost

from ortnas.nas.arrays import Matrix, Vector
from ortnas.predictors.features import SIZES
from ortnas.predictors.prior import fit_prior

Sizes = npt.NDArray[np.float32]

# Chosen once by nested cross-validation on recorded timings (docs/predictor.md), not per run.
MOST_ROUNDS, _EVERY = 50, 10
# Fewer measurements cannot say whether trees help.
_LEAST_ROWS = 25
TREES = {
    "objective": "reg:squarederror",
    "base_score": 0.0,
    "eta": 0.2,
    "max_depth": 2,
    "min_child_weight": 3.0,
    "lambda": 5.0,
    "subsample": 0.8,
    "monotone_constraints": str(tuple(SIZES.values())),
    # So little work is not worth sharing, and threads that wait for each other would disturb timings beside it.
    "nthread": 1,
    "seed": 0,
}
# Residuals are cut off at so many standard deviations: trees would spend their leaves on single outliers.
_CUT = 3.0
_FOLDS = 5


def fit_trees(sizes: Sizes, residual: Vector, scatter: float, errors: Vector | None, rounds: int) -> xgboost.Booster:
    """Trees for log(measured / prior), (n,); ``scatter`` is its usual size, ``errors`` the measurements' own."""
    variance = 0 if errors is None else errors**2
    weight = scatter**2 / (scatter**2 + variance) * np.ones(len(residual))
    cut = np.clip(residual, -_CUT * scatter, _CUT * scatter)
    data = xgboost.DMatrix(sizes, label=cut, weight=weight, nthread=1)
    return xgboost.train(TREES, data, num_boost_round=rounds)


def tree_output(booster: xgboost.Booster | None, sizes: Sizes, rounds: int = 0) -> Vector:
    """What the trees (the first ``rounds``; 0: all) add to the logarithm of the prior, (n,)."""
    if booster is None:
        return np.zeros(len(sizes))
    output: Vector = booster.inplace_predict(sizes, iteration_range=(0, rounds)).astype(np.float64)
    return output


def choose_rounds(terms: Matrix, sizes: Sizes, latency_ms: Vector, errors: Vector | None, start: Vector) -> int:
    """How many rounds of trees predict best in cross-validation; 0 unless they gain more than chance would.

    The gain must exceed its own standard error (Breiman et al. 1984).
    """
    if len(latency_ms) < _LEAST_ROWS:
        return 0
    choices = range(_EVERY, MOST_ROUNDS + 1, _EVERY)
    gains = np.empty((len(choices), len(latency_ms)))
    for kept, held in folds(len(latency_ms), _FOLDS):
        own_errors = None if errors is None else errors[kept]
        prior = fit_prior(terms[kept], latency_ms[kept], own_errors, start)
        residual = np.log(latency_ms / prior.latency_ms(terms))
        booster = fit_trees(sizes[kept], residual[kept], prior.scatter, own_errors, MOST_ROUNDS)
        limit = _CUT * prior.scatter
        without = np.minimum(np.abs(residual[held]), limit)
        for row, rounds in enumerate(choices):
            with_trees = residual[held] - tree_output(booster, sizes[held], rounds)
            gains[row, held] = without - np.minimum(np.abs(with_trees), limit)
    best = int(np.argmax(gains.mean(1)))
    chance = gains[best].std(ddof=1) / np.sqrt(len(latency_ms))
    return choices[best] if gains[best].mean() > chance else 0


def folds(n: int, most: int) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Masks of rows to fit on and rows to judge on; every row is judged once. Always the same for one n."""
    number = np.random.default_rng(0).permutation(n) % min(n, most)
    for fold in range(min(n, most)):
        yield number != fold, number == fold
