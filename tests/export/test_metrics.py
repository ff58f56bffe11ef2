from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef

from ortnas.export.answers import answer_texts, exact_match, span_f1
from ortnas.export.metrics import (
    accuracy,
    all_scores,
    entity_f1,
    f1,
    log_likelihood,
    masked_accuracy,
    masked_log_likelihood,
    matthews,
    mean_cosine,
    pearson,
    pearson_spearman,
    similarity_spearman,
    spearman,
    token_accuracy,
)
from ortnas.export.part import Part
from ortnas.nas.text import IGNORED, EncodedExamples, Example, Window


def rows(n: int, width: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32))


def labelled(labels: list, names: tuple[str, ...] = ()) -> Part:
    return Part(EncodedExamples([[1]] * len(labels), [[0]] * len(labels), labels), (), names)


@pytest.mark.parametrize("names", [("no", "yes"), ("a", "b", "c")])
def test_classification_metrics_are_scikit_learns(names: tuple[str, ...]) -> None:
    outputs = rows(60, len(names))
    labels = np.random.default_rng(1).integers(0, len(names), 60).tolist()
    part, predicted = labelled(labels, names), np.stack(outputs).argmax(1)
    assert accuracy(outputs, part) == pytest.approx(accuracy_score(labels, predicted))
    assert matthews(outputs, part) == pytest.approx(matthews_corrcoef(labels, predicted))
    probabilities = np.exp(np.stack(outputs)) / np.exp(np.stack(outputs)).sum(1, keepdims=True)
    assert log_likelihood(outputs, part) == pytest.approx(-log_loss(labels, probabilities, labels=range(len(names))))
    average = "binary" if len(names) == 2 else "macro"
    assert f1(outputs, part) == pytest.approx(f1_score(labels, predicted, average=average))


def test_regression_metrics_are_scipys() -> None:
    outputs, labels = rows(50, 1), np.random.default_rng(1).standard_normal(50).tolist()
    predicted = np.stack(outputs)[:, 0]
    part = labelled(labels)
    assert pearson(outputs, part) == pytest.approx(pearsonr(predicted, labels).statistic)
    assert spearman(outputs, part) == pytest.approx(spearmanr(predicted, labels).statistic)
    assert pearson_spearman(outputs, part) == pytest.approx((pearson(outputs, part) + spearman(outputs, part)) / 2)
    assert pearson_spearman([np.zeros(1, np.float32)] * 50, part) == 0


def test_metrics_of_few_labels_and_equal_numbers_are_the_libraries_to_the_last_digit() -> None:
    rng = np.random.default_rng(3)
    for texts in range(2, 60):
        names = ("no", "yes") if texts % 2 else ("a", "b", "c", "d")
        used = rng.integers(1, len(names) + 1, 2)
        labels, predicted = (rng.integers(0, highest, texts) for highest in used)
        outputs = list(np.eye(len(names), dtype=np.float32)[predicted])
        part = labelled(labels.tolist(), names)
        average = "binary" if len(names) == 2 else "macro"
        assert f1(outputs, part) == f1_score(labels, predicted, average=average, zero_division=0)
        if max(used) > 1:
            assert matthews(outputs, part) == matthews_corrcoef(labels, predicted)
        numbers = (rng.integers(0, 4, texts) / 2).tolist()
        answers = [np.array([value], np.float32) for value in rng.integers(0, 4, texts)]
        if np.ptp(numbers) > 0 and np.ptp(answers) > 0:
            assert spearman(answers, labelled(numbers)) == spearmanr(np.stack(answers)[:, 0], numbers).statistic


def test_an_entity_counts_only_when_type_and_both_ends_agree() -> None:
    names = ("O", "B-PER", "I-PER", "B-LOC")
    part = labelled([[IGNORED, 1, 2, IGNORED, 0, 3]], names)
    right, wrong = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 3]], np.eye(4, dtype=np.float32)[[0, 1, 0, 3, 0, 3]]
    assert entity_f1([right], part) == 1
    assert entity_f1([wrong], part) == pytest.approx(0.5), "one of two, in both directions"
    assert token_accuracy([wrong], part) == pytest.approx(3 / 4)


def span_part() -> Part:
    context = "The cat sat on the warm mat."
    starts = [(0, 3), (4, 7), (8, 11), (12, 14), (15, 18), (19, 23), (24, 27), (27, 28)]
    windows = [Window(0, [None, None, *starts[:5]]), Window(0, [None, None, *starts[3:]])]
    example = Example("where?", context, answers=((15, "the warm mat"), (19, "warm mat")))
    return Part(EncodedExamples([[1] * 7, [1] * 7], [[0] * 7] * 2, [(0, 0)] * 2, windows), [example])


def logits(start: int, end: int, score: float, length: int = 7) -> np.ndarray:
    output = np.zeros((length, 2), np.float32)
    output[start, 0] = output[end, 1] = score
    return output


def test_answers_come_from_the_best_window_and_ignore_case_articles_and_punctuation() -> None:
    part = span_part()
    assert answer_texts([logits(2, 3, 1), logits(3, 6, 5)], part) == ["the warm mat."]
    assert exact_match([logits(2, 3, 1), logits(3, 6, 5)], part) == 1
    assert span_f1([logits(3, 4, 5), logits(3, 6, 1)], part) == 0
    half = [logits(0, 0, 0), logits(5, 5, 5)]
    assert answer_texts(half, part) == ["mat"]
    assert span_f1(half, part) == pytest.approx(2 * 1 / (1 + 2))
    assert exact_match(half, part) == 0


def test_an_answer_never_ends_before_it_starts_nor_leaves_the_context() -> None:
    part = span_part()
    backwards = logits(5, 3, 5)
    backwards[0] = 50
    assert answer_texts([logits(0, 0, 0), backwards], part)[0]


def test_masked_metrics_average_over_tokens_not_texts() -> None:
    outputs = [np.array([[-1, 1]], np.float32), np.array([[-2, 0], [-3, 0], [-2, 1]], np.float32)]
    assert masked_accuracy(outputs, labelled([1, 2])) == pytest.approx(0.5)
    assert masked_log_likelihood(outputs, labelled([1, 2])) == pytest.approx(-2)


def test_embedding_metrics_agree_with_their_definitions() -> None:
    ours, theirs = (np.stack(rows(20, 8, seed)) for seed in (0, 1))
    ours, theirs = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (ours, theirs))
    part = Part(EncodedExamples([[1]] * 20, [[0]] * 20), teacher=theirs)
    pairs = np.triu_indices(20, 1)
    expected = spearmanr((ours @ ours.T)[pairs], (theirs @ theirs.T)[pairs]).statistic
    assert similarity_spearman(list(ours), part) == pytest.approx(expected, abs=1e-6)
    cosine = np.mean([a @ b for a, b in zip(ours, theirs, strict=True)])
    assert mean_cosine(list(ours), part) == pytest.approx(cosine, abs=1e-6)


def test_embeddings_of_another_space_and_size_are_compared_by_their_similarities_alone() -> None:
    ours, theirs = (
        matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        for matrix in (np.stack(rows(9, 5)), np.stack(rows(9, 8)))
    )
    part = Part(EncodedExamples([[1]] * 9, [[0]] * 9), teacher=theirs)
    assert all_scores("embedding", list(ours), part, shares_space=False).keys() == {"similarity_spearman"}
    assert all_scores("embedding", list(theirs), part).keys() == {"similarity_spearman", "mean_cosine"}


def test_every_head_reports_all_its_metrics() -> None:
    scores = all_scores("regression", rows(9, 1), labelled([float(value) for value in range(9)]))
    assert list(scores) == ["pearson_spearman", "pearson", "spearman"]
