from __future__ import annotations

import numpy as np
import pytest

from ortnas.predictors.prior import fit_prior


def make_rows(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    terms = rng.uniform(0.5, 5, (n, 6)) * np.array([1, 10, 100, 1, 10, 100])
    prices = np.array([1.0, 0.2, 0.03, 0.5, 0.0, 0.01])
    return terms, terms @ prices * np.exp(noise * rng.standard_normal(n)), prices


START = 1 / np.array([1, 10, 100, 1, 10, 100.0])


def test_prices_are_found_and_never_negative() -> None:
    terms, latency_ms, prices = make_rows(200, 0.001)
    prior = fit_prior(terms, latency_ms, None, START, freedom=10)
    np.testing.assert_allclose(prior.prices, prices, atol=0.03 * START.max(), rtol=0.05)
    assert (prior.prices >= 0).all()
    assert prior.scatter < 0.004


def test_a_few_measurements_off_by_ten_do_not_move_it() -> None:
    terms, latency_ms, _ = make_rows(100, 0.02)
    clean = fit_prior(terms, latency_ms, None, START).latency_ms(terms)
    wrong = latency_ms.copy()
    wrong[:3] *= 10
    wrong[3:5] /= 10
    moved = fit_prior(terms, wrong, None, START).latency_ms(terms)
    assert np.abs(moved / clean - 1).mean() < 0.015
    assert np.abs(moved / clean - 1).max() < 0.06


def test_uncertain_measurements_count_less() -> None:
    terms, latency_ms, prices = make_rows(60, 0.005)
    errors = np.full(60, 0.005)
    errors[:20] = 0.2
    latency_ms[:20] *= np.exp(0.2 * np.random.default_rng(5).standard_normal(20))
    weighed = fit_prior(terms, latency_ms, errors, START).latency_ms(terms)
    alike = fit_prior(terms, latency_ms, None, START).latency_ms(terms)
    truth = terms @ prices
    assert np.abs(weighed / truth - 1).mean() < np.abs(alike / truth - 1).mean()


def test_without_freedom_only_the_scale_is_fitted() -> None:
    terms, latency_ms, _ = make_rows(12, 0.1)
    prior = fit_prior(terms, latency_ms, None, START, freedom=0)
    assert np.ptp(prior.prices / START) < 1e-9
    assert np.median(np.log(latency_ms / prior.latency_ms(terms))) == pytest.approx(0, abs=1e-9)


def test_deviation_grows_away_from_what_was_measured() -> None:
    terms, latency_ms, _ = make_rows(40, 0.01)
    terms[:, 0] = 1.0
    prior = fit_prior(terms, latency_ms, None, START)
    usual, strange = terms[:1], terms[:1].copy()
    strange[0, 0] = 300.0
    near = prior.deviation(usual, prior.latency_ms(usual))[0]
    far = prior.deviation(strange, prior.latency_ms(strange))[0]
    assert far > 1.5 * near
    assert near >= prior.scatter


def test_few_measurements_stay_near_where_the_fit_starts() -> None:
    terms, latency_ms, prices = make_rows(8, 0.05)
    fresh_terms, fresh_ms, _ = make_rows(200, 0.0, seed=7)
    near_truth = np.maximum(prices, 0.002)
    held = fit_prior(terms, latency_ms, None, near_truth, freedom=0.2).latency_ms(fresh_terms)
    loose = fit_prior(terms, latency_ms, None, near_truth, freedom=50).latency_ms(fresh_terms)
    assert np.abs(held / fresh_ms - 1).mean() < np.abs(loose / fresh_ms - 1).mean()
