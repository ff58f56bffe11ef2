from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ortnas.nas.console import Console
from tests.gpu import check
from tests.gpu.check import CHECKS, NO_GPU, Bench, FailedError, run_checks
from tests.gpu.commands import ROOT
from tests.gpu.trainings import HEADS_FILE


def training(device: str, last_loss: float = 0.5, scale: float | None = None) -> dict[str, Any]:
    losses = [2.0, 1.5, 1.0, last_loss]
    step_ms, gpu_bytes = (5.0, 3_000_000_000) if device == "cuda" else (50.0, 0)
    return {"device": device, "losses": losses, "step_ms": step_ms, "gpu_bytes": gpu_bytes, "loss_scale": scale}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """With results of trainings as a machine with a GPU gives them."""
    bench = Bench(tmp_path, "tiny", has_gpu=True)
    on_gpu = {"no": training("cuda"), "bf16": training("cuda", 0.51), "fp16": training("cuda", 0.49, 32768.0)}
    bench._documents = {
        "gpu": {**on_gpu, "heads": None, "memory": None},
        "cpu": {"no": training("cpu", 0.5001), "heads": None},
    }
    for device in ("gpu", "cpu"):
        (tmp_path / device).mkdir()
        save_file({"span:head": torch.ones(3), "sparse:head": torch.zeros(3)}, tmp_path / device / HEADS_FILE)
    return bench


@pytest.mark.slow
def test_without_a_gpu_the_rest_is_checked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.check", "--cpu", "--size", "tiny", "--folder", str(tmp_path / "all")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    last = done.stdout.splitlines()[-1] if done.stdout else ""
    assert done.returncode == 0, last + done.stderr[-2000:]
    answer = json.loads(last)
    assert answer["checks"] == {name: NO_GPU if needs_gpu else "pass" for name, _, needs_gpu in CHECKS}
    assert answer["figures"]["resumed_distance"] == 0
    assert 0 < answer["figures"]["processes_distance"] < 0.05


def test_what_a_gpu_should_give_passes(bench: Bench) -> None:
    assert check.check_losses(bench) == "2.0e-04 at most in 4 steps"
    assert check.check_bfloat16(bench) == "loss 0.5100, float32 0.5000"
    assert check.check_float16(bench).endswith("loss scale 32768")
    assert check.check_heads(bench) == "2 heads, 0.0e+00 at most"
    assert check.check_memory_advice(bench) == "what was advised fits"
    assert check.check_speed(bench).startswith("10.0x")
    assert check.check_memory(bench) == "no 3.00 GB, bf16 3.00 GB, fp16 3.00 GB"


def test_what_a_gpu_should_not_give_fails_in_a_sentence(bench: Bench) -> None:
    good = copy.deepcopy(bench._documents)
    trainings = bench._documents["gpu"]
    trainings["no"]["losses"][0] = 2.01
    with pytest.raises(FailedError, match=r"differ from those on the CPU by 0\.005 at the first step"):
        check.check_losses(bench)
    trainings["bf16"]["losses"][2] = float("nan")
    with pytest.raises(FailedError, match="bf16: the loss is not finite at step 2"):
        check.check_bfloat16(bench)
    trainings["fp16"]["losses"][3] = 0.6
    with pytest.raises(FailedError, match=r"fp16: the loss ends at 0\.6, in float32 at 0\.5, from 2"):
        check.check_float16(bench)
    bench._documents = good | {"gpu": good["gpu"] | {"memory": {"error": "TrainingError: no advice was given"}}}
    with pytest.raises(FailedError, match="on the GPU: TrainingError: no advice was given"):
        check.check_memory_advice(bench)
    save_file({"span:head": torch.ones(3), "sparse:head": torch.ones(3)}, bench.folder / "gpu" / HEADS_FILE)
    with pytest.raises(FailedError, match="sparse:head: after all trainings 1 from what the CPU gives"):
        check.check_heads(bench)


def test_one_failure_is_one_sentence_and_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Bench) -> str:
        raise ValueError("no such thing\nat all")

    def wrong(_: Bench) -> str:
        raise FailedError("it is too large")

    monkeypatch.setattr(
        check, "CHECKS", (("a", lambda _: "0.5", False), ("b", wrong, False), ("c", broken, False), ("d", wrong, True))
    )
    assert run_checks(Bench(tmp_path, "tiny", has_gpu=False), Console()) == 1
    lines = capsys.readouterr().out.splitlines()
    answer = json.loads(lines[-1])
    assert answer["checks"] == {"a": "pass", "b": "FAIL", "c": "FAIL", "d": NO_GPU}
    assert answer["failed"] == {"b": "it is too large", "c": "ValueError: no such thing"}
    assert "b: it is too large" in lines
