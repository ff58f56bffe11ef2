from __future__ import annotations

import numpy as np
import pytest

from ortnas.predictors.features import tree_features
from ortnas.predictors.survey import most_useful, rows_evenly_apart, stratified, usual_cost
from tests.networks import make_space
from tests.predictors.machines import WIDE, fitted, make_target, measure


def keys(genomes: np.ndarray) -> set[bytes]:
    return {genome.tobytes() for genome in genomes}


def test_a_sample_spans_the_space_without_repeating_itself() -> None:
    sample = stratified(WIDE, 40, np.random.default_rng(0))
    assert len(keys(sample)) == len(sample) == 40
    assert (sample == WIDE.repair(sample)).all()
    assert keys(np.stack([WIDE.encode(WIDE.smallest), WIDE.encode(WIDE.largest)])) <= keys(sample)
    # Every tenth part of the range of latencies, as ratios, has its share.
    logarithm = np.log(usual_cost(WIDE)(sample))
    counts, _ = np.histogram(logarithm, 10)
    assert counts.min() >= 2
    assert counts.max() <= 7


def test_a_sample_fills_the_space_better_than_chance() -> None:
    rng = np.random.default_rng(1)
    sizes = [tree_features(WIDE.expand(sample)) for sample in (stratified(WIDE, 30, rng), WIDE.sample(30, rng))]
    scale = np.ptp(np.concatenate(sizes), axis=0)
    nearest = []
    for points in sizes:
        distance = np.square((points[:, None] - points) / scale).sum(2) + 1e9 * np.eye(30)
        nearest.append(np.sqrt(distance.min(1)).mean())
    assert nearest[0] > 1.3 * nearest[1]


def test_further_samples_are_new_and_away_from_those_taken() -> None:
    first = stratified(WIDE, 30, np.random.default_rng(0))
    second = stratified(WIDE, 30, np.random.default_rng(0), taken=first)
    assert len(second) == 30
    assert not keys(first) & keys(second)


def test_the_strata_follow_the_given_cost() -> None:
    sample = stratified(WIDE, 30, np.random.default_rng(0), cost=lambda genomes: 1.0 + genomes[:, 0].astype(float))
    counts = np.bincount(sample[:, 0], minlength=len(WIDE.hidden_size))
    assert (counts > 0).all()


def test_small_spaces_are_used_up_and_no_more() -> None:
    space = make_space(depth=(1,), num_heads=(2,), head_size=(4,), ffn_size=(16, 32), hidden_size=(16, 32))
    assert space.count == 4
    assert len(keys(stratified(space, 10, np.random.default_rng(0)))) == 4
    everything = stratified(space, 10, np.random.default_rng(0))
    assert len(stratified(space, 10, np.random.default_rng(0), taken=everything)) == 0
    assert len(stratified(space, 3, np.random.default_rng(0))) == 3


def test_a_pool_is_spread_over_by_row() -> None:
    pool = np.unique(WIDE.sample(200, np.random.default_rng(2)), axis=0)
    rows = rows_evenly_apart(WIDE, pool, 15, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 15
    latency_ms = usual_cost(WIDE)(pool)
    assert {int(latency_ms.argmin()), int(latency_ms.argmax())} <= set(rows.tolist())
    assert len(rows_evenly_apart(WIDE, pool[:0], 5, np.random.default_rng(0))) == 0


@pytest.mark.slow
def test_the_most_useful_are_near_the_budgets_or_unsure() -> None:
    # Only subnets of one depth and one width were measured: the predictor knows little of the others.
    genomes, latency_ms = measure(WIDE, 500, 0.01)
    shallow = WIDE.expand(genomes).depth <= 2
    from ortnas.predictors.fitting import fit_predictor

    predictor = fit_predictor(WIDE, genomes[shallow], latency_ms[shallow], None, make_target(), "int8", 0.01)
    budget_ms = float(np.median(latency_ms))
    chosen = most_useful(WIDE, predictor, genomes[shallow], 20, [budget_ms], np.random.default_rng(0))
    assert len(keys(chosen)) == len(chosen) == 20
    assert not keys(chosen) & keys(genomes[shallow])
    predicted_ms, _ = predictor.predict(chosen)
    assert (np.abs(predicted_ms / budget_ms - 1) <= 0.1).sum() >= 10
    anywhere = WIDE.sample(500, np.random.default_rng(1))
    assert predictor.uncertainty(chosen[10:]).mean() > np.median(predictor.uncertainty(anywhere))


@pytest.mark.slow
def test_budgets_share_and_missing_ones_leave_their_turn() -> None:
    predictor = fitted(60)
    genomes, _ = measure(WIDE, 60, 0.02)
    low, high = np.percentile(predictor.predict(WIDE.sample(500, np.random.default_rng(0)))[0], [20, 80])
    chosen = most_useful(WIDE, predictor, genomes, 20, [low, high], np.random.default_rng(0))
    predicted_ms, _ = predictor.predict(chosen)
    for budget in (low, high):
        assert (np.abs(predicted_ms / budget - 1) <= 0.1).sum() >= 5
    assert len(most_useful(WIDE, predictor, genomes, 20, [1e6], np.random.default_rng(0))) == 20
    assert len(most_useful(WIDE, predictor, genomes, 20, [], np.random.default_rng(0))) == 20


@pytest.mark.parametrize("wanted", [1, 2, 7])
def test_as_many_come_as_are_wanted(wanted: int) -> None:
    assert len(stratified(WIDE, wanted, np.random.default_rng(3))) == wanted
