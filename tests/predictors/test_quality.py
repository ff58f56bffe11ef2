from __future__ import annotations

import numpy as np
import pytest

from ortnas.predictors.quality import bound_factor, judge, mean_window_kendall, window_kendall


def test_window_kendall_sees_order_only_near_the_budget() -> None:
    rng = np.random.default_rng(0)
    latency_ms = rng.uniform(1, 10, 2000)
    predicted_ms = np.where(latency_ms < 5, latency_ms, rng.uniform(5, 10, 2000))
    assert window_kendall(latency_ms, predicted_ms, 3.0) == pytest.approx(1.0)
    assert abs(window_kendall(latency_ms, predicted_ms, 8.0) or 1) < 0.15
    assert window_kendall(latency_ms, predicted_ms, 100.0) is None
    # Noise of 1 % hardly disturbs the order of all, and much that of those within 10 %.
    noisy = latency_ms * np.exp(0.01 * rng.standard_normal(2000))
    overall = judge(latency_ms, noisy, noisy, None, 0)
    assert overall.window_kendall is not None
    assert overall.window_kendall < 0.92 < 0.98 < overall.kendall
    assert mean_window_kendall(latency_ms[:5], noisy[:5]) is None


def test_the_bounds_factor_is_the_conformal_quantile() -> None:
    scores = np.random.default_rng(1).permutation(np.arange(1.0, 100.0))
    assert bound_factor(scores, 0.95) == 95
    assert bound_factor(scores, 0.5) == 50
    assert bound_factor(-scores, 0.95) == 0


def test_few_scores_stretch_the_largest() -> None:
    scores = np.random.default_rng(2).standard_normal(12)
    assert bound_factor(scores, 0.95) > max(0, scores.max())
    # 19 are the first that have a 20th place to be below.
    nineteen = np.random.default_rng(3).standard_normal(19)
    assert bound_factor(nineteen, 0.95) == pytest.approx(nineteen.max())


def test_figures_are_of_relative_errors() -> None:
    latency_ms = np.full(20, 2.0) * np.linspace(1, 2, 20)
    predicted_ms = latency_ms * np.where(np.arange(20) < 5, 1.08, 1.02)
    upper_ms = np.where(np.arange(20) < 2, 0.9, 1.1) * latency_ms
    quality = judge(latency_ms, predicted_ms, upper_ms, 0.01, 0)
    assert quality.mean_error == pytest.approx(0.25 * 0.08 + 0.75 * 0.02)
    assert (quality.within_5, quality.within_10) == (0.75, 1.0)
    assert quality.coverage == pytest.approx(0.9)
    assert quality.warning == ""


def test_learning_nothing_is_said() -> None:
    rng = np.random.default_rng(4)
    latency_ms = rng.uniform(1, 2, 100)
    quality = judge(latency_ms, rng.permutation(latency_ms), latency_ms, 0.02, 0)
    assert quality.warning.startswith("nothing was learnt: predictions err by")
    assert "2 of 102 measurements" in judge(latency_ms, latency_ms, latency_ms, 0.02, 2).warning
