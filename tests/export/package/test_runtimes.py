"""Packages that were timed with OpenVINO, and packages that are run with another runtime than that."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ortnas.bench.openvino_runtime import FACTS, RuntimeMissingError, installed_version
from ortnas.bench.session import OPENVINO, Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.inference import Drift
from ortnas.export.package.package import write_package
from ortnas.export.package.record import Coverage, read_record
from ortnas.export.package.verify import verify
from ortnas.export.package.verify_command import main
from tests.export.packages import make_content

needs_openvino = pytest.mark.skipif(installed_version() is None, reason="openvino is not installed")
TEXTS = ["he was in it, with them.", "it was not."]


@pytest.fixture(scope="module")
def openvino_package(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """As the export stage writes it where the target's runtime is OpenVINO."""
    folder = tmp_path_factory.mktemp("openvino")
    content = make_content(folder, "bert", "classification", sentences)
    workload = Workload(1, 16, content.facts.target.workloads[0].vocab_size)
    fingerprint = {"cpu": "a processor", **dict(zip(FACTS, (OPENVINO, "2026.0", "2026.0-1", "f32"), strict=True))}
    facts = replace(
        content.facts,
        target=Target(fingerprint, Setup.for_openvino(), (workload,)),
        coverage=Coverage(threshold=None, weight_integer_share=1.0),
        runtime_drift=Drift(largest=0.02, mean=0.001, cosine=0.99991, flips=0.0),
    )
    write_package(folder / "package", replace(content, facts=facts))
    return folder / "package"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ortnas.export.package.verify._PAUSE_S", 0.0)


def predict(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(package / "predict.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_record_and_the_card_name_the_runtime_and_its_drift(openvino_package: Path) -> None:
    record = read_record(openvino_package)
    assert record.target.setup.runtime == OPENVINO
    assert record.runtime_drift == Drift(0.02, 0.001, 0.99991, 0.0)
    card = (openvino_package / "README.md").read_text()
    assert "OpenVINO 2026.0" in card
    assert "0.001 on average and 0.02 at most (cosine 0.9999)" in " ".join(card.split())


def test_a_package_of_a_runtime_that_is_not_installed_is_not_judged(
    openvino_package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(runtime: str) -> dict[str, object]:
        raise RuntimeMissingError("OpenVINO is not installed: python -m pip install openvino")

    monkeypatch.setattr("ortnas.export.package.verify.fingerprint", missing)
    last = verify(openvino_package)[-1]
    assert (last.name, last.state) == ("OpenVINO", "unknown")
    assert "pip install openvino; or check it with --runtime onnxruntime" in last.detail
    assert main([str(openvino_package)]) == 3
    assert "cannot tell" in capsys.readouterr().out


def test_it_is_checked_with_onnxruntime_where_that_is_asked_for(
    openvino_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = {check.name: check for check in verify(openvino_package, "onnxruntime")}
    assert checks["ONNX Runtime"].state == "warn"
    assert "timed with OpenVINO" in checks["ONNX Runtime"].detail
    assert checks["host"].state == "warn"
    assert " against 1000.00 ms" in checks["latency"].detail
    assert checks["score"].state == "pass"


def test_predict_says_what_to_install_or_takes_another_runtime(openvino_package: Path, tmp_path: Path) -> None:
    answer = predict(openvino_package, "--runtime", "onnxruntime", *TEXTS)
    assert [json.loads(line)["text"] for line in answer.stdout.splitlines()] == TEXTS
    wrong = predict(openvino_package, "--runtime", "tensorflow", *TEXTS)
    assert wrong.returncode == 1
    assert wrong.stderr == "no runtime is called 'tensorflow'; there is onnxruntime and openvino\n"
    if installed_version() is None:
        missing = predict(openvino_package, *TEXTS)
        assert missing.returncode == 1
        assert missing.stderr.startswith("openvino is not installed; install it with `")
        assert "--runtime onnxruntime" in missing.stderr
        assert missing.stderr.count("\n") == 1


@needs_openvino
def test_predict_gives_the_probabilities_of_onnxruntime(openvino_package: Path) -> None:
    outputs = []
    for options in ([], ["--runtime", "onnxruntime"]):
        answer = predict(openvino_package, *options, *TEXTS)
        assert answer.returncode == 0, answer.stderr
        outputs.append([json.loads(line)["output"] for line in answer.stdout.splitlines()])
    for openvino, onnxruntime in zip(*outputs, strict=True):
        assert openvino == pytest.approx(onnxruntime, abs=0.02)


@needs_openvino
@pytest.mark.parametrize("runtime", [None, OPENVINO])
def test_a_package_is_checked_with_openvino(
    openvino_package: Path, classifier_package: Path, runtime: str | None
) -> None:
    """Its own where it was timed with it, and one of ONNX Runtime where that is asked for."""
    package = classifier_package if runtime else openvino_package
    digest = hashlib.sha256((package / "model.onnx").read_bytes()).hexdigest()
    checks = {check.name: check for check in verify(package, runtime)}
    assert checks["load"].state == "pass"
    assert "integer kernels" not in checks
    assert checks["OpenVINO"].state == "warn"  # another release, or another runtime
    assert checks["score"].state == "pass", checks["score"].detail
    assert "latency" in checks
    assert digest == hashlib.sha256((package / "model.onnx").read_bytes()).hexdigest()
