from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from ortnas.nas.architecture.positions import (
    BUCKETS,
    bucket_of,
    log_bucket_of,
    relative_rows,
    ring_of_buckets,
)


def test_buckets_are_those_of_transformers() -> None:
    distances = np.arange(-9000, 9001)
    expected = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances), num_buckets=BUCKETS).numpy()
    np.testing.assert_array_equal(bucket_of(distances), expected)
    assert set(expected) == set(range(BUCKETS)) - {BUCKETS // 2}


def test_the_ring_goes_forward_and_comes_back_from_behind() -> None:
    np.testing.assert_array_equal(ring_of_buckets(3), bucket_of(np.array([0, 1, 2, -3, -2, -1])))


@pytest.mark.parametrize(("buckets", "farthest"), [(256, 512), (8, 40), (4, 16), (64, 200), (511, 512), (256, 24528)])
def test_logarithmic_buckets_are_those_of_transformers(buckets: int, farthest: int) -> None:
    distances = np.arange(1 - farthest, farthest)
    expected = make_log_bucket_position(torch.from_numpy(distances), buckets, farthest).long().numpy()
    computed = log_bucket_of(distances, buckets, farthest)
    np.testing.assert_array_equal(computed, expected)
    np.testing.assert_array_equal(computed, -computed[::-1])


def test_rows_of_positions_fall_for_keys_and_rise_for_queries() -> None:
    assert relative_rows(3, 8, 40, "key").tolist() == [10, 9, 8, 7, 6, 5]
    assert relative_rows(3, 8, 40, "query").tolist() == [6, 7, 8, 9, 10, 11]
    # Beyond the farthest distance all are in the last bucket.
    assert relative_rows(200, 8, 40, "key")[0] == 15
    assert relative_rows(200, 8, 40, "query")[0] == 0
