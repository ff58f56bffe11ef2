from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ortnas.bench.timing import Workload
from ortnas.predictors.features import TERMS
from ortnas.predictors.fitting import PredictorError, fit_predictor, held_out_predictions, learning_curve
from tests.predictors.machines import WIDE, fitted, make_target, measure


def error_of(predictor: Any, **changes: Any) -> float:
    genomes, truth_ms = measure(WIDE, 400, 0.0, seed=77, target=predictor.target, **changes)
    return float(np.abs(predictor.predict(genomes)[0] / truth_ms - 1).mean())


@pytest.mark.slow
def test_held_out_error_nears_the_noise() -> None:
    predictor = fitted(noise=0.02)
    # Normal noise of 2 % is 1.6 % off on average.
    assert predictor.quality.mean_error < 0.022
    assert predictor.quality.kendall > 0.95
    assert error_of(predictor) < 0.01
    assert predictor.quality.warning == ""
    assert predictor.quality.measurements == 100


@pytest.mark.slow
def test_it_learns_what_products_in_float_cost() -> None:
    products = [f"layers/{layer}/{name}" for layer in range(4) for name in ("attention/value", "ffn/in", "ffn/out")]
    space = WIDE.leaving_float(products)
    genomes, latency_ms = measure(space, 100, 0.02)
    errors = np.full(len(latency_ms), 0.02)
    predictor = fit_predictor(space, genomes, latency_ms, errors, target=make_target(), precision="int8")
    genomes, truth_ms = measure(space, 400, 0.0, seed=77)
    assert float(np.abs(predictor.predict(genomes)[0] / truth_ms - 1).mean()) < 0.02
    # The same architectures without: what stays in float is a good part of the latency.
    integers = genomes.copy()
    integers[:, space.float_genes] = 0
    assert float((predictor.predict(genomes)[0] / predictor.predict(integers)[0]).max()) > 1.2


@pytest.mark.slow
def test_the_bound_covers_fresh_subnets() -> None:
    predictor = fitted(noise=0.02)
    genomes, latency_ms = measure(WIDE, 1500, 0.02, seed=9)
    predicted_ms, upper_ms = predictor.predict(genomes)
    assert 0.9 <= (latency_ms <= upper_ms).mean() <= 0.995
    assert (upper_ms >= predicted_ms).all()
    assert (upper_ms / predicted_ms).mean() < 1.08
    assert fitted(level=0.6).factor < predictor.factor
    assert 0.9 <= predictor.quality.coverage <= 1


@pytest.mark.slow
def test_trees_learn_what_the_terms_do_not_know() -> None:
    predictor = fitted(120, noise=0.005, kink=0.15)
    assert predictor.model.booster is not None
    assert error_of(predictor, kink=0.15) < 0.02
    genomes, _ = measure(WIDE, 100, 0.0, seed=3)
    trees = predictor.contributions(genomes)["trees"] / predictor.predict(genomes)[0]
    kinked = WIDE.expand(genomes).hidden_size % 64 > 0
    assert trees[kinked].mean() - trees[~kinked].mean() > 0.1


@pytest.mark.slow
def test_trees_are_left_out_where_they_do_not_help() -> None:
    assert fitted(100, noise=0.03).model.booster is None
    assert fitted(20, noise=0.001, kink=0.15).model.booster is None


def test_twelve_measurements_are_enough_for_the_prior() -> None:
    predictor = fitted(12, noise=0.01)
    assert error_of(predictor) < 0.05
    genomes, latency_ms = measure(WIDE, 300, 0.01, seed=5)
    assert (latency_ms <= predictor.predict(genomes)[1]).mean() > 0.85


@pytest.mark.slow
def test_several_workloads_and_fp32_are_learnt_as_well() -> None:
    target = make_target(workloads=(Workload(1, 32, weight=3), Workload(2, 96)))
    genomes, latency_ms = measure(WIDE, 80, 0.01, target=target)
    mixed = fit_predictor(WIDE, genomes, latency_ms, None, target, "int8")
    assert error_of(mixed) < 0.015
    genomes, latency_ms = measure(WIDE, 80, 0.01, precision="fp32")
    assert error_of(fit_predictor(WIDE, genomes, latency_ms, None, make_target(), "fp32"), precision="fp32") < 0.015


@pytest.mark.slow
def test_contributions_add_up_to_the_prediction() -> None:
    predictor = fitted(100, noise=0.005, kink=0.15)
    genomes = WIDE.sample(30, np.random.default_rng(8))
    parts = predictor.contributions(genomes)
    assert list(parts) == [*TERMS, "trees"]
    np.testing.assert_allclose(np.sum(list(parts.values()), axis=0), predictor.predict(genomes)[0], rtol=1e-9)
    assert all((values >= 0).all() for name, values in parts.items() if name != "trees")


@pytest.mark.slow
def test_latency_never_falls_with_a_layer_more() -> None:
    predictor = fitted(120, noise=0.005, kink=0.15)
    genomes = WIDE.sample(200, np.random.default_rng(4))
    # Layers all alike, so that the averages stay.
    for name, columns in WIDE.columns.items():
        if columns.stop > columns.start:
            genomes[:, columns] = genomes[:, columns.start : columns.start + 1]
        assert name
    latencies = []
    for depth in range(len(WIDE.depth)):
        deeper = genomes.copy()
        deeper[:, 1] = depth
        latencies.append(predictor.predict(WIDE.repair(deeper))[0])
    assert (np.diff(np.stack(latencies), axis=0) > 0).all()


def test_outliers_are_left_out_counted_and_said() -> None:
    genomes, latency_ms = measure(WIDE, 100, 0.02)
    wrong = latency_ms.copy()
    wrong[[3, 30, 60]] *= 10
    wrong[[45, 80]] /= 10
    predictor = fit_predictor(WIDE, genomes, wrong, None, make_target(), "int8")
    assert (predictor.quality.outliers, predictor.quality.measurements) == (5, 95)
    assert "5 of 100 measurements are far from" in predictor.quality.warning
    assert error_of(predictor) < 0.015
    _, upper_ms = predictor.predict(genomes)
    assert (upper_ms / latency_ms).max() < 1.3


@pytest.mark.slow
def test_latencies_that_do_not_depend_on_the_subnet_are_called_so() -> None:
    genomes, _ = measure(WIDE, 80, 0.0)
    latency_ms = np.random.default_rng(0).uniform(2, 4, 80)
    quality = fit_predictor(WIDE, genomes, latency_ms, None, make_target(), "int8", 0.01).quality
    assert quality.warning.startswith("nothing was learnt")
    assert quality.mean_error > 0.8 * quality.constant_error
    assert abs(quality.kendall) < 0.3


@pytest.mark.slow
def test_repeated_subnets_are_combined_by_how_well_each_is_known() -> None:
    genomes, latency_ms = measure(WIDE, 60, 0.0)
    bad = np.exp(0.3 * np.random.default_rng(1).standard_normal(60))
    both = np.concatenate([genomes, genomes])
    latencies = np.concatenate([latency_ms, latency_ms * bad])
    errors = np.concatenate([np.full(60, 0.005), np.full(60, 0.3)])
    predictor = fit_predictor(WIDE, both, latencies, errors, make_target(), "int8")
    assert predictor.quality.measurements == 60
    assert error_of(predictor) < 0.01
    # Without errors they count alike, and what they disagree by is their error.
    assert fit_predictor(WIDE, both, latencies, None, make_target(), "int8").quality.mean_error > 0.03


@pytest.mark.slow
def test_uncertain_measurements_weigh_less() -> None:
    genomes, latency_ms = measure(WIDE, 80, 0.005)
    noisy = latency_ms.copy()
    noisy[:40] *= np.exp(0.25 * np.random.default_rng(2).standard_normal(40))
    errors = np.where(np.arange(80) < 40, 0.25, 0.005)
    weighed = fit_predictor(WIDE, genomes, noisy, errors, make_target(), "int8")
    alike = fit_predictor(WIDE, genomes, noisy, None, make_target(), "int8")
    assert error_of(weighed) < error_of(alike)
    assert error_of(weighed) < 0.01


def test_the_same_measurements_give_the_same_predictor() -> None:
    first, second = fitted(60, kink=0.15), fitted(60, kink=0.15)
    genomes = WIDE.sample(100, np.random.default_rng(6))
    np.testing.assert_array_equal(first.predict(genomes), second.predict(genomes))
    assert first.quality == second.quality


@pytest.mark.slow
def test_plots_get_held_out_predictions_and_a_curve_that_falls() -> None:
    predictor = fitted(100, noise=0.02)
    genomes, latency_ms = measure(WIDE, 100, 0.02)
    shown, measured_ms, predicted_ms = held_out_predictions(predictor, genomes, latency_ms, np.full(100, 0.02))
    np.testing.assert_array_equal(shown, genomes)
    assert np.abs(predicted_ms / measured_ms - 1).mean() == pytest.approx(predictor.quality.mean_error)
    curve = learning_curve(predictor, genomes, latency_ms, None, (5, 10, 60, 100), repeats=3)
    assert list(curve) == [10, 60]
    assert curve[60] < curve[10]


@pytest.mark.slow
def test_no_genomes_give_no_predictions() -> None:
    latency_ms, upper_ms = fitted(40, kink=0.15).predict(np.empty((0, WIDE.genes), np.int16))
    assert latency_ms.shape == upper_ms.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values * 0 + 2.5, "all measurements are equal"),
        (lambda values: np.where(np.arange(40) == 3, -1.0, values), "1 of 40 latencies are not positive numbers"),
        (lambda values: np.where(np.arange(40) < 2, 0.0, values), "2 of 40 latencies are not positive numbers"),
        (lambda values: np.where(np.arange(40) == 3, np.nan, values), "not positive numbers, the first nan"),
        (lambda values: np.where(np.arange(40) == 3, np.inf, values), "not positive numbers, the first inf"),
        (lambda values: values[:30], "30 latencies do not belong to genomes of shape"),
    ],
)
def test_unusable_latencies_get_a_sentence(change: Any, message: str) -> None:
    genomes, latency_ms = measure(WIDE, 40, 0.02)
    with pytest.raises(PredictorError, match=message):
        fit_predictor(WIDE, genomes, change(latency_ms), None, make_target(), "int8", 0.02)


def test_too_few_different_subnets_get_a_sentence() -> None:
    genomes, latency_ms = measure(WIDE, 9, 0.02)
    for rows in (np.arange(9), np.arange(40) % 9):
        with pytest.raises(PredictorError, match="9 measurements of different subnets; a predictor needs at least 10"):
            fit_predictor(WIDE, genomes[rows], latency_ms[rows], None, make_target(), "int8", 0.02)
    with pytest.raises(PredictorError, match="0 measurements of different subnets"):
        fit_predictor(WIDE, genomes[:0], latency_ms[:0], None, make_target(), "int8")


def test_genomes_of_another_space_get_a_sentence() -> None:
    genomes, latency_ms = measure(WIDE, 40, 0.02)
    smaller = WIDE.restrict(ffn_size=WIDE.ffn_size[:3])
    with pytest.raises(PredictorError, match="not in the search space; it has changed since"):
        fit_predictor(smaller, genomes, latency_ms, None, make_target(), "int8")
    with pytest.raises(PredictorError, match="precision 'int4' is unknown"):
        fit_predictor(WIDE, genomes, latency_ms, None, make_target(), "int4")
    with pytest.raises(PredictorError, match="the target cannot be used: a target needs at least one workload"):
        fit_predictor(WIDE, genomes, latency_ms, None, make_target(workloads=()), "int8")


@pytest.mark.slow
def test_absurd_values_do_no_harm() -> None:
    genomes, latency_ms = measure(WIDE, 60, 0.02)
    latency_ms[[5, 6]] = 1e-9, 1e12
    predictor = fit_predictor(WIDE, genomes, latency_ms, np.full(60, np.nan), make_target(), "int8")
    assert predictor.quality.outliers == 2
    assert error_of(predictor) < 0.02
