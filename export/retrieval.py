"""What is measured of vectors on judged pairs: cosines of the pairs, and how well queries find their documents.

A text has one vector, [size], or one for each of its tokens, [tokens, size]. By the definitions of trec_eval, query by
query; in numpy alone, as export/metrics.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ortnas.export.vectors import unit_rows
from ortnas.nas.arrays import Array, Matrix, Rows, Vector
from ortnas.nas.judgements import Judgements

_DEPTH = 10
_QUERIES_AT_ONCE = 256


def pair_cosines(outputs: Sequence[Array], judgements: Judgements) -> Vector:
    """Cosine of the two texts of each pair, [pairs]; the outputs are embeddings, one for each text."""
    embeddings = unit_rows(np.stack(outputs).astype(np.float64))
    return np.asarray((embeddings[list(judgements.first)] * embeddings[list(judgements.second)]).sum(1))


def recalls_at_1(outputs: Sequence[Array], judgements: Judgements) -> Vector:
    """Share of each query's relevant documents that rank first, [queries]: 1 over their number where one does."""
    relevant = np.array([len(grades) for grades in _relevant(judgements).values()])
    return np.asarray((_top_grades(outputs, judgements)[:, 0] > 0) / relevant)


def reciprocal_ranks_at_10(outputs: Sequence[Array], judgements: Judgements) -> Vector:
    """One over the rank of each query's first relevant document, [queries]; 0 where none is among the first ten."""
    is_relevant = _top_grades(outputs, judgements) > 0
    return np.asarray(is_relevant.any(1) / (is_relevant.argmax(1) + 1))


def gains_at_10(outputs: Sequence[Array], judgements: Judgements) -> Vector:
    """Discounted gain of each query's first ten documents over the best that there is, [queries].

    The gain is the grade itself, discounted by the logarithm of the rank (Järvelin & Kekäläinen 2002), as in
    trec_eval's ``ndcg_cut_10`` and BEIR.
    """
    best = np.zeros((judgements.size, _DEPTH))
    for number, grades in enumerate(_relevant(judgements).values()):
        top = sorted(grades.values(), reverse=True)[:_DEPTH]
        best[number, : len(top)] = top
    discounts = 1 / np.log2(np.arange(_DEPTH) + 2)
    return np.asarray(_top_grades(outputs, judgements) @ discounts / (best @ discounts))


# What each query adds to a metric that is a mean over queries.
QUERY_VALUES: dict[str, Callable[[Sequence[Array], Judgements], Vector]] = {
    "recall_at_1": recalls_at_1,
    "mrr_at_10": reciprocal_ranks_at_10,
    "ndcg_at_10": gains_at_10,
}


def _relevant(judgements: Judgements) -> dict[int, dict[int, float]]:
    """By query the grades of its relevant documents, both by their rows."""
    grades: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for query, document, grade in zip(judgements.first, judgements.second, judgements.grades, strict=True):
        grades[query][document] = grade
    return grades


def _top_grades(outputs: Sequence[Array], judgements: Judgements) -> Matrix:
    """Grades of the ten documents nearest to each query, the nearest first, [queries, 10]; 0 where one is not relevant.

    A query that is a document too does not find itself.
    """
    queries, documents = np.array(judgements.queries), np.array(judgements.documents)
    nearness = _maxsims(outputs, documents) if outputs[0].ndim == 2 else _cosines(outputs, documents)
    relevant, top = _relevant(judgements), np.zeros((len(queries), _DEPTH))
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = queries[start : start + _QUERIES_AT_ONCE]
        values = nearness(rows)
        values[documents[None] == rows[:, None]] = -np.inf
        nearest = documents[np.argsort(-values, axis=1, kind="stable")[:, :_DEPTH]]
        for number, (query, ranked) in enumerate(zip(rows.tolist(), nearest.tolist(), strict=True), start=start):
            top[number, : len(ranked)] = [relevant[query].get(document, 0.0) for document in ranked]
    return top


def _cosines(outputs: Sequence[Array], documents: Rows) -> Callable[[Rows], Matrix]:
    """Of queries, by their rows, with the documents, [queries, documents]."""
    embeddings = unit_rows(np.stack(outputs))
    return lambda queries: np.asarray(embeddings[queries] @ embeddings[documents].T)


def _maxsims(outputs: Sequence[Array], documents: Rows) -> Callable[[Rows], Matrix]:
    """The same of MaxSim: the sum over a query's tokens of the largest inner product with a token of the document
    (Khattab & Zaharia 2020, "ColBERT"). A document of which no token counts is as far as can be."""
    lengths = np.array([len(outputs[row]) for row in documents])
    filled = np.flatnonzero(lengths)
    tokens = np.concatenate([outputs[documents[place]] for place in filled])
    starts = np.cumsum(lengths[filled]) - lengths[filled]

    def of_query(query: int) -> Vector:
        values = np.full(len(documents), -float(len(outputs[query])))
        values[filled] = np.maximum.reduceat(outputs[query] @ tokens.T, starts, axis=1).sum(0)
        return values

    return lambda queries: np.stack([of_query(query) for query in queries])
