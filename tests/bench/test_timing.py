from __future__ import annotations

import json

import numpy as np
import pytest

from bench.timing import (
    PROVIDERS,
    Protocol,
    Setup,
    Timing,
    Workload,
    anchor_reference_ms,
    make_inputs,
    make_session,
    time_interleaved,
)
from export.graph import float_model
from tests.networks import make_dimensions, make_space, random_tensors


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    dimensions, space = make_dimensions(), make_space()
    tensors = random_tensors(dimensions)
    subnets = {"small": space.smallest, "large": space.largest}
    return {name: float_model(tensors, dimensions, subnet).SerializeToString() for name, subnet in subnets.items()}


def test_setups_survive_json() -> None:
    for setup in (Setup(), Setup(PROVIDERS["openvino"], 2, (("device_type", "CPU"), ("num_of_threads", "1")))):
        assert Setup.from_json(json.loads(json.dumps(setup.to_json()))) == setup


def test_drift_of_the_host_is_taken_out() -> None:
    calm = Timing((1_000_000,) * 8, (2_000_000,) * 8, reference_ms=2.0)
    slow = Timing((1_500_000,) * 8, (3_000_000,) * 8, reference_ms=2.0)
    assert slow.drift == pytest.approx(1.5)
    assert slow.latency_ms == pytest.approx(calm.latency_ms) == pytest.approx(1.0)


def test_percentiles_spread_and_bound_come_from_the_raw_samples() -> None:
    samples = tuple(int(value) for value in np.linspace(1e6, 2e6, 101))
    timing = Timing(samples, (1_000_000,), 1.0)
    assert timing.latency_ms == pytest.approx(1.5)
    assert timing.spread_ms == pytest.approx(0.25)
    assert timing.percentile_ms(95) == pytest.approx(1.95)
    assert 1.5 < timing.upper_ms < 1.65


def test_the_bound_of_the_median_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.gamma(4, 250_000, (2000, 60)).astype(int)
    median_ms = float(np.median(rng.gamma(4, 250_000, 1_000_000))) / 1e6
    covered = np.mean([Timing(tuple(row), (1_000_000,), 1.0).upper_ms >= median_ms for row in draws])
    assert 0.93 <= covered <= 0.99


def test_anchor_reference_is_the_median_of_medians() -> None:
    assert anchor_reference_ms([[1_000_000, 9_000_000, 1_000_000], [3_000_000], [2_000_000]]) == pytest.approx(2.0)


def test_models_are_timed_in_turn_with_raw_samples_kept(models: dict[str, bytes]) -> None:
    sessions = {name: make_session(model, Setup()) for name, model in models.items()}
    samples = time_interleaved(sessions, Workload(2, 16, 120), Protocol(warmup=1, rounds=5, runs=3))
    assert {name: len(values) for name, values in samples.items()} == {"small": 15, "large": 15}
    assert min(map(min, samples.values())) > 0
    assert min(samples["small"]) < min(samples["large"])


def test_a_provider_that_is_not_there_is_refused(models: dict[str, bytes]) -> None:
    refused = pytest.raises(ValueError, match="MadeUpExecutionProvider is not available here; there is CPU")
    with pytest.warns(UserWarning, match="not in available provider names"), refused:
        make_session(models["small"], Setup(provider="MadeUpExecutionProvider"))


def test_inputs_are_varied_ids_without_padding(models: dict[str, bytes]) -> None:
    inputs = make_inputs(make_session(models["small"], Setup()), Workload(3, 20, 120), seed=0)
    assert inputs["input_ids"].shape == (3, 20)
    assert len(np.unique(inputs["input_ids"])) > 20
    assert inputs["input_ids"].min() > 0
    assert inputs["attention_mask"].all()
