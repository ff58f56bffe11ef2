from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortnas.search.front import hypervolume, knee, pareto_rows


@given(n=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_the_front_holds_what_nothing_beats(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, latency_ms = rng.integers(0, 8, n) / 8, rng.integers(1, 9, n).astype(float)
    front = pareto_rows(scores, latency_ms)
    assert (np.diff(latency_ms[front]) > 0).all()
    assert (np.diff(scores[front]) > 0).all()
    for row in range(n):
        # Everything is on the front or beaten or equalled by some of it.
        assert any(scores[other] >= scores[row] and latency_ms[other] <= latency_ms[row] for other in front)


def test_a_second_cost_keeps_what_the_first_would_drop() -> None:
    scores, latency_ms, size = np.array([0.9, 0.8, 0.7]), np.array([1.0, 2.0, 3.0]), np.array([9.0, 5.0, 7.0])
    assert pareto_rows(scores, latency_ms).tolist() == [0]
    assert pareto_rows(scores, np.column_stack([latency_ms, size])).tolist() == [0, 1]


def test_hypervolume_is_the_area_between_front_and_reference() -> None:
    scores, latency_ms = np.array([0.5, 0.8, 0.2, 0.9]), np.array([1.0, 2.0, 1.5, 9.0])
    # From 1 to 2 ms by 0.5, from 2 to 4 ms by 0.8, above a score of 0.1; the last lies beyond the reference.
    assert hypervolume(scores, latency_ms, (0.1, 4.0)) == pytest.approx(0.4 + 2 * 0.7)
    assert hypervolume(scores, latency_ms, (0.95, 4.0)) == 0.0


def test_the_knee_of_a_bent_front_is_its_bend_and_of_a_line_its_best() -> None:
    assert knee([0.5, 0.8, 0.85, 0.9], [1.0, 1.5, 3.0, 6.0]) == 1
    assert knee([0.5, 0.6, 0.7], [1.0, 2.0, 3.0]) == 2
    assert knee([0.4, 0.7], [1.0, 2.0]) == 1
