"""A package that was timed with float products in bfloat16, on a processor that has them, where there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ortnas.bench import fastmath
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.export.build import Exporter
from ortnas.export.inference import Drift, load, load_for
from ortnas.export.package.package import write_package
from ortnas.export.package.record import read_record
from ortnas.export.package.verify import verify
from ortnas.export.weights import SupernetFolder
from ortnas.nas.stages.packaging import drift_between_runtimes
from tests.export.packages import make_content
from tests.networks import HOST_RECIPE, make_dimensions, make_space, random_feeds, random_tensors

SETUP = Setup(fastmath_bfloat16=True)
without_bfloat16 = pytest.mark.skipif(not fastmath.obstacle(fingerprint()), reason="this processor has them")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """As the export stage writes it on an Arm processor."""
    folder = tmp_path_factory.mktemp("bfloat16")
    content = make_content(folder, "bert", "classification", sentences)
    processor = {"cpu": "Arm Neoverse V1", "machine": "aarch64", "system": "Linux", "isa": ["asimddp", "i8mm", "bf16"]}
    target = Target(fingerprint() | processor, SETUP, content.facts.target.workloads)
    facts = replace(content.facts, target=target, budget_ms=60_000.0, runtime_drift=Drift(0.03, 0.002, 0.99987, 0.0))
    write_package(folder / "package", replace(content, facts=facts))
    return folder / "package"


def test_the_record_and_the_card_tell_of_it(package: Path) -> None:
    assert read_record(package).target.setup == SETUP
    card = " ".join((package / "README.md").read_text().split())
    assert "float products in bfloat16" in card
    assert "ONNX Runtime with products in bfloat16 computes outputs that differ from its own in float32" in card
    assert f"model.onnx with session entry {fastmath.ENTRY} = 1" in card


def test_predict_opens_its_session_with_it(package: Path) -> None:
    """The library in between says what it was asked for."""
    script = (
        "import onnxruntime, runpy, sys\n"
        "class Options(onnxruntime.SessionOptions):\n"
        "    def add_session_config_entry(self, *entry):\n"
        "        print(*entry, file=sys.stderr)\n"
        "        super().add_session_config_entry(*entry)\n"
        "onnxruntime.SessionOptions = Options\n"
        "sys.argv = ['predict.py', 'he was in it']\n"
        f"runpy.run_path({str(package / 'predict.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == f"{fastmath.ENTRY} 1\n"
    assert json.loads(done.stdout)["text"] == "he was in it"


@without_bfloat16
def test_verify_says_that_this_processor_computes_otherwise(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ortnas.export.package.verify._PAUSE_S", 0.0)
    checks = {check.name: check for check in verify(package)}
    assert checks["host"].state == "warn"
    assert "fastmath_bfloat16: True, here None" in checks["host"].detail
    assert checks["load"].detail == "a session with CPUExecutionProvider and 1 thread(s)"
    assert {name for name, check in checks.items() if check.state == "fail"} == set()


def test_models_are_scored_as_the_target_computes(classifier_package: Path) -> None:
    model = (classifier_package / "model.onnx").read_bytes()
    options = load_for(model, SETUP).get_session_options()  # type: ignore[attr-defined]
    assert options.get_session_config_entry(fastmath.ENTRY) == "1"
    with pytest.raises(RuntimeError):
        load(model).get_session_options().get_session_config_entry(fastmath.ENTRY)


def test_what_bfloat16_changes_is_measured_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dimensions = make_dimensions("classification")
    folder = SupernetFolder(Path("nowhere"), dimensions, make_space(), random_tensors(dimensions), (), {}, "")
    exporter = Exporter(folder, HOST_RECIPE, [random_feeds(dimensions)])
    model = exporter.build(make_space().smallest, "fp32")
    assert drift_between_runtimes(exporter, model, Setup()) is None
    for obstacle in ("no such instructions", ""):
        monkeypatch.setattr(fastmath, "obstacle", lambda _, obstacle=obstacle: obstacle)
        drift = drift_between_runtimes(exporter, model, SETUP)
        assert (drift is None) is bool(obstacle)
