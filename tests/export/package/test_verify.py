from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from ortnas.bench.conditions import usable_processors
from ortnas.bench.timing import Samples, TimingProtocol
from ortnas.export.package.record import PackageError, read_record
from ortnas.export.package.sample import read_sample
from ortnas.export.package.verify import verify
from ortnas.nas.cli import app
from tests.export.packages import change_record, copy_of

NAMES = [
    "format",
    "files",
    "checksums",
    "ONNX Runtime",
    "load",
    "integer kernels",
    "host",
    "latency",
    "noise floor",
    "tokenizer",
    "score",
]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is looked at in several moments; here it only has to be found."""
    monkeypatch.setattr("ortnas.export.package.verify._PAUSE_S", 0.0)


def states(folder: Path) -> dict[str, str]:
    return {check.name: check.state for check in verify(folder)}


def take(monkeypatch: pytest.MonkeyPatch, *sessions_ms: float) -> None:
    """Has the six sessions of every latency take so long: a machine cannot be made quiet or busy by a test."""
    moments_ms = itertools.cycle(sessions_ms)
    monkeypatch.setattr("ortnas.export.package.verify._session_ms", lambda *arguments: next(moments_ms))


QUIET = (1.00, 1.01, 1.00, 1.02, 1.01, 1.00)
# The noise floor is 27 %.
BUSY = (1.00, 1.27, 1.10, 1.05, 1.20, 1.27)


def test_a_whole_package_passes(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = copy_of(exported, tmp_path)
    change_record(package, budget_ms=1.5)
    take(monkeypatch, *QUIET)
    state_by_check = states(package)
    assert list(state_by_check) == NAMES
    assert set(state_by_check.values()) == {"pass"}


def test_a_real_session_is_timed(classifier_package: Path) -> None:
    checks = {check.name: check for check in verify(classifier_package)}
    assert re.match(r"\d+\.\d\d ms \(\d+\.\d\d to \d+\.\d\d in 6 sessions\) against ", checks["latency"].detail)


def test_a_model_that_runs_in_floats_fails(tmp_path: Path, classifier_package: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    model = onnx.load(package / "model.onnx")
    # One product reads its weights as floats, as after a tool that undid their quantization.
    quantized = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    name = "layers/0/ffn/in.weight"
    values = quantized[f"{name}_quantized"] * quantized[f"{name}_scale"]
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    next(node for node in model.graph.node if node.name == "layers/0/ffn/in").input[1] = name
    onnx.save(model, package / "model.onnx")
    change_record(package, checksums={})
    failed = {check.name: check.detail for check in verify(package) if check.state == "fail"}
    assert "in floats: layers/0/ffn/in" in failed["integer kernels"]


def test_a_changed_byte_and_a_missing_file_fail(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    model = bytearray((package / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (package / "model.onnx").write_bytes(model)
    (package / "tokenizer.json").unlink()
    # What is not as exported is not loaded.
    form, files, checksums = verify(package)
    assert (form.state, files.state, checksums.state) == ("pass", "fail", "fail")
    assert files.detail == "tokenizer.json is missing"
    assert checksums.detail == "model.onnx was changed"


def test_a_model_that_was_not_timed_fails(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    latency = json.loads((package / "ortnas.json").read_text())["latency"]
    change_record(package, latency=latency | {"model_digest": "0" * 64})
    failed = {check.name: check.detail for check in verify(package) if check.state == "fail"}
    assert failed == {"checksums": "model.onnx is not the model that was timed"}


def test_the_command_answers_by_exit_status_json_and_sentence(
    classifier_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = copy_of(classifier_package, tmp_path / "mit Platz ä")
    change_record(package, budget_ms=1.5)
    take(monkeypatch, *QUIET)
    done = CliRunner().invoke(app, ["verify", str(package), "--json"])
    assert done.exit_code == 0
    assert [check["name"] for check in json.loads(done.stdout)] == NAMES
    assert {check["verdict"] for check in json.loads(done.stdout)} == {"keeps"}
    (package / "model.onnx").write_bytes((package / "model.onnx").read_bytes() + b"x")
    done = CliRunner().invoke(app, ["verify", str(package)])
    assert done.exit_code == 1
    assert "model.onnx was changed" in done.stdout
    assert "failed: 2 pass, 1 fail" in done.stdout
    change_record(package, format=99)
    done = CliRunner().invoke(app, ["verify", str(package)])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {package}: package format 99 is newer")
    assert len(done.stderr.splitlines()) == 1


def test_files_that_were_not_exported_only_warn(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    (package / ".gitattributes").write_text("*.onnx filter=lfs")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "predict.pyc").write_bytes(b"x")
    assert states(package)["files"] == "pass"
    (package / "notes é.txt").write_text("mine")
    (check,) = [check for check in verify(package) if check.name == "files"]
    assert (check.state, check.detail) == ("warn", "notes é.txt was not exported")


def test_another_release_of_onnx_runtime_warns_once(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    target = read_record(package).target.to_json()
    change_record(package, target=target | {"fingerprint": target["fingerprint"] | {"onnxruntime": "1.2.3"}})
    checks = {check.name: check for check in verify(package)}
    assert (checks["ONNX Runtime"].state, checks["host"].state) == ("warn", "pass")
    assert "1.2.3 when exported" in checks["ONNX Runtime"].detail


def test_a_tokenizer_that_makes_other_ids_fails(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    tokenizer = json.loads((package / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = not tokenizer["normalizer"]["lowercase"]
    (package / "tokenizer.json").write_text(json.dumps(tokenizer))
    change_record(package, checksums={})
    assert states(package)["tokenizer"] == "fail"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sessions_ms", "budget_ms", "state", "detail"),
    [
        (QUIET, 1.02, "pass", "1.00 ms (1.00 to 1.02 in 6 sessions) against 1.02 ms"),
        (QUIET, 1.01, "unknown", "against 1.01 ms: this machine cannot tell now, since sessions lie on both sides"),
        (QUIET, 1.00, "unknown", "sessions lie on both sides of the budget"),
        (QUIET, 0.995, "unknown", "two sessions differ by more than what is too much (2.0%)"),
        (QUIET, 0.95, "fail", "1.00 ms (1.00 to 1.02 in 6 sessions) against 0.95 ms"),
        (BUSY, 1.30, "pass", "1.15 ms (1.00 to 1.27 in 6 sessions) against 1.30 ms"),
        (BUSY, 1.10, "unknown", "sessions lie on both sides"),
        (BUSY, 0.95, "unknown", "two sessions differ by more than what is too much (27.0%)"),
        (BUSY, 0.50, "unknown", "two sessions differ by up to 27.0%: something else keeps it busy"),
        (BUSY, 0.30, "fail", "against 0.30 ms"),
    ],
)
def test_latency_keeps_breaks_or_cannot_be_told(
    classifier_package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sessions_ms: tuple[float, ...],
    budget_ms: float,
    state: str,
    detail: str,
) -> None:
    package = copy_of(classifier_package, tmp_path)
    change_record(package, budget_ms=budget_ms)
    take(monkeypatch, *sessions_ms)
    (check,) = [check for check in verify(package) if check.name == "latency"]
    assert check.state == state
    assert detail in check.detail


@pytest.mark.slow
def test_a_package_is_timed_under_the_load_that_it_was_searched_for(
    classifier_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = copy_of(classifier_package, tmp_path)
    target = json.loads((package / "ortnas.json").read_text())["target"]
    asked: list[int] = []

    def time_interleaved(
        sessions: Any, anchor: str, workloads: Any, protocol: TimingProtocol, concurrency: int
    ) -> dict[str, Samples]:
        asked.append(concurrency)
        # The mean is 2 ms, the median 1.
        row = (1_000_000,) * 9 + (11_000_000,)
        return {anchor: Samples((row,), (row,))}

    monkeypatch.setattr("ortnas.export.package.verify.time_interleaved", time_interleaved)
    for budget, latency_ms in (("2x", "1.00 ms"), ("100/s", "2.00 ms")):
        change_record(package, target=target | {"setup": target["setup"] | {"concurrency": 2}}, budget=budget)
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        (check,) = [check for check in verify(package) if check.name == "latency"]
        assert check.detail.startswith(latency_ms)
    assert set(asked) == {2}
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    (check,) = [check for check in verify(package) if check.name == "latency"]
    assert check.state == "unknown"
    assert "keep 2 processors busy, and there are 1" in check.detail


@pytest.mark.slow
def test_the_exit_status_is_3_where_nothing_can_be_told_and_1_where_something_else_fails(
    classifier_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = copy_of(classifier_package, tmp_path)
    change_record(package, budget_ms=1.1)
    take(monkeypatch, *BUSY)
    done = CliRunner().invoke(app, ["verify", str(package)])
    assert done.exit_code == 3
    assert "this machine cannot tell now: 9 pass, 1 warn, 1 unknown" in done.stdout
    assert "next:" not in done.stdout
    done = CliRunner().invoke(app, ["verify", str(package), "--json"])
    assert done.exit_code == 3
    verdicts = {check["name"]: (check["state"], check["verdict"]) for check in json.loads(done.stdout)}
    assert verdicts["latency"] == ("unknown", "cannot tell")
    assert verdicts["noise floor"] == ("warn", "keeps")
    done = CliRunner().invoke(app, ["verify", str(package), "--json", "--load", "--seconds", "0.2"])
    assert (done.exit_code, json.loads(done.stdout)["verdict"]) == (3, "cannot tell")
    assert len(json.loads(done.stdout)["load"]) == 4
    has_waited = "what they wait for each other is timed too" in " ".join(done.stderr.split())
    assert has_waited == (usable_processors() < 8)
    # Another host is told, and held to nothing.
    target = read_record(package).target.to_json()
    change_record(package, target=target | {"fingerprint": target["fingerprint"] | {"cpu": "another"}})
    assert CliRunner().invoke(app, ["verify", str(package)]).exit_code == 0
    change_record(package, target=target)
    # What certainly fails comes before what cannot be told.
    tokenizer = json.loads((package / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = not tokenizer["normalizer"]["lowercase"]
    (package / "tokenizer.json").write_text(json.dumps(tokenizer))
    change_record(package, checksums={})
    done = CliRunner().invoke(app, ["verify", str(package)])
    assert done.exit_code == 1
    assert "1 unknown" in done.stdout


@pytest.mark.slow
def test_too_slow_fails_here_and_warns_elsewhere(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    change_record(package, budget_ms=1e-6)
    assert states(package)["latency"] == "fail"
    target = read_record(package).target.to_json()
    change_record(package, target=target | {"fingerprint": target["fingerprint"] | {"cpu": "another"}})
    assert (states(package)["host"], states(package)["latency"]) == ("warn", "warn")


def test_a_model_that_answers_differently_fails(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    sample = json.loads((package / "sample.json").read_text())
    sample["score"] += 0.5
    (package / "sample.json").write_text(json.dumps(sample))
    digests = read_record(package).file_digests
    checksums = {name: digest for name, digest in digests.items() if name != "sample.json"}
    change_record(package, checksums=checksums)
    assert states(package)["score"] == "fail"


def test_a_model_that_is_no_model_fails_to_load(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    (package / "model.onnx").write_bytes(b"not a model")
    change_record(package, checksums={})
    state_by_check = states(package)
    assert list(state_by_check)[-1] == "load"
    assert state_by_check["load"] == "fail"


def test_folders_that_are_no_package_get_a_sentence(classifier_package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="not a package"):
        read_record(tmp_path)
    package = copy_of(classifier_package, tmp_path)
    with pytest.raises(PackageError, match="is a file; a package is a folder"):
        read_record(package / "model.onnx")
    change_record(package, format=99)
    with pytest.raises(PackageError, match=r"format 99 is newer than this release's \d; update ortnas"):
        read_record(package)
    change_record(package, format="new")
    with pytest.raises(PackageError, match="cannot be read"):
        read_record(package)
    (package / "ortnas.json").write_text("{")
    with pytest.raises(PackageError, match="cannot be read"):
        read_record(package)
    change_record(copy_of(classifier_package, tmp_path / "second"), format=1)
    with pytest.raises(PackageError, match="older release; export it again"):
        read_record(tmp_path / "second" / "copy")
    damaged = copy_of(classifier_package, tmp_path / "damaged")
    change_record(damaged, checksums=None)
    with pytest.raises(PackageError, match="checksums is missing or damaged; export it again"):
        verify(damaged)
    change_record(damaged, checksums={}, coverage={"weight_integer_share": 1.0})
    with pytest.raises(PackageError, match=r"coverage\.threshold is missing or damaged"):
        verify(damaged)
    change_record(damaged, coverage={"threshold": None}, target={"setup": {}})
    with pytest.raises(PackageError, match="names no target that can be read"):
        verify(damaged)
    third = copy_of(classifier_package, tmp_path / "third")
    (third / "sample.json").write_text('{"score": 1}')
    with pytest.raises(PackageError, match=r"sample.json cannot be read"):
        read_sample(third)
