"""Fitting a latency predictor to measurements; it judges itself by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ortnas.bench.target import Target
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.arrays import Vector
from ortnas.predictors.features import usual_prices
from ortnas.predictors.folder import find_predictor, load_predictor, predictor_folder, save_predictor
from ortnas.predictors.measurements import Measurements, read_measurements
from ortnas.predictors.predictor import Model, Predictor, PredictorError
from ortnas.predictors.prior import fit_prior
from ortnas.predictors.quality import Quality, bound_factor, judge, window_kendall
from ortnas.predictors.residual import choose_rounds, fit_trees, folds

__all__ = [
    "MINIMUM_MEASUREMENTS",
    "Predictor",
    "PredictorError",
    "Quality",
    "find_predictor",
    "fit_predictor",
    "held_out_predictions",
    "learning_curve",
    "load_predictor",
    "predictor_folder",
    "save_predictor",
    "window_kendall",
]

MINIMUM_MEASUREMENTS = 10
_FOLDS = 5
# With few measurements a fifth of them is too much to do without.
_FOLDS_OF_FEW, _FEW = 10, 60

# From measurements to a model and the factor of its bound (``bound_factor``).
Fitter = Callable[[Measurements], tuple[Model, float]]


def fit_predictor(
    space: SearchSpace,
    genomes: Genomes,
    latency_ms: Vector,
    errors: Vector | None,
    target: Target,
    precision: str,
    noise_floor: float | None = None,
    inputs: str = "",
    level: float = 0.95,
) -> Predictor:
    """Fits on genomes (n, genes), their measured latencies (n,) and their relative standard errors (n,).

    ``noise_floor`` is what repeating a timing changes it by as a share, ``inputs`` a name for the timings, by which a
    stage knows them again, ``level`` the share under the bound.
    Subnets may be repeated; measurements that cannot be real are left out and counted. Raises PredictorError for too
    few or implausible measurements.
    """
    measured = read_measurements(space, genomes, latency_ms, errors, target, precision, MINIMUM_MEASUREMENTS)
    start = usual_prices(precision)
    measured = measured.without_outliers(start)

    def fit_rows(rows: Measurements) -> tuple[Model, float]:
        return fit_bounded(rows, start, level)

    predicted_ms, upper_ms = cross_validate(measured, fit_rows)
    quality = judge(measured.latency_ms, predicted_ms, upper_ms, noise_floor, measured.outliers)
    model, factor = fit_rows(measured)
    return Predictor(space, target, precision, inputs, model, factor, level, quality)


def fit_bounded(measured: Measurements, start: Vector, level: float) -> tuple[Model, float]:
    """The prior from prices ``start`` with as many trees as help, and the factor of its bound."""
    rounds = _rounds(measured, start)
    return bounded(measured, lambda rows: fit_model(rows, start, rounds), level)


def _rounds(measured: Measurements, start: Vector) -> int:
    return choose_rounds(measured.terms, measured.sizes, measured.latency_ms, measured.errors, start)


def fit_model(measured: Measurements, start: Vector, rounds: int) -> Model:
    prior = fit_prior(measured.terms, measured.latency_ms, measured.errors, start)
    if not rounds:
        return Model(prior)
    residual = np.log(measured.latency_ms / prior.latency_ms(measured.terms))
    return Model(prior, fit_trees(measured.sizes, residual, prior.scatter, measured.errors, rounds), 1.0)


def bounded(measured: Measurements, fit_rows: Callable[[Measurements], Model], level: float) -> tuple[Model, float]:
    """The model of all measurements, and the factor by which models of most of them bound the others."""
    scores = np.empty(len(measured))
    for kept, held in folds(len(measured), _FOLDS_OF_FEW):
        left_out = measured.rows(held)
        predicted_ms, deviation = fit_rows(measured.rows(kept)).predict(left_out.terms, left_out.sizes)
        scores[held] = np.log(left_out.latency_ms / predicted_ms) / deviation
    return fit_rows(measured), bound_factor(scores, level)


def cross_validate(measured: Measurements, fit_rows: Fitter) -> tuple[Vector, Vector]:
    """Predictions and bounds (n,) for measurements, by models and factors that know nothing of them."""
    predicted_ms, upper_ms = np.empty(len(measured)), np.empty(len(measured))
    for kept, held in folds(len(measured), _FOLDS_OF_FEW if len(measured) < _FEW else _FOLDS):
        left_out = measured.rows(held)
        model, factor = fit_rows(measured.rows(kept))
        predicted_ms[held], deviation = model.predict(left_out.terms, left_out.sizes)
        upper_ms[held] = predicted_ms[held] * np.exp(factor * deviation)
    return predicted_ms, upper_ms


def held_out_predictions(
    predictor: Predictor, genomes: Genomes, latency_ms: Vector, errors: Vector | None
) -> tuple[Genomes, Vector, Vector]:
    """For plots: genomes (n, genes) that a predictor is fitted to, their latencies, and held-out predictions (n,)."""
    measured, start = _again(predictor, genomes, latency_ms, errors)
    predicted_ms, _ = cross_validate(measured, lambda rows: fit_bounded(rows, start, predictor.level))
    return measured.genomes, measured.latency_ms, predicted_ms


def learning_curve(
    predictor: Predictor,
    genomes: Genomes,
    latency_ms: Vector,
    errors: Vector | None,
    sizes: Sequence[int],
    repeats: int = 5,
) -> dict[int, float]:
    """For plots: mean error on measurements left over, by how many were fitted to; sizes that leave none are out."""
    measured, start = _again(predictor, genomes, latency_ms, errors)
    curve: dict[int, float] = {}
    for size in sizes:
        if not MINIMUM_MEASUREMENTS <= size < len(measured):
            continue
        mean_errors = []
        for repeat in range(repeats):
            kept = np.random.default_rng(repeat).permutation(len(measured)) < size
            rows, left_out = measured.rows(kept), measured.rows(~kept)
            model = fit_model(rows, start, _rounds(rows, start))
            predicted_ms, _ = model.predict(left_out.terms, left_out.sizes)
            mean_errors.append(np.abs(predicted_ms / left_out.latency_ms - 1).mean())
        curve[size] = float(np.mean(mean_errors))
    return curve


def _again(
    predictor: Predictor, genomes: Genomes, latency_ms: Vector, errors: Vector | None
) -> tuple[Measurements, Vector]:
    """The measurements as a fit takes them, and the prices that it starts from."""
    target, precision = predictor.target, predictor.precision
    measured = read_measurements(predictor.space, genomes, latency_ms, errors, target, precision, MINIMUM_MEASUREMENTS)
    start = usual_prices(precision)
    return measured.without_outliers(start), start
