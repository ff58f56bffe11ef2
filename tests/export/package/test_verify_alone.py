"""``verify.pyz`` of a package, where there is neither ortnas nor what it is made with.

``make test-light`` runs it in an environment that holds only onnxruntime, tokenizers and numpy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS
from ortnas.export.package.archive import ARCHIVE_FILE, archived_modules, write_archive
from ortnas.export.package.package import write_package
from ortnas.export.package.verify import verify
from ortnas.nas.text import load_tokenizer
from tests.export.packages import change_record, copy_of, make_content

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("ORTNAS_LIGHT_PYTHON", sys.executable)
# What onnxruntime, tokenizers and numpy do not bring; their own imports of it are not in the way.
ABSENT = (
    "accelerate",
    "datasets",
    "ml_dtypes",
    "onnx",
    "pandas",
    "plotly",
    "pyarrow",
    "pydantic",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
    "typer",
    "xgboost",
    "yaml",
)
# Before anything else, in every interpreter that finds it on its path.
ABSENCE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def absence(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which none of the modules can be imported, and ortnas only from an archive."""
    folder = tmp_path_factory.mktemp("absence")
    (folder / "sitecustomize.py").write_text(ABSENCE)
    return {**os.environ, "PYTHONPATH": str(folder)}


def run_alone(package: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, ARCHIVE_FILE, *options]
    return subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)


def generous(package: Path, folder: Path) -> Path:
    """A copy whose budget no busy machine breaks."""
    copy = copy_of(package, folder)
    change_record(copy, budget_ms=60_000.0)
    return copy


def test_nothing_of_the_absent_can_be_imported(absence: dict[str, str]) -> None:
    script = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        print(name)
"""
    command = [PYTHON, "-c", script, *ABSENT]
    done = subprocess.run(command, env=absence, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(ABSENT)


def test_it_checks_a_package_of_every_head_as_the_command_does(
    exported: Path, tmp_path: Path, absence: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = generous(exported, tmp_path)
    done = run_alone(package, absence, "--json")
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr("ortnas.export.package.verify._PAUSE_S", 0.0)
    checks = [check.to_json() for check in verify(package)]
    alone = json.loads(done.stdout)
    assert [check["name"] for check in alone] == [check["name"] for check in checks]
    # Latencies differ, and so may the releases in an environment of its own.
    same = ("format", "files", "checksums", "load", "integer kernels", "score")
    picked = [[check for check in both if check["name"] in same] for both in (alone, checks)]
    assert picked[0] == picked[1]
    assert len(picked[0]) == len(same)


@pytest.mark.parametrize("metric", ["f1", "matthews", "log_likelihood"])
def test_it_computes_metrics_that_libraries_are_known_for(
    tmp_path: Path, sentences: list[str], absence: dict[str, str], metric: str
) -> None:
    content = make_content(tmp_path, "bert", "classification", sentences)
    part = content.sample.part(load_tokenizer(content.supernet.path), content.max_length, content.supernet.labels)
    score = METRICS[metric](model_outputs(content.model, part.encoded, "classification"), part)
    sample = replace(content.sample, metric=metric, score=score)
    write_package(tmp_path / "package", replace(content, sample=sample))
    done = run_alone(generous(tmp_path / "package", tmp_path), absence)
    assert done.returncode == 0, done.stderr
    assert f"{metric} {score:.4f} on 32 bundled inputs" in done.stdout


def test_it_answers_by_exit_status_and_sentence(
    classifier_package: Path, tmp_path: Path, absence: dict[str, str]
) -> None:
    package = generous(classifier_package, tmp_path)
    model = bytearray((package / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (package / "model.onnx").write_bytes(model)
    done = run_alone(package, absence)
    assert done.returncode == 1
    assert "model.onnx was changed" in done.stdout
    assert "failed: 2 pass, 1 fail" in done.stdout
    done = run_alone(package, absence, str(tmp_path))
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path} is not a package: it holds no ortnas.json\n")
    assert run_alone(package, absence, "--nonsense").returncode == 2


def test_it_drives_a_package_under_load(classifier_package: Path, tmp_path: Path, absence: dict[str, str]) -> None:
    package = generous(classifier_package, tmp_path)
    done = run_alone(package, absence, "--load", "--json", "--concurrency", "1", "2", "--seconds", "0.3")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "keeps"
    assert [row["concurrency"] for row in answer["load"]] == [1, 2]


def test_it_says_what_is_missing(classifier_package: Path, tmp_path: Path, absence: dict[str, str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(ABSENCE.replace("'accelerate'", "'tokenizers'"))
    done = run_alone(classifier_package, {**absence, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith("error: verify.pyz needs onnxruntime, tokenizers and numpy, and ")
    assert len(done.stderr.splitlines()) == 1


def test_equal_modules_make_equal_archives_of_plain_sources(tmp_path: Path) -> None:
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        write_archive(folder)
    first, second = ((tmp_path / name / ARCHIVE_FILE).read_bytes() for name in ("first", "second"))
    assert first == second
    with zipfile.ZipFile(tmp_path / "first" / ARCHIVE_FILE) as archive:
        for name, file in archived_modules().items():
            path = name.replace(".", "/")
            entry = f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"
            assert archive.read(entry) == file.read_bytes()


def test_the_command_verifies_and_examines_where_torch_cannot_be_imported(
    classifier_package: Path, tmp_path: Path, absence: dict[str, str]
) -> None:
    package = generous(classifier_package, tmp_path)
    trainers = ("torch", "transformers", "accelerate", "datasets")
    (tmp_path / "sitecustomize.py").write_text(ABSENCE.replace(repr(ABSENT), repr(trainers)))
    root = Path(__file__).parents[3]
    environment = {**absence, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root / "src")])}

    def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ortnas", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    for arguments in (["verify", str(package), "--json"], ["doctor", "--host", "simulated", "--json"]):
        done = run_command(*arguments)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
    done = run_command("verify", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path} is not a package: it holds no ortnas.json\n")
