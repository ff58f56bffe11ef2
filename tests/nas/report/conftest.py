"""A finished run and its page, which the tests of the report share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ortnas.nas.report import write_report
from ortnas.nas.report.record import read_run
from ortnas.nas.report.sections import Section, all_sections
from tests.nas.report.runs import write_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("läufe & co") / "mein lauf")


@pytest.fixture(scope="session")
def page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run_folder, tmp_path_factory.mktemp("berichte") / "ein bericht.html")


@pytest.fixture(scope="session")
def sections(run_folder: Path) -> list[Section]:
    return all_sections(read_run(run_folder))


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    """A copy to change; without the predictor, whose charts take the longest."""
    return Path(shutil.copytree(run_folder, tmp_path / "copy", ignore=shutil.ignore_patterns("predictor")))
