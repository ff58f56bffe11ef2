from __future__ import annotations

import numpy as np
import torch
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from ortnas.nas.architecture.positions import BUCKETS, bucket_of, ring_of_buckets


def test_buckets_are_those_of_transformers() -> None:
    distances = np.arange(-9000, 9001)
    expected = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances), num_buckets=BUCKETS).numpy()
    np.testing.assert_array_equal(bucket_of(distances), expected)
    assert set(expected) == set(range(BUCKETS)) - {BUCKETS // 2}


def test_the_ring_goes_forward_and_comes_back_from_behind() -> None:
    np.testing.assert_array_equal(ring_of_buckets(3), bucket_of(np.array([0, 1, 2, -3, -2, -1])))
