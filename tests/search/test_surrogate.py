from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from ortnas.search.surrogate import MINIMUM_SCORES, features, fit_surrogate, most_promising
from tests.search.landscape import capacities, deep_space


def test_few_or_equal_scores_give_no_surrogate() -> None:
    space = deep_space()
    genomes = space.sample(60, np.random.default_rng(0))
    scores = capacities(space, genomes)
    few = MINIMUM_SCORES - 1
    assert fit_surrogate(space, genomes[:few], scores[:few], 0) is None
    assert fit_surrogate(space, genomes, np.full(60, 0.9), 0) is None
    assert fit_surrogate(space, genomes[: few + 1], scores[: few + 1], 0) is not None


def test_a_surrogate_ranks_subnets_that_it_has_not_seen() -> None:
    space = deep_space()
    genomes = space.sample(400, np.random.default_rng(0))
    scores = capacities(space, genomes) / 1000
    agreements = []
    for count in (20, 60, 200):
        surrogate = fit_surrogate(space, genomes[:count], scores[:count], 0)
        assert surrogate is not None
        expected, spread = surrogate.predict(genomes[200:])
        agreements.append(kendalltau(expected, scores[200:]).statistic)
        assert (spread > 0).all()
    assert agreements[0] > 0.6
    assert agreements[2] > max(0.8, agreements[0])


def test_a_surrogate_is_less_sure_of_what_is_unlike_its_scores() -> None:
    space = deep_space()
    genomes = space.sample(2000, np.random.default_rng(0))
    narrow = genomes[:, 0] == 0
    surrogate = fit_surrogate(space, genomes[narrow][:150], capacities(space, genomes[narrow][:150]), 0)
    assert surrogate is not None
    _, spread = surrogate.predict(genomes)
    assert spread[~narrow].mean() > spread[narrow].mean()


def test_the_same_scores_give_the_same_surrogate() -> None:
    space = deep_space()
    genomes = space.sample(50, np.random.default_rng(0))
    scores = capacities(space, genomes)
    first, again, other = (fit_surrogate(space, genomes, scores, seed) for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(first.predict(genomes), again.predict(genomes))
    assert (first.predict(genomes)[0] != other.predict(genomes)[0]).any()


def test_features_are_shares_of_the_largest_subnet() -> None:
    space = deep_space()
    rows = features(space, np.stack([space.encode(space.largest), space.encode(space.smallest)]))
    assert (rows[0] == 1).all()
    assert ((rows[1] >= 0) & (rows[1] < 1)).all()


def test_choices_have_the_largest_margin_over_what_costs_no_more() -> None:
    expected = np.array([0.5, 0.7, 0.71, 0.9])
    costs = np.array([[1.0], [2.0], [2.5], [9.0]])
    reached, reached_costs = np.array([0.45, 0.88]), np.array([[1.0], [5.0]])
    chosen = most_promising(expected, np.zeros(4), costs, reached, reached_costs, 3, 1.0)
    # 0.26 above 0.45; then, with 0.71 reached at 2.5, 0.25 for what is faster still; then 0.05 at 1 ms.
    assert chosen.tolist() == [2, 1, 0]


def test_without_costs_only_the_best_score_counts_and_spread_counts_as_promise() -> None:
    expected, nothing = np.array([0.5, 0.6, 0.55]), np.empty((3, 0))
    reached = np.array([0.4, 0.58])
    args = (expected, np.array([0.0, 0.0, 0.1]), nothing, reached, np.empty((2, 0)), 2)
    assert most_promising(*args, 0.0).tolist() == [1, 2]
    assert most_promising(*args, 1.0).tolist() == [2, 1]
