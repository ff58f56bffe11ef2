"""The scripts that claim speed need an idle machine and minutes; that they can start is seen here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted(path.stem for path in (Path(__file__).parent / "performance").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_what_it_needs(name: str) -> None:
    assert importlib.import_module(f"tests.performance.{name}").__doc__
