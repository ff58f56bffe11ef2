from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ortnas.search.front import best_first, crowding


def dominates(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((first <= second).all() and (first < second).any())


@given(n=st.integers(1, 40), objectives=st.integers(1, 3), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_nothing_comes_before_what_dominates_it(n: int, objectives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few values, so that ties occur.
    points = rng.integers(0, 6, (n, objectives)).astype(float)
    excess = rng.choice([-0.5, 0.0, 0.1, 0.4], n)
    place = np.argsort(best_first(points, excess))
    for first in range(n):
        for second in range(n):
            better = {
                (True, False): True,
                (False, False): excess[first] < excess[second],
                (True, True): dominates(points[first], points[second]),
            }
            if better.get((excess[first] <= 0, excess[second] <= 0)):
                assert place[first] < place[second]


def test_on_one_front_the_ends_and_the_lonely_come_first() -> None:
    scores = np.array([0.0, 0.1, 0.2, 0.9, 1.0])
    points = np.column_stack([-scores, scores**2])
    order = best_first(points, np.full(5, -1.0)).tolist()
    assert set(order[:2]) == {0, 4}
    assert order[-1] == 1


def test_equal_values_along_an_objective_do_not_break_crowding() -> None:
    distance = crowding(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]))
    assert np.isinf(distance[[0, 2]]).all()
    assert np.isfinite(distance[1])
    assert (crowding(np.ones((3, 2))) == 0).all()
