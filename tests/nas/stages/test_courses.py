"""What the trainings of a run share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ortnas.nas.run.folder import RunFolder
from ortnas.nas.stages.commands import train
from tests.nas.stages.small_runs import open_run

pytestmark = pytest.mark.slow


def train_again(trained: Path, folder: Path, **training: Any) -> RunFolder:
    """A run of the same texts in a folder of its own, of three steps."""
    document = yaml.safe_load((trained / "run.yaml").read_text()) | {"folder": str(folder)}
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    run = open_run(folder, training={"steps": 3, "probe_every": 0} | training)
    train(run)
    run.close()
    return run.folder


def test_a_run_keeps_the_teachers_signals(trained: Path, tmp_path: Path) -> None:
    run_folder = train_again(trained, tmp_path / "run")
    (marks,) = run_folder.signals.glob("*/seen-0.npy")
    # Three batches of eight texts.
    assert np.count_nonzero(np.load(marks)) == 24
    assert {path.name for path in marks.parent.iterdir()} == {"seen-0.npy", "output", "projected"}


def test_where_signals_do_not_fit_it_is_said_once(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = train_again(trained, tmp_path / "run", signals_gb=1e-5)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("1e-05 GB are kept (training.signals_gb), the others are computed at every step") == 1
    (marks,) = run_folder.signals.glob("*/seen-0.npy")
    assert 0 < np.count_nonzero(np.load(marks)) < 24
    assert not train_again(trained, tmp_path / "other", signals_gb=0).signals.exists()
