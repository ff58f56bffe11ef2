from __future__ import annotations

import pytest

from ortnas.search.halving import relative_cost, rung_shares, rung_sizes, survivors, time_for_each


@pytest.mark.parametrize(("candidates", "sizes"), [(1, [1]), (2, [2, 1]), (3, [3, 2, 1]), (8, [8, 4, 2, 1])])
def test_each_rung_trains_half_of_the_one_before(candidates: int, sizes: list[int]) -> None:
    assert rung_sizes(candidates) == sizes
    assert len(rung_shares(candidates)) == len(sizes)
    assert sum(rung_shares(candidates)) == pytest.approx(1)


def test_the_last_one_gets_most_of_the_steps() -> None:
    assert relative_cost(1) == 1
    # Two are trained for a fifth of the steps, one of them for the other four.
    assert relative_cost(2) == pytest.approx(1.2)
    assert relative_cost(8) < 2.5


def test_the_better_ones_survive_and_the_order_decides_between_equals() -> None:
    scores = {"a": 0.5, "b": 0.7, "c": 0.5, "d": 0.1}
    assert survivors(scores, ["c", "a", "b", "d"], 2) == ["b", "c"]
    assert survivors({}, ["c"], 1) == []


def test_several_halvings_share_the_time_evenly_whatever_is_done_first() -> None:
    assert time_for_each(900, [2, 2, 2], [2, 2, 2]) == pytest.approx(300)
    # A third of each one's time is for exploring: the first has taken it.
    assert time_for_each(800, [2, 2], [2, 2, 2]) == pytest.approx(300)
    assert time_for_each(600, [], [2, 2, 2]) == pytest.approx(300)
    assert time_for_each(600, [1], [1]) == pytest.approx(600)
