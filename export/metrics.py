"""Task metrics on model outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float32]
Metric = Callable[[Array, npt.NDArray[np.generic]], float]


def accuracy(logits: Array, labels: npt.NDArray[np.generic]) -> float:
    """Share of rows [n, labels] whose largest logit is the label [n]."""
    return float((logits.argmax(1) == labels).mean())


def mean_cosine(embeddings: Array, teacher: npt.NDArray[np.generic]) -> float:
    """Mean cosine of unit embeddings [n, size] with the teacher's."""
    return float((embeddings * np.asarray(teacher, np.float32)).sum(1).mean())


def similarity_spearman(embeddings: Array, teacher: npt.NDArray[np.generic]) -> float:
    """Spearman correlation of all pairwise similarities with the teacher's; unit embeddings [n, size]."""
    pairs = np.triu_indices(len(embeddings), 1)
    ours, theirs = (rankdata((matrix @ matrix.T)[pairs]) for matrix in (embeddings, np.asarray(teacher, np.float32)))
    return float(np.corrcoef(ours, theirs)[0, 1])


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "mean_cosine": mean_cosine,
    "similarity_spearman": similarity_spearman,
}
DEFAULT_METRIC = {"embedding": "similarity_spearman", "classification": "accuracy"}
