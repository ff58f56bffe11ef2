"""Ranks of figures, and Spearman's correlation of them, as SciPy has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ortnas.export.vectors import unit_rows
from ortnas.nas.arrays import Array, Vector


def rank_correlation(predicted: npt.NDArray[Any], gold: npt.NDArray[Any]) -> float:
    """Spearman's, of [n] with [n]; 0 where either are all equal."""
    if not (np.ptp(predicted) > 0 and np.ptp(gold) > 0):
        return 0.0
    # Above and below the diagonal the last digit may differ; SciPy takes the one below.
    return float(np.corrcoef(ranks(predicted), ranks(gold))[1, 0])


def similarity_ranks(embeddings: Array) -> Vector:
    """Ranks of the cosines of all pairs of rows [n, size], [n (n - 1) / 2]."""
    units = unit_rows(embeddings)
    return ranks((units @ units.T)[np.triu_indices(len(units), 1)])


def ranks(values: npt.NDArray[Any]) -> Vector:
    """Ranks from 1 on, [n]; equal values share their mean rank, and a NaN leaves no rank to any."""
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places.reshape(-1)]
