from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortnas.nas.data.mixture import Mixture, apportion, interleave

WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5)


def make_mixture(counts: tuple[int, ...], weights: tuple[float, ...]) -> Mixture:
    names = tuple(f"source {number}" for number in range(len(counts)))
    return Mixture(names, weights, names, tuple(interleave(counts, weights)))


@given(total=st.integers(0, 5000), weights=WEIGHTS)
def test_whole_numbers_follow_the_weights(total: int, weights: list[float]) -> None:
    amounts = apportion(total, weights)
    assert sum(amounts) == total
    assert np.abs(np.array(amounts) - total * np.array(weights) / sum(weights)).max() <= 1


def test_every_beginning_has_the_sources_by_their_weights() -> None:
    origins = interleave([10, 100], [1, 3])
    assert (origins.count(0), origins.count(1)) == (10, 100)
    assert [origins[:40].count(source) for source in (0, 1)] == [10, 30]
    assert origins[40:] == [1] * 70


def test_an_epoch_has_the_shares_and_is_fixed_by_seed() -> None:
    mixture = make_mixture((30, 270), (1.0, 2.0))
    origins = np.array(mixture.origins)
    for epoch in range(4):
        order = mixture.order(epoch, seed=3)
        assert len(order) == 300
        assert (origins[order] == 0).sum() == 100
        assert (order == mixture.order(epoch, seed=3)).all()
    assert (mixture.order(0, 3) != mixture.order(1, 3)).any()
    assert (mixture.order(0, 3) != mixture.order(0, 4)).any()


@pytest.mark.parametrize("counts", [(30, 270), (1, 39), (501, 7)])
def test_a_small_source_repeats_and_all_of_a_large_one_comes_in_turn(counts: tuple[int, ...]) -> None:
    mixture = make_mixture(counts, (1.0, 1.0))
    drawn = np.concatenate([mixture.order(epoch, seed=0) for epoch in range(4)])
    times = np.bincount(drawn, minlength=sum(counts))
    for source in (0, 1):
        own = times[np.array(mixture.origins) == source]
        assert own.sum() == 2 * sum(counts)
        assert own.max() - own.min() <= 1, "every text as often as every other of its source"
