from __future__ import annotations

import math

import numpy as np
import pytest

from ortnas.export.part import Part
from ortnas.nas.text import EncodedExamples
from ortnas.search.resolution import PartResolution, ScoreResolution, half_width


def answers(labels: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """Logits of two classes that give the label where it is to be right."""
    return list(np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)])


@pytest.mark.parametrize("texts", [200, 872])
def test_half_widths_are_those_of_the_binomial_formula(texts: int) -> None:
    """Of paired answers of which b are right in one model only and c in the other: 1.96 sqrt(b + c - (b - c)² / n) / n
    (Agresti 2013, "Categorical Data Analysis", section 11.1)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, texts)
    first, second = rng.random(texts) < 0.9, rng.random(texts) < 0.85
    part = Part(EncodedExamples([[1]] * texts, [[0]] * texts, labels.tolist()), (), ("a", "b"), None)
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    disagreeing = only_first + only_second - (only_first - only_second) ** 2 / texts
    expected = 1.96 * math.sqrt(disagreeing) / texts
    assert half_width("accuracy", answers(labels, first), answers(labels, second), part) == pytest.approx(
        expected, rel=0.1
    )


def test_models_that_answer_alike_leave_one_text_in_doubt() -> None:
    labels = np.zeros(50, int)
    part = Part(EncodedExamples([[1]] * 50, [[0]] * 50, labels.tolist()), (), ("a", "b"), None)
    same = answers(labels, np.ones(50, bool))
    assert half_width("accuracy", same, same, part) == 0.02


def test_the_sentence_names_both_parts() -> None:
    resolution = ScoreResolution(
        PartResolution("log_likelihood", 256, 0.01234), PartResolution("accuracy", 872, 0.0071)
    )
    sentence = resolution.sentence
    assert sentence.startswith(
        "differences of log likelihood below 0.012 may be chance on the search part's 256 texts, "
    )
    assert "of accuracy below 0.0071 on the report part's 872" in sentence
    assert ScoreResolution.from_json(resolution.to_json()) == resolution
