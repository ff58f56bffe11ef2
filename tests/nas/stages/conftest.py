from __future__ import annotations

from pathlib import Path

import pytest

from tests.nas.stages.small_runs import train_run
from tests.networks import write_bert


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_bert(folder / "bert")
    train_run(folder, sentences, {"host": "simulated"}, {"subnets": 12, "cap_s": 0.01})
    return folder
