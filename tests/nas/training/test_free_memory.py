from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest
import torch

from ortnas.nas.training.free_memory import release_free_memory

_MEGABYTE = 2**20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(
    platform.system() != "Linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_holes_between_tensors_that_are_in_use_are_given_back() -> None:
    # Freed once, a block of this size comes from the heap ever after.
    torch.ones(4 * _MEGABYTE)
    tensors = [torch.ones(_MEGABYTE // 4) for _ in range(400)]
    kept = tensors[::8]
    del tensors
    before = resident_bytes()
    release_free_memory()
    assert before - resident_bytes() > 200 * _MEGABYTE
    assert all(bool((tensor == 1).all()) for tensor in kept)
