"""What a run asks of its host's processor, and when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages import commands, pipeline
from tests.networks import make_dimensions

ARM = {"cpu": "Arm Neoverse N1", "machine": "aarch64", "system": "Linux", "isa": ["asimddp"]}
ON_ARM = {"quantization": {"recipe": "arm64_dotprod"}}
TARGET = {"host": "simulated", "lengths": "full", "sequence": 16}
FAST = {"target": TARGET | {"fastmath_bfloat16": True}}


def open_run(folder: Path, changes: Mapping[str, Any], processor: Mapping[str, Any] | None = None) -> Run:
    """On the simulated host, an x86-64 machine unless another processor is given."""
    document = {
        "checkpoint": "nowhere",
        "head": "embedding",
        "data": {"source": "texts.txt"},
        "folder": str(folder),
        "target": TARGET,
    }
    run = Run(check_configuration(document | changes, "test"), Console(to_stderr=True))
    if processor is not None:
        hello = run.target.host.hello()
        answer = hello | {"fingerprint": hello["fingerprint"] | processor}
        run.target.host.hello = lambda: answer  # type: ignore[method-assign]
    return run


@pytest.mark.parametrize(
    ("changes", "processor", "sentence"),
    [
        (ON_ARM, None, "quantization.recipe: 'arm64_dotprod' is for Arm64 processors, and the host is x86_64; "),
        (
            {"quantization": {"recipe": "amx"}},
            ARM,
            "quantization.recipe: 'amx' is for x86-64 processors, and the host",
        ),
        ({"quantization": {"recipe": "sse"}}, None, "quantization.recipe: unknown quantization recipe 'sse'"),
        (FAST, None, "target.fastmath_bfloat16: ONNX Runtime has bfloat16 fast math on 64-bit Arm under Linux alone"),
        (FAST, ARM, "target.fastmath_bfloat16: Arm Neoverse N1 has no bfloat16 instructions"),
    ],
)
def test_what_a_processor_cannot_do_is_refused_before_anything_is_read(
    tmp_path: Path, changes: Mapping[str, Any], processor: Mapping[str, Any] | None, sentence: str
) -> None:
    """Neither checkpoint nor texts are there."""
    run = open_run(tmp_path, changes, processor)
    with pytest.raises(ConfigurationError, match=sentence):
        pipeline.run_all(run)
    with pytest.raises(ConfigurationError, match=sentence):
        run.target.of(make_dimensions())
    run.close()


@pytest.mark.parametrize(
    ("changes", "processor"),
    [
        (ON_ARM, ARM),
        ({"quantization": {"recipe": "avx2"}}, None),
        ({"quantization": {"recipe": "generic"}}, ARM),
        (ON_ARM | {"precision": "fp32"}, None),
        (FAST, ARM | {"isa": ["asimddp", "bf16"]}),
    ],
)
def test_what_suits_the_processor_is_taken(
    tmp_path: Path, changes: Mapping[str, Any], processor: Mapping[str, Any] | None
) -> None:
    run = open_run(tmp_path, changes, processor)
    run.target.check()
    run.close()


def test_a_bundle_goes_to_another_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(tmp_path, ON_ARM | FAST)
    monkeypatch.setattr(
        "ortnas.nas.stages.bundles.bundle", lambda *_: {"setup": run.target.of(make_dimensions()).setup.to_json()}
    )
    assert commands.bundle(run, tmp_path / "bundle.pyz")["setup"]["fastmath_bfloat16"] is True
    run.close()
