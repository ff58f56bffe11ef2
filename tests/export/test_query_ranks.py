from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from ortnas.export import query_ranks
from ortnas.export.metrics import all_scores, list_log_likelihood, mrr_at_10, ndcg_at_10
from ortnas.export.part import Part
from ortnas.nas.text import EncodedExamples, Example
from ortnas.search.intervals import sample_scores


def make_part(queries: int = 12, passages: int = 15, seed: int = 0) -> tuple[list[np.ndarray], Part, np.ndarray]:
    """Scores, the part with rows in any order, and grades [queries, passages]."""
    rng = np.random.default_rng(seed)
    grades = rng.integers(0, 4, (queries, passages)) * (rng.random((queries, passages)) < 0.3)
    grades[:, 0] = 1
    places = rng.permutation(queries * passages)
    rows = [(int(place) // passages, float(grades.ravel()[place])) for place in places]
    examples = [Example(f"query {query}", "a passage", grade, group=query) for query, grade in rows]
    labels = [(float(query), grade) for query, grade in rows]
    scores = rng.standard_normal((queries, passages)).astype(np.float32)
    outputs = [scores.ravel()[place : place + 1] for place in places]
    return (
        outputs,
        Part(EncodedExamples([[1]] * len(rows), [[0]] * len(rows), labels), examples),
        np.stack([grades, scores]),
    )


def test_gains_are_scikit_learns_and_ranks_are_counted() -> None:
    outputs, part, (grades, scores) = make_part()
    assert ndcg_at_10(outputs, part) == pytest.approx(ndcg_score(grades, scores, k=10))
    ranked = np.take_along_axis(grades, np.argsort(-scores, axis=1), 1)[:, :10] > 0
    expected = [1 / (1 + int(row.argmax())) if row.any() else 0 for row in ranked]
    assert mrr_at_10(outputs, part) == pytest.approx(np.mean(expected))
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    likelihood = (grades * np.log(probabilities)).sum(1) / grades.sum(1)
    assert list_log_likelihood(outputs, part) == pytest.approx(likelihood.mean(), rel=1e-5)
    assert part.size == 12
    assert set(all_scores("reranking", outputs, part)) == {"ndcg_at_10", "mrr_at_10", "list_log_likelihood"}


@pytest.mark.parametrize("passages", [2, 3, 10, 11])
def test_lists_of_any_length_are_scored(passages: int) -> None:
    outputs, part, (grades, scores) = make_part(passages=passages)
    assert ndcg_at_10(outputs, part) == pytest.approx(ndcg_score(grades, scores, k=10))


def test_equal_scores_rank_nothing_well() -> None:
    labels = np.array([(0.0, 1.0), *((0.0, 0.0) for _ in range(9))])
    assert query_ranks.reciprocal_ranks([np.zeros(1, np.float32)] * 10, labels).tolist() == [0.1]
    assert query_ranks.gains([np.zeros(1, np.float32)] * 10, labels) == pytest.approx(1 / np.log2(11))


def test_queries_keep_their_order() -> None:
    labels = np.array([(9.0, 0), (2.0, 1), (9.0, 1), (2.0, 0)])
    assert [rows.tolist() for rows in query_ranks.query_rows(labels)] == [[0, 2], [1, 3]]


def test_intervals_are_over_queries() -> None:
    outputs, part, _ = make_part(queries=40)
    other = make_part(queries=40, seed=1)[0]
    sampled = sample_scores("ndcg_at_10", {"ours": outputs, "other": other}, part)
    values = query_ranks.gains(outputs, part.labels)
    assert sampled.whole["ours"] == pytest.approx(values.mean())
    interval = sampled.score("ours")
    half = 1.96 * values.std() / np.sqrt(40)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)
