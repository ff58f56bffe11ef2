from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from ortnas.export.metrics import METRICS, all_scores, mrr_at_10, ndcg_at_10, recall_at_1, spearman
from ortnas.export.part import Part
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import EncodedExamples

QUERIES, DOCUMENTS = 40, 60


def unit_rows(n: int, width: int = 8, seed: int = 0) -> list[np.ndarray]:
    rows = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return list(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def part_of(judgements: Judgements, texts: int) -> Part:
    return Part(EncodedExamples([[1]] * texts, [[0]] * texts), judgements=judgements)


def graded(seed: int = 1) -> tuple[Judgements, np.ndarray]:
    """Queries before documents, each with one to fifteen relevant ones of grades 1 to 3; and the grades as a table."""
    rng = np.random.default_rng(seed)
    table = np.zeros((QUERIES, DOCUMENTS))
    for query in range(QUERIES):
        relevant = rng.choice(DOCUMENTS, rng.integers(1, 16), replace=False)
        table[query, relevant] = rng.integers(1, 4, len(relevant))
    queries, documents = (places.tolist() for places in np.nonzero(table))
    second = [QUERIES + document for document in documents]
    grades = table[table > 0].tolist()
    everything = tuple(range(QUERIES, QUERIES + DOCUMENTS))
    return Judgements(tuple(queries), tuple(second), tuple(grades), everything), table


def test_gains_are_scikit_learns_and_first_ranks_are_counted_by_hand() -> None:
    judgements, table = graded()
    outputs = unit_rows(QUERIES + DOCUMENTS)
    cosines = np.stack(outputs[:QUERIES]) @ np.stack(outputs[QUERIES:]).T
    part = part_of(judgements, len(outputs))
    assert ndcg_at_10(outputs, part) == pytest.approx(ndcg_score(table, cosines, k=10), abs=1e-6)
    recalls, reciprocals = [], []
    for row, grades in zip(cosines, table, strict=True):
        order = sorted(range(DOCUMENTS), key=lambda document: -row[document])
        ranks = [rank for rank, document in enumerate(order, start=1) if grades[document] > 0]
        recalls.append((ranks[0] == 1) / len(ranks))
        reciprocals.append(1 / ranks[0] if ranks[0] <= 10 else 0)
    assert 0 < recall_at_1(outputs, part) == pytest.approx(np.mean(recalls))
    assert mrr_at_10(outputs, part) == pytest.approx(np.mean(reciprocals))


def test_each_query_finds_its_own_document_where_embeddings_say_so() -> None:
    numbers = tuple(range(30))
    documents = tuple(number + 30 for number in numbers)
    judgements = Judgements(numbers, documents, (1.0,) * 30, documents)
    nearest = unit_rows(30, 64)
    part = part_of(judgements, 60)
    scores = all_scores("embedding", [*nearest, *nearest], part)
    assert scores == {"recall_at_1": 1.0, "mrr_at_10": 1.0, "ndcg_at_10": pytest.approx(1.0)}
    shifted = [*nearest, nearest[-1], *nearest[:-1]]
    assert recall_at_1(shifted, part) == 0


def test_embeddings_that_are_all_alike_find_one_document_only() -> None:
    numbers = tuple(range(30))
    documents = tuple(number + 30 for number in numbers)
    judgements = Judgements(numbers, documents, (1.0,) * 30, documents)
    collapsed = [np.array([1.0, 0.0], np.float32)] * 60
    assert recall_at_1(collapsed, part_of(judgements, 60)) == 1 / 30
    assert all_scores("embedding", collapsed, part_of(Judgements(numbers, documents, numbers), 60)) == {"spearman": 0.0}


def test_a_query_that_is_a_document_too_does_not_find_itself() -> None:
    outputs = [np.array(row, np.float32) for row in ([1, 0], [0.8, 0.6], [0, 1])]
    judgements = Judgements((0, 2), (1, 1), (1.0, 1.0), (0, 1, 2))
    assert recall_at_1(outputs, part_of(judgements, 3)) == 1


def test_fewer_than_ten_documents_are_ranked_all_the_same() -> None:
    judgements = Judgements((0, 0), (1, 3), (2.0, 1.0), (1, 2, 3))
    outputs = [np.array(row, np.float32) for row in ([1, 0], [0.6, 0.8], [0.8, 0.6], [0, 1])]
    part = part_of(judgements, 4)
    assert mrr_at_10(outputs, part) == 0.5
    assert ndcg_at_10(outputs, part) == pytest.approx((2 / np.log2(3) + 1 / 2) / (2 + 1 / np.log2(3)))


def test_texts_of_several_vectors_are_ranked_by_the_largest_products_of_a_querys() -> None:
    judgements, table = graded()
    rng = np.random.default_rng(3)
    outputs = [np.stack(unit_rows(int(rng.integers(1, 9)), seed=row)) for row in range(QUERIES + DOCUMENTS)]
    # Of this document no token counts.
    outputs[QUERIES + 7] = outputs[QUERIES + 7][:0]
    maxsims = np.array(
        [
            [sum(max((float(a @ b) for b in document), default=-1.0) for a in query) for document in outputs[QUERIES:]]
            for query in outputs[:QUERIES]
        ]
    )
    part = part_of(judgements, len(outputs))
    assert ndcg_at_10(outputs, part) == pytest.approx(ndcg_score(table, maxsims, k=10), abs=1e-6)
    order = np.argsort(-maxsims, axis=1)
    relevant = np.take_along_axis(table, order, axis=1) > 0
    ranks = relevant.argmax(1) + 1
    assert mrr_at_10(outputs, part) == pytest.approx(np.where(ranks <= 10, 1 / ranks, 0).mean())
    assert list(all_scores("late-interaction", outputs, part)) == ["recall_at_1", "mrr_at_10", "ndcg_at_10"]


def test_scored_pairs_are_judged_by_scipys_rank_correlation_of_cosines() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 30, 50), rng.integers(30, 60, 50)
    scores = rng.integers(0, 6, 50).astype(float)
    outputs = unit_rows(60)
    cosines = [float(outputs[a] @ outputs[b]) for a, b in zip(first, second, strict=True)]
    judgements = Judgements(tuple(first.tolist()), tuple(second.tolist()), tuple(scores.tolist()))
    part = part_of(judgements, 60)
    assert spearman(outputs, part) == pytest.approx(spearmanr(cosines, scores).statistic, abs=1e-6)
    assert all_scores("embedding", outputs, part) == {"spearman": spearman(outputs, part)}
    assert part.size == judgements.size == 50
    assert replace(part, judgements=None).size == 60


def test_judgements_are_written_and_read_and_say_what_they_are() -> None:
    judgements, _ = graded()
    assert Judgements.from_json(judgements.to_json()) == judgements
    assert str(judgements) == "40 queries among 60 documents"
    assert str(replace(judgements, documents=())) == f"{len(judgements.first)} scored pairs"
    assert {"recall_at_1", "mrr_at_10", "ndcg_at_10"} < set(METRICS)
