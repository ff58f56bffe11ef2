from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from ortnas.export.metrics import METRICS
from ortnas.export.part import Part
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import EncodedExamples, Example, Window
from ortnas.search.intervals import sample_scores, score_intervals


def part_of(labels: list[float] | list[int]) -> Part:
    ids = [[1, 2]] * len(labels)
    return Part(EncodedExamples(ids, ids, labels))


def logits(rights: np.ndarray) -> list[np.ndarray]:
    """Two labels, of which the first is the true one."""
    return list(np.stack([rights, 1 - rights], axis=1).astype(np.float32))


def test_intervals_of_an_accuracy_are_as_wide_as_theory_says_and_paired_differences_narrower() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    base = (rng.random(n) < 0.9).astype(float)
    other = base.copy()
    other[np.flatnonzero(base)[:30]] = 0
    intervals = score_intervals("accuracy", {"base": logits(base), "other": logits(other)}, part_of([0] * n), "base")
    score, difference = intervals["other"].score, intervals["other"].difference
    assert score.value == other.mean()
    assert score.high - score.low == pytest.approx(2 * 1.96 * np.sqrt(other.mean() * (1 - other.mean()) / n), rel=0.1)
    assert difference.value == pytest.approx(-30 / n)
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * np.sqrt(30) / n, rel=0.15)
    assert difference.high < 0
    assert intervals["base"].difference.to_json() == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    inside = []
    for seed in range(100):
        rights = (rng.random(400) < 0.8).astype(float)
        interval = score_intervals("accuracy", {"one": logits(rights)}, part_of([0] * 400), "one", seed)["one"].score
        inside.append(interval.low <= 0.8 <= interval.high)
    assert 0.88 <= np.mean(inside) <= 1.0


def test_other_metrics_are_computed_on_the_sampled_texts() -> None:
    rng = np.random.default_rng(2)
    labels = rng.normal(size=300)
    good, bad = (labels + noise * rng.normal(size=300) for noise in (0.3, 1.5))
    outputs = {"good": list(good[:, None].astype(np.float32)), "bad": list(bad[:, None].astype(np.float32))}
    intervals = score_intervals("spearman", outputs, part_of(labels.tolist()), "good")
    assert intervals["bad"].score.value == pytest.approx(spearmanr(bad, labels).statistic, abs=1e-6)
    assert intervals["bad"].score.low < intervals["bad"].score.value < intervals["bad"].score.high
    assert intervals["bad"].difference.high < 0


def test_windows_of_one_context_stay_together() -> None:
    examples = [Example("who", f"context {number}", answers=((0, "context"),)) for number in range(40)]
    windows = [Window(number // 2, [None, (0, 7), (8, 9)]) for number in range(80)]
    ids = [[1, 2, 3]] * 80
    part = Part(EncodedExamples(ids, ids, [(1, 1)] * 80, windows), examples)
    rng = np.random.default_rng(3)
    outputs = [rng.normal(size=(3, 2)).astype(np.float32) for _ in range(80)]
    score = score_intervals("exact_match", {"one": outputs}, part, "one")["one"].score
    assert score.value == METRICS["exact_match"](outputs, part)
    assert 0 < score.low < score.value < score.high < 1


def test_similarities_between_texts_are_not_flattered_by_texts_drawn_twice() -> None:
    rng = np.random.default_rng(4)
    teacher = rng.normal(size=(120, 16)).astype(np.float32)
    noisy = teacher + 1.0 * rng.normal(size=teacher.shape).astype(np.float32)
    teacher, noisy = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (teacher, noisy))
    part = replace(part_of([0] * 120), teacher=teacher)
    score = score_intervals("similarity_spearman", {"one": list(noisy)}, part, "one")["one"].score
    assert score.low < score.value < score.high
    assert (score.low + score.high) / 2 == pytest.approx(score.value, abs=0.02)


def test_the_difference_of_any_two_models_is_paired_over_the_same_samples() -> None:
    rng = np.random.default_rng(4)
    rights = [(rng.random(500) < share).astype(float) for share in (0.9, 0.8)]
    outputs = {name: logits(values) for name, values in zip(("first", "second"), rights, strict=True)}
    sampled = sample_scores("accuracy", outputs, part_of([0] * 500))
    forth, back = sampled.difference("first", "second"), sampled.difference("second", "first")
    assert forth.value == pytest.approx(rights[0].mean() - rights[1].mean())
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert sampled.intervals("first", "second").difference == forth


def near(rows: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    noisy = rows + noise * rng.standard_normal(rows.shape)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("metric", ["recall_at_1", "mrr_at_10", "ndcg_at_10"])
def test_queries_are_drawn_and_look_among_all_documents(metric: str) -> None:
    rng = np.random.default_rng(5)
    numbers = tuple(range(400))
    documents = tuple(number + 400 for number in numbers)
    part = replace(part_of([0] * 800), judgements=Judgements(numbers, documents, (1.0,) * 400, documents))
    queries = near(rng.standard_normal((400, 16)), 0.0, rng)
    outputs = {
        name: [*queries, *near(queries, noise, rng)] for name, noise in (("good", 0.2), ("bad", 0.4), ("worse", 0.5))
    }
    intervals = score_intervals(metric, outputs, part, "good")
    score, difference = intervals["bad"].score, intervals["bad"].difference
    assert score.value == METRICS[metric](outputs["bad"], part)
    assert score.low < score.value < score.high
    assert intervals["worse"].difference.high < difference.high < 0
    if metric == "recall_at_1":
        error = np.sqrt(score.value * (1 - score.value) / 400)
        assert score.high - score.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_intervals_of_scored_pairs_are_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(6)
    n, latent = 600, rng.standard_normal(600)
    gold = latent + 0.5 * rng.standard_normal(n)
    angles = np.pi / 4 + 0.1 * latent
    first, second = np.tile([1.0, 0.0], (n, 1)), np.stack([np.sin(angles), np.cos(angles)], 1)
    judgements = Judgements(tuple(range(n)), tuple(range(n, 2 * n)), tuple(gold.tolist()))
    part = replace(part_of([0] * 2 * n), judgements=judgements)
    outputs = [*first.astype(np.float32), *second.astype(np.float32)]
    score = score_intervals("spearman", {"one": outputs}, part, "one")["one"].score
    assert score.value == pytest.approx(spearmanr(np.sin(angles), gold).statistic, abs=1e-6)
    # Fisher's transformation, with the variance of Bonett & Wright (2000).
    error = np.sqrt((1 + score.value**2 / 2) / (n - 3)) * (1 - score.value**2)
    assert score.high - score.low == pytest.approx(2 * 1.96 * error, rel=0.2)
