from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas.configuration import check_configuration
from nas.console import Console
from nas.data import DataError
from nas.run import Run


def open_run(folder: Path, source: Path, **changes: Any) -> Run:
    data = {"source": str(source), "calibration_size": 10, "search_size": 20, "report_size": 20}
    document = {"checkpoint": "x", "head": "embedding", "folder": str(folder / "run"), "data": data}
    return Run(check_configuration(document | changes, "test"), Console(to_stderr=True))


@pytest.fixture
def corpus(tmp_path: Path, sentences: list[str]) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(sentences))
    return path


def test_recorded_splits_outlive_their_source(tmp_path: Path, corpus: Path) -> None:
    splits = open_run(tmp_path, corpus).splits
    corpus.unlink()
    assert open_run(tmp_path, corpus).splits == splits


def test_recorded_splits_do_not_stand_in_for_another_source_or_seed(tmp_path: Path, corpus: Path) -> None:
    assert open_run(tmp_path, corpus).splits.training
    with pytest.raises(DataError, match="no such file"):
        _ = open_run(tmp_path, tmp_path / "corpus.text").splits
    corpus.unlink()
    with pytest.raises(DataError, match="no such file"):
        _ = open_run(tmp_path, corpus, seed=1).splits


def test_a_changed_source_or_seed_makes_new_splits(tmp_path: Path, corpus: Path) -> None:
    first = open_run(tmp_path, corpus).splits.digest
    assert open_run(tmp_path, corpus).splits.digest == first
    second = open_run(tmp_path, corpus, seed=1).splits.digest
    corpus.write_text(corpus.read_text() + "\none more sentence that was not there before\n")
    assert len({first, second, open_run(tmp_path, corpus).splits.digest}) == 3
