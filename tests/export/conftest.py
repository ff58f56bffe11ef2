from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.packages import CASES, write_exported


@pytest.fixture(scope="session", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """One package for every head; the checkpoint lies beside it."""
    head = request.param
    return write_exported(tmp_path_factory.mktemp("ordner mit ä"), CASES[head], head, sentences)


@pytest.fixture(scope="session")
def classifier_package(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    return write_exported(tmp_path_factory.mktemp("classifier"), "bert", "classification", sentences)
