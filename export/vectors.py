"""Vectors side by side, one a row."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

F = TypeVar("F", np.float32, np.float64)
_TINY = 1e-12


def unit_rows(vectors: npt.NDArray[F]) -> npt.NDArray[F]:
    """Rows [n, size] scaled to length one, so that their inner products are cosines; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _TINY), vectors.dtype)
