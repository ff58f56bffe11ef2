from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest
import torch

from ortnas.nas.training.batches import Batch
from ortnas.nas.training.engine import Losses, optimise
from ortnas.nas.training.free_memory import HoleWatch, release_free_memory
from tests.nas.training.courses import make_course

_MEGABYTE = 2**20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)


def make_holes(megabytes: int = 350) -> list[torch.Tensor]:
    """So much free memory between tensors that are in use."""
    # Freed once, a block of this size comes from the heap ever after.
    torch.ones(4 * _MEGABYTE)
    return [torch.ones(_MEGABYTE // 4) for _ in range(megabytes * 8 // 7)][::8]


def test_holes_between_tensors_that_are_in_use_are_given_back() -> None:
    kept = make_holes()
    before = resident_bytes()
    release_free_memory()
    assert before - resident_bytes() > 200 * _MEGABYTE
    assert all(bool((tensor == 1).all()) for tensor in kept)


def test_holes_are_given_back_once_they_are_large() -> None:
    release_free_memory()
    watch = HoleWatch()
    watch.after_step()
    kept = make_holes(500)
    before = resident_bytes()
    watch.after_step()
    assert before - resident_bytes() < 50 * _MEGABYTE
    kept += make_holes(1300)
    before = resident_bytes()
    watch.after_step()
    assert before - resident_bytes() > 800 * _MEGABYTE
    assert len(kept) > 200


def test_a_training_begins_without_the_holes_of_what_came_before_it(tmp_path: Path) -> None:
    network, course = torch.nn.Linear(4, 1), make_course(tmp_path, 1, head="classification")
    at_first_step: list[int] = []

    def gradients(_batch: Batch, _weight: float, losses: Losses, _step: int) -> None:
        at_first_step.append(resident_bytes())
        loss = network(torch.ones(1, 4)).sum()
        losses.add("linear", loss)
        loss.backward()

    kept = make_holes()
    before = resident_bytes()
    schedule = course.batches.schedule
    optimise(course.accelerator, (network,), gradients, course.batches, schedule, course.states, course.after_step)
    assert before - at_first_step[0] > 200 * _MEGABYTE
    assert len(kept) == 50
