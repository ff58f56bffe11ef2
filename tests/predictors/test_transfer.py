from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.predictors.fitting import PredictorError, fit_predictor, load_predictor, save_predictor
from ortnas.predictors.survey import rows_evenly_apart
from ortnas.predictors.transfer import transfer
from tests.predictors.machines import WIDE, fitted, make_target, measure


def few(target: Target, n: int, noise: float = 0.01, kink: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Measurements of subnets that are spread over the space."""
    genomes, latency_ms = measure(WIDE, 200, noise, seed=11, target=target, kink=kink)
    rows = rows_evenly_apart(WIDE, genomes, n, np.random.default_rng(0))
    return genomes[rows], latency_ms[rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", [make_target(threads=2), make_target(workloads=(Workload(1, 16),)), make_target(isa=["avx2"])]
)
def test_fifteen_timings_come_near_a_hundred_and_fifty(target: Target) -> None:
    source = fitted(150, noise=0.01)
    transferred = transfer(source, *few(target, 15), None, target, 0.01, "few")
    genomes, latency_ms = measure(WIDE, 150, 0.01, seed=21, target=target)
    fresh = fit_predictor(WIDE, genomes, latency_ms, None, target, "int8", 0.01)
    genomes, latency_ms = measure(WIDE, 400, 0.01, seed=31, target=target)
    errors = [np.abs(predictor.predict(genomes)[0] / latency_ms - 1).mean() for predictor in (transferred, fresh)]
    assert errors[0] < 1.5 * errors[1]
    assert transferred.target == target
    assert transferred.quality.measurements == 15
    assert (latency_ms <= transferred.predict(genomes)[1]).mean() > 0.85


@pytest.mark.slow
def test_trees_move_along_where_their_kink_does() -> None:
    source = fitted(150, noise=0.005, kink=0.2)
    target = make_target(threads=4)
    kept = transfer(source, *few(target, 15, kink=0.2), None, target)
    dropped = transfer(source, *few(target, 15), None, target)
    assert kept.model.share > 0
    assert kept.model.booster is not None
    assert dropped.model.share < kept.model.share
    genomes, truth_ms = measure(WIDE, 300, 0.0, seed=31, target=target, kink=0.2)
    scratch = fit_predictor(WIDE, *few(target, 15, kink=0.2), None, target, "int8")
    errors = [np.abs(predictor.predict(genomes)[0] / truth_ms - 1).mean() for predictor in (kept, scratch)]
    assert errors[0] < 0.6 * errors[1]


@pytest.mark.slow
def test_a_host_that_is_only_slower_takes_the_sources_shape() -> None:
    source = fitted(150, noise=0.005)
    genomes, latency_ms = few(make_target(), 6, noise=0.0)
    slower = transfer(source, genomes, 3 * latency_ms, None, make_target(cpu="slow"))
    genomes, truth_ms = measure(WIDE, 200, 0.0, seed=5)
    assert np.abs(slower.predict(genomes)[0] / (3 * truth_ms) - 1).mean() < 0.02


@pytest.mark.slow
def test_a_source_that_misleads_is_dropped() -> None:
    source = fitted(60, noise=0.005)
    # Prices upside down: what was cheap is dear.
    prices = source.model.prior.prices
    wrong = replace(source.model.prior, prices=np.where(prices > 0, 1 / np.maximum(prices, 1e-12), 1e9))
    misled = replace(source, model=replace(source.model, prior=wrong))
    target = make_target(threads=2)
    genomes, latency_ms = few(target, 20)
    transferred = transfer(misled, genomes, latency_ms, None, target)
    genomes, truth_ms = measure(WIDE, 200, 0.0, seed=5, target=target)
    assert np.abs(transferred.predict(genomes)[0] / truth_ms - 1).mean() < 0.06


@pytest.mark.slow
def test_transferred_predictors_survive_saving_and_another_transfer(tmp_path: Path) -> None:
    target = make_target(threads=4)
    moved = transfer(fitted(100, noise=0.005, kink=0.2), *few(target, 15, kink=0.2), None, target, 0.01, "few")
    save_predictor(tmp_path, moved)
    loaded = load_predictor(tmp_path)
    genomes = WIDE.sample(50, np.random.default_rng(0))
    np.testing.assert_array_equal(loaded.predict(genomes), moved.predict(genomes))
    assert loaded.quality == moved.quality
    again = transfer(loaded, *few(make_target(), 15, kink=0.2), None, make_target(), 0.01, "few")
    genomes, truth_ms = measure(WIDE, 200, 0.0, seed=5, kink=0.2)
    assert np.abs(again.predict(genomes)[0] / truth_ms - 1).mean() < 0.05


@pytest.mark.slow
def test_too_few_timings_get_a_sentence() -> None:
    genomes, latency_ms = few(make_target(), 4)
    with pytest.raises(PredictorError, match="4 measurements of different subnets; a predictor needs at least 5"):
        transfer(fitted(40), genomes, latency_ms, None, make_target())
