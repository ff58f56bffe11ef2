from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ortnas.bench.estimates import AnchorLatency, Timing, anchor_latency_of, noise_floor
from ortnas.bench.timing import Samples, Workload

REFERENCE = AnchorLatency((2.0,), (1.0,))


def visit(*parts: tuple[npt.ArrayLike, npt.ArrayLike]) -> Samples:
    """One visit; each part is (model ms, anchor ms)."""
    rows = [np.broadcast_arrays(model, anchor) for model, anchor in parts]
    model, anchor = (tuple(tuple(int(ms * 1e6) for ms in np.atleast_1d(row[i])) for row in rows) for i in (0, 1))
    return Samples(model, anchor)


def test_drift_of_the_host_is_taken_out() -> None:
    calm = Timing((visit(([1.0] * 8, 2.0)),), REFERENCE)
    slow = Timing((visit(([1.5] * 8, 3.0)),), REFERENCE)
    assert slow.drift == pytest.approx(1.5)
    assert slow.latency_ms == pytest.approx(calm.latency_ms) == pytest.approx(1.0)
    changing = np.linspace(1, 3, 50)
    assert Timing((visit((changing, 2 * changing)),), REFERENCE).latency_ms == pytest.approx(1.0)


def test_percentiles_and_spread_come_from_the_raw_samples() -> None:
    timing = Timing((visit((np.linspace(1, 2, 101), 1.0)),), AnchorLatency((1.0,), (1.0,)))
    assert timing.latency_ms == pytest.approx(1.5)
    assert timing.spread_ms == pytest.approx(0.25)
    assert timing.percentile_ms(95) == pytest.approx(1.95)


def test_the_mean_counts_what_the_median_passes_over() -> None:
    rows = [1.0] * 9 + [11.0], [2.0] * 9 + [40.0]
    timing = Timing((visit(rows), visit(([2.0] * 10, 4.0))), AnchorLatency((2.0,), (1.0,)))
    assert timing.visits_ms == pytest.approx([1.0, 1.0])
    # The anchor's own outliers are no drift of the host.
    assert timing.mean_ms == pytest.approx((2.0 + 1.0) / 2)
    drifted = Timing((visit(([2.0] * 9 + [22.0], [4.0] * 10)),), AnchorLatency((2.0,), (1.0,)))
    assert drifted.mean_ms == pytest.approx(2.0)


def test_the_bound_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.gamma(4, 0.25, (2000, 60))
    median_ms = float(np.median(rng.gamma(4, 0.25, 1_000_000)))
    reference = AnchorLatency((1.0,), (1.0,))
    covered = np.mean([Timing((visit((row, 1.0)),), reference).upper_ms >= median_ms for row in draws])
    assert 0.93 <= covered <= 0.99


def test_sessions_that_differ_make_a_timing_less_sure_than_its_rounds() -> None:
    alike = Timing((visit(([1.0] * 40, 1.0)), visit(([1.0] * 40, 1.0))), REFERENCE)
    apart = Timing((visit(([1.0] * 40, 1.0)), visit(([1.1] * 40, 1.0))), REFERENCE)
    assert alike.error == 0
    assert apart.latency_ms == pytest.approx(2.1)
    assert apart.error == pytest.approx(0.05 / 1.05, rel=1e-3)
    assert apart.upper_ms > 2.2


def test_a_mix_is_the_weighted_mean_of_its_workloads() -> None:
    workloads = [Workload(1, 128, weight=1), Workload(1, 16, weight=3)]
    visits = [visit(([4.0] * 9, [8.0] * 9), ([1.0] * 9, [2.0] * 9))]
    reference = anchor_latency_of(visits, workloads)
    assert reference.latency_ms == pytest.approx((8 + 3 * 2) / 4)
    assert Timing(tuple(visits), reference).latency_ms == pytest.approx((4 + 3 * 1) / 4)
    assert Timing(tuple(visits), reference).percentile_ms(95) == pytest.approx((4 + 3 * 1) / 4)
    assert Timing(tuple(visits), reference).drift == pytest.approx(1)


def test_the_reference_is_the_median_of_the_anchors_medians() -> None:
    visits = [visit(([1.0] * 3, [1.0, 9.0, 1.0])), visit(([1.0], [3.0])), visit(([1.0], [2.0]))]
    assert anchor_latency_of(visits, [Workload()]).anchor_ms == pytest.approx((2.0,))


def test_the_noise_floor_is_what_repeating_the_visits_shows() -> None:
    rng = np.random.default_rng(0)

    def measure() -> Timing:
        sessions = 1 + 0.02 * rng.standard_normal(2)
        return Timing(tuple(visit(([float(luck)] * 9, 1.0)) for luck in sessions), REFERENCE)

    first, second = ([measure() for _ in range(500)] for _ in range(2))
    repeated = np.mean([abs(a.latency_ms / b.latency_ms - 1) for a, b in zip(first, second, strict=True)])
    assert noise_floor(first) == pytest.approx(repeated, rel=0.15)
    assert noise_floor([Timing((visit(([1.0] * 9, 1.0)),), REFERENCE)]) is None
