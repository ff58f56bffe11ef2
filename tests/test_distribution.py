"""What is published: the wheel, built from the source distribution, works alone and holds real folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
_PARTS = {"bench", "export", "nas", "predictors", "search"}
_LINK = 0o120000


def build_wheel(source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a packager does: from the unpacked source distribution, not from the checkout."""
    folder = tmp_path_factory.mktemp("distribution")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        assert not [member.name for member in source if member.issym() or member.islnk()]
        source.extractall(folder)
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    return build_wheel(unpacked, folder)


@pytest.mark.slow
def test_the_wheel_holds_every_part_with_its_data_and_no_links_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    assert not [entry.filename for entry in entries if (entry.external_attr >> 16) & 0o170000 == _LINK]
    names = [entry.filename for entry in entries]
    assert len(names) == len(set(names))
    assert {name.split("/")[0] for name in names} == {"ortnas", "ortnas-0.1.0.dist-info"}
    packed = {name.removeprefix("ortnas/") for name in names if name.startswith("ortnas/")}
    own = {path.relative_to(ROOT / "src" / "ortnas").as_posix() for path in (ROOT / "src" / "ortnas").glob("*.*")}
    parts = {
        path.relative_to(ROOT).as_posix()
        for part in _PARTS
        for path in (ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == own | parts
    assert {"py.typed", "nas/report/page.html", "export/package/predict.py"} <= packed


@pytest.mark.slow
def test_the_wheel_of_a_checkout_is_the_same(wheel: Path, tmp_path: Path) -> None:
    if not any(path.is_symlink() for path in (ROOT / "src" / "ortnas").iterdir()):
        pytest.skip("these are unpacked sources, without the links of a checkout")
    here = build_wheel(ROOT, tmp_path)
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(here) as theirs:
        assert {entry.filename: entry.CRC for entry in ours.infolist()} == {
            entry.filename: entry.CRC for entry in theirs.infolist()
        }


def test_the_checkout_has_a_link_for_every_part() -> None:
    links = {path.name: os.readlink(path) for path in (ROOT / "src" / "ortnas").iterdir() if path.is_symlink()}
    assert links == {part: f"../../{part}" for part in _PARTS}


@pytest.mark.slow
def test_the_wheel_runs_a_pipeline_in_an_environment_of_its_own(
    wheel: Path, tmp_path: Path, bert_folder: Path, sentences: list[str]
) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    # The libraries that it needs come from here; lines of .pth files found there are not followed, so not the checkout.
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (tmp_path / "corpus.txt").write_text("\n".join(sentences))
    document = {
        "checkpoint": str(bert_folder),
        "head": "embedding",
        "folder": "run",
        "data": {
            "source": "corpus.txt",
            "max_length": 16,
            "calibration_size": 16,
            "search_size": 32,
            "report_size": 32,
        },
        "training": {"steps": 2, "batch_size": 4, "importance_texts": 8},
        "target": {"sequence": 16, "host": "simulated"},
        "bench": {"subnets": 12, "cap_s": 0.01},
        "search": {"budgets": ["1.05x"], "candidates": 4, "population": 4, "finalists": 2},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = str(home / "bin" / "python")
    where = subprocess.run(
        [python, "-c", "import ortnas; print(ortnas.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(home)
    done = subprocess.run(
        [python, "-m", "ortnas", "run", "run.yaml", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (package,) = json.loads(done.stdout)["export"]["packages"]
    assert (tmp_path / package / "model.onnx").is_file()
