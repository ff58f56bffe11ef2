"""Kinds of positions that depend on how far two tokens are apart, and turns by a token's own."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

BUCKETS = 32
# From here on all are in the last bucket.
_FARTHEST = 128


def bucket_of(distances: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Buckets of signed distances, key minus query: half of them for each sign; near distances have one each, far ones
    share them on a logarithmic scale (Raffel et al. 2020, "T5"; Song et al. 2020, "MPNet")."""
    size = np.abs(distances)
    each_sign = BUCKETS // 2
    exact = each_sign // 2
    # In float32, as MPNet was trained: at the limits of buckets the rounding decides.
    share = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact)) / np.float32(math.log(_FARTHEST / exact))
    far = np.minimum(exact + (share * np.float32(each_sign - exact)).astype(np.int64), each_sign - 1)
    buckets: npt.NDArray[np.int64] = np.where(size < exact, size, far) + each_sign * (distances > 0)
    return buckets


def ring_of_buckets(length: int) -> npt.NDArray[np.int64]:
    """Buckets (2 * length,) of the distances 0 to length - 1, then of -length to -1."""
    return bucket_of(np.concatenate([np.arange(length), np.arange(-length, 0)]))


def log_bucket_of(distances: npt.NDArray[np.int64], buckets: int, farthest: int) -> npt.NDArray[np.int64]:
    """Signed buckets, from ``-buckets`` to ``buckets``, of signed distances, query minus key: up to half of them are
    the distance itself, from there to ``farthest`` they grow with its logarithm (He et al. 2021, "DeBERTa", in its
    second version)."""
    size, exact = np.abs(distances), buckets // 2
    # In float32, as DeBERTa was trained: at the limits of buckets the rounding decides.
    limit = np.log(np.float32((farthest - 1) / exact))
    share = np.log(np.maximum(size, exact).astype(np.float32) / np.float32(exact)) / limit
    far = np.ceil(share * np.float32(exact - 1)).astype(np.int64) + exact
    signed: npt.NDArray[np.int64] = np.where(size <= exact, distances, np.sign(distances) * far)
    return signed


def relative_rows(length: int, buckets: int, farthest: int, part: Literal["query", "key"]) -> npt.NDArray[np.int64]:
    """Rows (2 * length,) of a table of ``2 * buckets`` positions by the distance of two of ``length`` tokens.

    For position keys, which meet queries, distances (query minus key) fall from length - 1; for position queries,
    which meet keys, they rise from 1 - length. In both, the row of a pair is ``length - 1 + other - own``, of the
    places of the token that looks it up and of the other one.
    """
    distances = np.arange(length - 1, -length - 1, -1) if part == "key" else np.arange(1 - length, length + 1)
    rows: npt.NDArray[np.int64] = np.clip(log_bucket_of(distances, buckets, farthest) + buckets, 0, 2 * buckets - 1)
    return rows


def frequencies(theta: float, head_size: int) -> npt.NDArray[np.float32]:
    """Radians a position (head_size / 2,), of each pair of entries (Su et al. 2021, "RoFormer")."""
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    return (1 / np.float32(theta) ** exponents).astype(np.float32)
