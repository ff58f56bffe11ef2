"""The latency predictor: an analytic prior, trees on its residual, and an upper bound with stated coverage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xgboost

from ortnas.bench.target import Target
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.arrays import Matrix, Vector
from ortnas.nas.failures import OrtnasError
from ortnas.predictors.features import TERMS, Machine, analytic_terms, tree_features
from ortnas.predictors.prior import Prior
from ortnas.predictors.quality import Quality
from ortnas.predictors.residual import Sizes, tree_output


class PredictorError(OrtnasError):
    """Measurements or a predictor folder that cannot be used."""


@dataclass(frozen=True)
class Model:
    """A prior, and ``share`` of what trees add to its logarithm."""

    prior: Prior
    booster: xgboost.Booster | None = None
    share: float = 0.0

    def predict(self, terms: Matrix, sizes: Sizes) -> tuple[Vector, Vector]:
        """``latency_ms`` and its standard deviation as a share of it, each (n,)."""
        latency_ms = self.prior.latency_ms(terms)
        if self.booster is not None and self.share and len(sizes):
            latency_ms = latency_ms * np.exp(self.share * tree_output(self.booster, sizes))
        return latency_ms, self.prior.deviation(terms, latency_ms)


@dataclass(frozen=True)
class Predictor:
    """Latency of the subnets of one space on one target.

    ``inputs`` names the measurements. A prediction raised by ``factor`` of its own
    standard deviations bounds the latency with probability ``level``.
    """

    space: SearchSpace
    target: Target
    precision: str
    inputs: str
    model: Model
    factor: float
    level: float
    quality: Quality

    @cached_property
    def machine(self) -> Machine:
        return Machine.of(self.target, self.precision)

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """``latency_ms`` and ``upper_ms``, each (n,), for genomes (n, genes)."""
        latency_ms, deviation = self._predict(genomes)
        return latency_ms, latency_ms * np.exp(self.factor * deviation)

    def for_space(self, space: SearchSpace) -> Predictor:
        """The same law for another space of the same supernet; what is vouched for is vouched for in the own space."""
        return replace(self, space=space)

    def uncertainty(self, genomes: Genomes) -> Vector:
        """Standard deviation of a measurement around the prediction, as a share of it, (n,)."""
        return self._predict(genomes)[1]

    def contributions(self, genomes: Genomes) -> dict[str, Vector]:
        """What each term, and at last the trees, add to the predictions, in ms, (n,) each."""
        population = self.space.expand(genomes)
        terms = analytic_terms(population, self.machine)
        latency_ms, _ = self.model.predict(terms, tree_features(population))
        parts = dict(zip(TERMS, (terms * self.model.prior.prices).T, strict=True))
        return parts | {"trees": latency_ms - self.model.prior.latency_ms(terms)}

    def _predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        population = self.space.expand(genomes)
        return self.model.predict(analytic_terms(population, self.machine), tree_features(population))
