"""A predictor of one host or workload becomes one of another, from a few timings there."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from ortnas.bench.target import Target
from ortnas.nas.architecture.space import Genomes
from ortnas.nas.arrays import Vector
from ortnas.predictors.features import usual_prices
from ortnas.predictors.fitting import bounded, cross_validate
from ortnas.predictors.measurements import Measurements, read_measurements
from ortnas.predictors.predictor import Model, Predictor
from ortnas.predictors.prior import FREEDOM, Prior, fit_prior
from ortnas.predictors.quality import judge
from ortnas.predictors.residual import folds, tree_output

# One timing could only scale; fewer than these cannot tell whether that is enough.
MINIMUM_TIMINGS = 5
# How far prices may move from the source's, and how much of what its trees add is kept.
_FREEDOMS = (0.0, 0.1, 0.3, 1.0)
_SHARES = (0.0, 0.5, 1.0)
_MOST_FOLDS = 20


class _Candidate(NamedTuple):
    """Prices to start from, how far a fit may leave them, and the share of the source's trees."""

    start: Vector
    freedom: float
    share: float


def transfer(
    source: Predictor,
    genomes: Genomes,
    latency_ms: Vector,
    errors: Vector | None,
    target: Target,
    noise_floor: float | None = None,
    inputs: str = "",
    precision: str | None = None,
    level: float = 0.95,
) -> Predictor:
    """A predictor for ``target``, from genomes (n, genes) of the source's space and their latencies there (n,).

    The source's prices are scaled, or loosened as well, or the usual ones take their place; its trees are kept in
    whole, by half, or not. Leave-one-out says which, and cross-validation around that how good it is. Raises
    PredictorError as ``fit``, but is content with ``MINIMUM_TIMINGS``.
    """
    precision = precision or source.precision
    measured = read_measurements(source.space, genomes, latency_ms, errors, target, precision, MINIMUM_TIMINGS)
    candidates = _candidates(source, precision)
    measured = measured.without_outliers(candidates[0].start)

    def fit_rows(rows: Measurements) -> tuple[Model, float]:
        best = _choose(source, candidates, rows)
        return bounded(rows, lambda part: _fit(source, best, part), level)

    predicted_ms, upper_ms = cross_validate(measured, fit_rows)
    quality = judge(measured.latency_ms, predicted_ms, upper_ms, noise_floor, measured.outliers)
    model, factor = fit_rows(measured)
    return Predictor(source.space, target, precision, inputs, model, factor, level, quality)


def _candidates(source: Predictor, precision: str) -> list[_Candidate]:
    """The nearest to the source first."""
    usual = usual_prices(precision)
    # A price of zero could only stay zero; on another host it may be small instead.
    prices = source.model.prior.prices
    factor = np.median(prices[prices > 0] / usual[prices > 0])
    start = np.maximum(prices, 0.1 * factor * usual)
    shares = _SHARES[::-1] if source.model.booster is not None else (0.0,)
    kept = [_Candidate(start, freedom, share) for freedom, share in product(_FREEDOMS, shares)]
    return [*kept, _Candidate(usual, FREEDOM, 0.0)]


def _choose(source: Predictor, candidates: list[_Candidate], measured: Measurements) -> _Candidate:
    """That whose predictions err least on timings left out, one at a time while they are few."""
    trees = tree_output(source.model.booster, measured.sizes)
    errors = np.zeros(len(candidates))
    for kept, held in folds(len(measured), _MOST_FOLDS):
        rows, left_out = measured.rows(kept), measured.rows(held)
        for number, candidate in enumerate(candidates):
            kept_share = candidate.share * source.model.share
            predicted_ms = _fit_prior(candidate, rows, kept_share * trees[kept]).latency_ms(left_out.terms)
            predicted_ms = predicted_ms * np.exp(kept_share * trees[held])
            errors[number] += np.abs(np.log(left_out.latency_ms / predicted_ms)).sum()
    return candidates[int(np.argmin(errors))]


def _fit(source: Predictor, candidate: _Candidate, measured: Measurements) -> Model:
    share = candidate.share * source.model.share
    booster = source.model.booster if share else None
    return Model(_fit_prior(candidate, measured, share * tree_output(booster, measured.sizes)), booster, share)


def _fit_prior(candidate: _Candidate, measured: Measurements, trees: Vector) -> Prior:
    """The prior explains what the trees, (n,), do not add to the logarithm."""
    latency_ms = measured.latency_ms * np.exp(-trees)
    return fit_prior(measured.terms, latency_ms, measured.errors, candidate.start, candidate.freedom)
