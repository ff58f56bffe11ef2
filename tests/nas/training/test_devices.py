"""What trains on a GPU, on a device that any machine has: nothing there meets a tensor of the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.training.engine import StateFiles
from tests.nas.training.elsewhere import ELSEWHERE, ElsewhereTensor, elsewhere
from tests.nas.training.every_training import train_all
from tests.networks import SHAPES

_CASES = [*((head, "bert") for head in HEADS), *(("classification", family) for family in SHAPES if family != "bert")]


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """States of tensors without memory cannot be written, and the fused AdamW is for devices that exist."""
    adam = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, lr, fused: adam(groups, lr=lr, foreach=False))
    monkeypatch.setattr(StateFiles, "save", lambda *_: None)
    with elsewhere():
        yield


@pytest.mark.slow
@pytest.mark.parametrize(("head", "family"), _CASES)
def test_trainings_on_a_device_are_those_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, family: str
) -> None:
    results = []
    for device in (torch.device("cpu"), ELSEWHERE):
        monkeypatch.setattr(Accelerator, "device", device)
        results.append(train_all(tmp_path / device.type, device, head, SHAPES[family]))
    expected, computed = results
    assert computed.keys() == expected.keys()
    for name, tensor in expected.items():
        # Attention is computed otherwise there, and a fit to few texts makes more of rounding.
        torch.testing.assert_close(computed[name], tensor, atol=2e-3, rtol=1e-2, msg=name)


def test_the_device_refuses_to_meet_the_cpu() -> None:
    there = torch.ones(3).to(ELSEWHERE)
    assert isinstance(there, ElsewhereTensor)
    with pytest.raises(RuntimeError, match="tensors of two devices"):
        there + torch.ones(3)
    assert torch.equal((there * torch.arange(3, device=ELSEWHERE)).cpu(), torch.arange(3.0))
