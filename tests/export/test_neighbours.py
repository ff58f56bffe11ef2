from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from ortnas.export.metrics import METRICS
from ortnas.export.neighbours import neighbour_divergences
from ortnas.export.part import Part
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import EncodedExamples


def unit(rows: int, size: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_divergences_are_those_of_scipy() -> None:
    ours, theirs = unit(9, 5, 0), unit(9, 7, 1)
    expected = []
    for text in range(9):
        others = [other for other in range(9) if other != text]
        p, q = (softmax(vectors[others] @ vectors[text] / 0.2) for vectors in (theirs, ours))
        expected.append(entropy(p, q))
    assert neighbour_divergences(ours, theirs) == pytest.approx(expected, rel=1e-4)


def test_the_teacher_itself_and_any_turn_of_it_is_perfect() -> None:
    teacher = unit(20, 6, 2)
    turned = teacher @ np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))[0].astype(np.float32)
    part = Part(EncodedExamples([[1]] * 20, [[0]] * 20), teacher=teacher)
    assert METRICS["neighbour_likelihood"](list(teacher), part) == 0
    assert METRICS["neighbour_likelihood"](list(turned), part) == pytest.approx(0, abs=1e-5)
    assert METRICS["neighbour_likelihood"](list(unit(20, 6, 4)), part) < -0.1


def test_lengths_of_vectors_do_not_count() -> None:
    ours, teacher, lengths = unit(20, 6, 5), unit(20, 6, 2), np.random.default_rng(6).uniform(0.1, 9, (20, 1))
    encoded = EncodedExamples([[1]] * 20, [[0]] * 20)
    long = (lengths * ours).astype(np.float32), (lengths[::-1] * teacher).astype(np.float32)
    judgements = Judgements(tuple(range(10)), tuple(range(10, 20)), tuple(np.linspace(0, 1, 10)))
    ranked = Judgements((0, 0, 1, 2), (9, 8, 7, 6), (2.0, 1.0, 1.0, 3.0), tuple(range(3, 20)))
    of_pairs = {"spearman": judgements, "ndcg_at_10": ranked, "mrr_at_10": ranked}
    for metric in ("neighbour_likelihood", "mean_cosine", "similarity_spearman", *of_pairs):
        judged = of_pairs.get(metric)
        expected = METRICS[metric](list(ours), Part(encoded, teacher=teacher, judgements=judged))
        score = METRICS[metric](list(long[0]), Part(encoded, teacher=long[1], judgements=judged))
        assert score == pytest.approx(expected, abs=1e-5), metric
