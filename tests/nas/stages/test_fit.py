from __future__ import annotations

import numpy as np
import pytest

from bench.timing import Timing
from nas.stages.fit import noise_floor


def test_noise_floor_is_what_repeating_a_measurement_shows() -> None:
    rng = np.random.default_rng(0)

    def measure() -> Timing:
        # The host's speed wanders between samples; subnet and anchor are timed at different moments.
        subnet, anchor = (2e6 * np.exp(0.1 * rng.standard_normal(40)) for _ in range(2))
        return Timing(tuple(map(int, subnet)), tuple(map(int, anchor)), 2.0)

    first, second = ({str(row): measure() for row in range(400)} for _ in range(2))
    repeated = np.mean([abs(first[key].latency_ms / second[key].latency_ms - 1) for key in first])
    assert noise_floor(first) == pytest.approx(repeated, rel=0.15)
