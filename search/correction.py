"""A predictor near a budget, set right by timings of subnets that the search chose there.

A search prefers what is predicted too low, and what it chooses is alike: such subnets err in common, by a few percent,
and differ from one another by less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from ortnas.nas.architecture.space import Genomes
from ortnas.nas.arrays import Vector
from ortnas.search.constraints import LatencyBound

# Fewer timings tell an error in common from their own scatter badly.
_LEAST = 3
# The rest of the search will choose subnets that are a little different: so much of the predictor's own margin is kept.
_KEPT_MARGIN = 0.5


@dataclass(frozen=True)
class Correction:
    """``shift``: what subnets near a budget take beyond their prediction, the mean of ``timings`` of them; ``margin``:
    how far above that a latency may lie with the predictor's probability. Both are of the logarithm."""

    shift: float
    margin: float
    timings: int

    @property
    def sentence(self) -> str:
        direction = "more" if self.shift >= 0 else "less"
        return (
            f"{self.timings} subnets that the search chose take {abs(math.expm1(self.shift)):.1%} {direction} than "
            f"predicted; from here on predictions are corrected by that, and the bound lies "
            f"{math.expm1(self.margin):.1%} above them"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Correction:
        return cls(float(document["shift"]), float(document["margin"]), int(document["timings"]))


@dataclass(frozen=True)
class CorrectedPredictor:
    """Predictions of ``predictor`` with the correction; good for subnets near the budget that it was found at."""

    predictor: LatencyBound
    correction: Correction

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """``latency_ms`` and ``upper_ms`` (n,) of genomes (n, genes)."""
        latency_ms, _ = self.predictor.predict(genomes)
        latency_ms = latency_ms * math.exp(self.correction.shift)
        return latency_ms, latency_ms * math.exp(self.correction.margin)


def find_correction(
    predicted_ms: Vector, upper_ms: Vector, measured_ms: Vector, level: float = 0.95
) -> Correction | None:
    """Of predictions, their bounds and what was measured, (n,) each; None of fewer than three.

    The margin is that of one more timing of the same kind (a one-sided prediction interval of a normal distribution),
    and at least half of the predictor's own.
    """
    n = len(measured_ms)
    if n < _LEAST:
        return None
    errors = np.log(measured_ms / predicted_ms)
    scatter = float(errors.std(ddof=1)) * math.sqrt(1 + 1 / n)
    own_margin = float(np.log(upper_ms / predicted_ms).mean())
    return Correction(float(errors.mean()), max(float(t.ppf(level, n - 1)) * scatter, _KEPT_MARGIN * own_margin), n)
