"""The analytic prior: a robust non-negative fit of the terms to measured latencies, and how sure it is where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from ortnas.nas.arrays import Matrix, Vector

# A price may be so far from where the fit starts, as a share of it, before that weighs as much as one measurement
# that is off by its usual error. Chosen once by nested cross-validation on recorded timings (docs/predictor.md).
FREEDOM = 1.5
# Where errors begin to count by size instead of by square, in standard deviations (Huber 1964: 95 % efficiency).
_HUBER = 1.345
_ITERATIONS, _CONVERGED = 20, 1e-3
# Whatever the residuals say, measurements are not known better than this, nor so badly that they say nothing.
_LEAST_SCATTER, _MOST_SCATTER, _FIRST_SCATTER = 0.003, 1.0, 0.1
# The median of absolute normal deviates, inverted.
_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class Prior:
    """Latency as the sum of terms times non-negative prices in ms, (terms,).

    ``scatter`` is by how much measurements usually differ from it, as a share; ``root`` (terms, terms) is a square root
    of the prices' posterior covariance.
    """

    prices: Vector
    scatter: float
    root: Matrix

    def latency_ms(self, terms: Matrix) -> Vector:
        """Of terms (n, terms), (n,)."""
        return np.maximum(terms @ self.prices, 1e-9)

    def deviation(self, terms: Matrix, latency_ms: Vector) -> Vector:
        """Standard deviation of one more measurement around ``latency_ms``, as a share of it, (n,).

        It grows where terms are mixed as in no measurement so far.
        """
        projected = terms @ self.root
        unsure = np.einsum("ij,ij->i", projected, projected) / latency_ms**2
        deviation: Vector = np.sqrt(self.scatter**2 + unsure)
        return deviation


def fit_prior(
    terms: Matrix, latency_ms: Vector, errors: Vector | None, start: Vector, freedom: float = FREEDOM
) -> Prior:
    """Iteratively reweighted non-negative least squares on relative errors, with Huber's weights.

    ``errors`` are relative standard errors of the measurements, (n,). Prices are held, up to one common factor, near
    ``start`` (terms,), all positive: 15 measurements cannot tell as many prices apart. ``freedom`` 0 fits the common
    factor alone.
    """
    factor = float(np.exp(np.median(np.log(latency_ms / (terms @ start)))))
    unit = start * factor
    scaled = terms * unit
    count = terms.shape[1]
    if freedom == 0:
        residual = np.log(latency_ms / scaled.sum(1))
        scatter = _scatter(residual, _LEAST_SCATTER)
        return Prior(unit, scatter, np.outer(unit, np.eye(count)[0]) * scatter / np.sqrt(len(latency_ms)))
    variance = np.zeros(len(latency_ms)) if errors is None else errors**2
    # The last unknown is the common factor that all prices are held near.
    held = np.hstack([np.eye(count), -np.ones((count, 1))]) / freedom
    predicted, scatter = scaled.sum(1), _FIRST_SCATTER
    for _ in range(_ITERATIONS):
        deviation = np.sqrt(scatter**2 + variance)
        ratio = latency_ms / predicted
        distance = np.maximum(np.abs(np.log(ratio)), np.abs(ratio - 1))
        doubted = np.maximum(distance / (_HUBER * deviation), 1)
        weight = 1 / (predicted * deviation * np.sqrt(doubted))
        rows = np.hstack([scaled * weight[:, None], np.zeros((len(scaled), 1))])
        matrix = np.vstack([rows, held])
        relative = nnls(matrix, np.concatenate([latency_ms * weight, np.zeros(count)]))[0][:-1]
        before, predicted = predicted, np.maximum(scaled @ relative, 1e-9)
        scatter = _scatter(np.log(latency_ms / predicted), _LEAST_SCATTER)
        if np.abs(np.log(predicted / before)).max() < _CONVERGED:
            break
    # The common factor is known as well as the data know it: it is left out of what holds the prices.
    covariance = np.linalg.inv(rows[:, :-1].T @ rows[:, :-1] + np.eye(count) / freedom**2)
    # What the fit has learnt from the measurements themselves, they show less than new ones would.
    learnt = float(np.einsum("ij,jk,ik->", rows[:, :-1], covariance, rows[:, :-1]))
    scatter *= math.sqrt(len(terms) / max(len(terms) - learnt, 1))
    return Prior(unit * relative, scatter, unit[:, None] * np.linalg.cholesky(covariance))


def _scatter(residual: Vector, least: float) -> float:
    """Standard deviation as most residuals show it, whatever a few of them do."""
    return float(np.clip(_MAD_TO_DEVIATION * np.median(np.abs(residual)), least, _MOST_SCATTER))
