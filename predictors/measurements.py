"""Measurements that a predictor is fitted to: checked, one row per subnet, with the terms of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ortnas.bench.target import Target
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.arrays import Matrix, Vector
from ortnas.predictors.features import PRECISIONS, Machine, analytic_terms, tree_features
from ortnas.predictors.predictor import PredictorError
from ortnas.predictors.prior import fit_prior
from ortnas.predictors.residual import Sizes

# Measurements further off than this factor, and than so many deviations of the others, are no latencies.
_OUTLIER_FACTOR, _OUTLIER_DEVIATIONS = 2.0, 8.0
# Where more than this share is far off, it is the prior that does not fit.
_MOST_OUTLIERS = 0.2


@dataclass(frozen=True)
class Measurements:
    """Rows of genomes (n, genes), latencies (n,), their relative standard errors (n,) or None, terms and sizes.

    ``outliers`` rows were left out.
    """

    genomes: Genomes
    latency_ms: Vector
    errors: Vector | None
    terms: Matrix
    sizes: Sizes
    outliers: int = 0

    def __len__(self) -> int:
        return len(self.latency_ms)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Measurements:
        errors = None if self.errors is None else self.errors[chosen]
        return replace(
            self,
            genomes=self.genomes[chosen],
            latency_ms=self.latency_ms[chosen],
            errors=errors,
            terms=self.terms[chosen],
            sizes=self.sizes[chosen],
        )

    def without_outliers(self, start: Vector) -> Measurements:
        """Without what a fit of the prior from prices ``start`` calls impossible."""
        prior = fit_prior(self.terms, self.latency_ms, self.errors, start)
        distance = np.abs(np.log(self.latency_ms / prior.latency_ms(self.terms)))
        far = distance > max(np.log(_OUTLIER_FACTOR), _OUTLIER_DEVIATIONS * prior.scatter)
        if far.mean() > _MOST_OUTLIERS:
            return self
        return replace(self.rows(~far), outliers=int(far.sum()))


def read_measurements(
    space: SearchSpace,
    genomes: Genomes,
    latency_ms: Vector,
    errors: Vector | None,
    target: Target,
    precision: str,
    least: int,
) -> Measurements:
    """Combines repeated subnets and computes the terms. Raises PredictorError for unusable measurements."""
    genomes, latency_ms = np.asarray(genomes), np.asarray(latency_ms, np.float64)
    if genomes.shape != (len(latency_ms), space.genes) or (errors is not None and len(errors) != len(latency_ms)):
        raise PredictorError(
            f"{len(latency_ms)} latencies do not belong to genomes of shape {genomes.shape} in a space of "
            f"{space.genes} genes"
        )
    if precision not in PRECISIONS:
        raise PredictorError(f"precision {precision!r} is unknown; {' and '.join(PRECISIONS)} can be predicted")
    if len(latency_ms) and (genomes != space.repair(genomes)).any():
        raise PredictorError("some measured subnets are not in the search space; it has changed since, measure again")
    wrong = ~np.isfinite(latency_ms) | (latency_ms <= 0)
    if wrong.any():
        raise PredictorError(
            f"{wrong.sum()} of {len(latency_ms)} latencies are not positive numbers, the first {latency_ms[wrong][0]}"
        )
    if errors is not None:
        errors = _completed(np.asarray(errors, np.float64))
    genomes, latency_ms, errors = _combined(genomes.astype(np.int16), latency_ms, errors)
    if len(latency_ms) < least:
        raise PredictorError(
            f"{len(latency_ms)} measurements of different subnets; a predictor needs at least {least}. Run "
            f"`ortnas bench` with a larger bench.subnets"
        )
    if len(np.unique(latency_ms)) == 1:
        raise PredictorError("all measurements are equal; the timings cannot be real")
    try:
        machine = Machine.of(target, precision)
    except ValueError as error:
        raise PredictorError(f"the target cannot be used: {error}") from error
    population = space.expand(genomes)
    return Measurements(genomes, latency_ms, errors, analytic_terms(population, machine), tree_features(population))


def _completed(errors: Vector) -> Vector | None:
    """Errors that were not found out, of a single short visit, are taken to be as large as the largest others."""
    is_measured = np.isfinite(errors) & (errors >= 0)
    return np.where(is_measured, errors, errors[is_measured].max()) if is_measured.any() else None


def _combined(genomes: Genomes, latency_ms: Vector, errors: Vector | None) -> tuple[Genomes, Vector, Vector | None]:
    """One row per subnet: the mean of the logarithms, weighted by how well each is known.

    Measurements that disagree are known as badly as they disagree.
    """
    distinct, row = np.unique(genomes, axis=0, return_inverse=True)
    row = row.reshape(-1)
    if len(distinct) == len(genomes):
        return genomes, latency_ms, errors
    # Nobody knows a latency better than to a tenth of a percent.
    precision = np.ones(len(row)) if errors is None else 1 / np.maximum(errors, 1e-3) ** 2
    total = np.bincount(row, precision)
    logarithm = np.log(latency_ms)
    mean = np.bincount(row, precision * logarithm) / total
    count = np.bincount(row)
    deviation = np.bincount(row, (logarithm - mean[row]) ** 2) / np.maximum(count - 1, 1)
    disagreement = np.sqrt(deviation / count)
    combined = np.zeros(len(distinct)) if errors is None else np.sqrt(1 / total)
    return distinct, np.exp(mean), np.maximum(combined, disagreement)
