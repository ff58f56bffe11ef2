"""How well scores of passages rank them for their queries, query by query, by the definitions of trec_eval.

Labels are [n, 2]: the number of the query and the passage's grade. In numpy alone, as export/metrics.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ortnas.nas.arrays import Array, Vector

Labels = npt.NDArray[Any]
_DEPTH = 10
# In place of nothing, where no passage is relevant.
_LEAST = 1e-12


def query_rows(labels: Labels) -> list[npt.NDArray[np.int64]]:
    """The rows of each query, in the order of the queries' first ones."""
    _, first, numbers = np.unique(labels[:, 0], return_index=True, return_inverse=True)
    order = np.argsort(numbers.reshape(-1), kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(numbers.reshape(-1)))[:-1])
    return [groups[place] for place in np.argsort(first)]


def reciprocal_ranks(outputs: Sequence[Array], labels: Labels) -> Vector:
    """One over the rank of each query's first relevant passage, [queries]; 0 where none is among the first ten."""
    return np.array([_reciprocal_rank(ranked > 0) for ranked, _ in _ranked(outputs, labels)])


def gains(outputs: Sequence[Array], labels: Labels) -> Vector:
    """Discounted gain of each query's first ten passages over the best that its passages allow, [queries].

    The gain is the grade itself (Järvelin & Kekäläinen 2002), as in trec_eval's ``ndcg_cut_10``.
    """
    discounts = 1 / np.log2(np.arange(_DEPTH) + 2)
    return np.array(
        [
            ranked[:_DEPTH] @ discounts[: len(ranked)] / max(float(best[:_DEPTH] @ discounts[: len(best)]), _LEAST)
            for ranked, best in _ranked(outputs, labels)
        ]
    )


def log_likelihoods(outputs: Sequence[Array], labels: Labels) -> Vector:
    """Logarithm of the probability that the relevant passages get under a softmax over their query's, weighted by
    grade, [queries]: minus the list-wise cross entropy (Cao et al. 2007, "ListNet")."""
    scores, values = _scores(outputs), []
    for rows in query_rows(labels):
        own, grades = scores[rows], np.maximum(labels[rows, 1].astype(np.float64), 0)
        shifted = own - own.max()
        normalised = shifted - np.log(np.exp(shifted).sum())
        values.append(float(grades @ normalised / max(float(grades.sum()), _LEAST)))
    return np.array(values)


# What each query adds to a metric that is a mean over queries.
QUERY_VALUES: dict[str, Callable[[Sequence[Array], Labels], Vector]] = {
    "mrr_at_10": reciprocal_ranks,
    "ndcg_at_10": gains,
    "list_log_likelihood": log_likelihoods,
}


def _scores(outputs: Sequence[Array]) -> Vector:
    return np.stack(outputs)[:, 0].astype(np.float64)


def _ranked(outputs: Sequence[Array], labels: Labels) -> Iterator[tuple[Vector, Vector]]:
    """Of each query the grades in the order of the scores, and in the best order.

    Of equal scores the less relevant comes first: a network that tells nothing apart ranks nothing well.
    """
    scores, grades = _scores(outputs), labels[:, 1].astype(np.float64)
    for rows in query_rows(labels):
        own = grades[rows]
        yield own[np.lexsort((own, -scores[rows]))], np.sort(own)[::-1]


def _reciprocal_rank(is_relevant: npt.NDArray[np.bool_]) -> float:
    hits = np.flatnonzero(is_relevant[:_DEPTH])
    return 1 / (int(hits[0]) + 1) if len(hits) else 0.0
