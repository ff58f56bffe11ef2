"""How well embeddings keep the neighbourhoods of the teacher's, text by text."""

from __future__ import annotations

import numpy as np

from ortnas.export.vectors import unit_rows
from ortnas.nas.arrays import Array, Matrix, Vector

# Of cosines: a text's neighbours are those that are a few of it nearer than others.
_TEMPERATURE = 0.2


def neighbour_divergences(embeddings: Array, teacher: Array) -> Vector:
    """KL divergence, for each text, of its neighbours by these embeddings from its neighbours by the teacher's, [n].

    Embeddings [n, size], of any sizes. A text's neighbours are a distribution over the others, the softmax of its
    cosines with them over a temperature (Hinton & Roweis 2002, "Stochastic Neighbor Embedding").
    """
    ours, theirs = _log_neighbours(embeddings), _log_neighbours(teacher)
    return np.asarray((np.exp(theirs) * (theirs - ours)).sum(1))


def _log_neighbours(embeddings: Array) -> Matrix:
    """Logarithms of the distributions, float64 [n, n - 1]: each text's others, in their order."""
    unit = unit_rows(embeddings)
    cosines = (unit @ unit.T).astype(np.float64) / _TEMPERATURE
    n = len(cosines)
    others = cosines[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    others -= others.max(1, keepdims=True)
    return np.asarray(others - np.log(np.exp(others).sum(1, keepdims=True)))
