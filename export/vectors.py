"""Vectors side by side, one a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

F = TypeVar("F", np.float32, np.float64)
_TINY = 1e-12


def unit_rows(vectors: npt.NDArray[F]) -> npt.NDArray[F]:
    """Rows [n, size] scaled to length one, so that their inner products are cosines; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _TINY), vectors.dtype)


def stack_rows(outputs: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Outputs of texts as one array: [n, size], or [n, longest, size] of vectors of tokens, zeros behind a text's."""
    if outputs[0].ndim == 1:
        return np.stack(outputs)
    stacked = np.zeros((len(outputs), max(map(len, outputs)), outputs[0].shape[1]), np.float32)
    for row, vectors in zip(stacked, outputs, strict=True):
        row[: len(vectors)] = vectors
    return stacked
