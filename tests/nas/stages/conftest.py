from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from ortnas.nas.stages.commands import bench, fit_predictor
from tests.nas.stages.small_runs import open_run, train_run
from tests.networks import write_bert


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_bert(folder / "bert")
    train_run(folder, sentences, {"host": "simulated"}, {"subnets": 12, "cap_s": 0.01})
    return folder


@pytest.fixture(scope="module")
def fitted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run with a predictor, for small searches."""
    folder = tmp_path_factory.mktemp("fitted")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    document = yaml.safe_load((folder / "run.yaml").read_text())
    document |= {
        "folder": str(folder / "run"),
        "checkpoint": str(trained / "bert"),
        "search": {"budgets": ["1.1x"], "candidates": 8, "finalists": 2, "population": 4},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    for path in (folder / "run").glob("bench.sqlite*"):
        path.unlink()
    run = open_run(folder, bench={"subnets": 24})
    bench(run)
    fit_predictor(run)
    run.close()
    return folder
