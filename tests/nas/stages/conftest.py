from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ortnas.nas.stages.commands import train
from tests.nas.stages.small_runs import open_run
from tests.networks import write_bert


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "corpus.txt").write_text("\n".join(sentences))
    write_bert(folder / "bert")
    document = {
        "checkpoint": str(folder / "bert"),
        "head": "embedding",
        "folder": str(folder / "run"),
        "data": {
            "source": str(folder / "corpus.txt"),
            "max_length": 16,
            "calibration_size": 16,
            "search_size": 32,
            "report_size": 32,
        },
        "training": {"steps": 0, "batch_size": 8, "importance_texts": 16},
        "target": {"sequence": 16, "host": "simulated"},
        "bench": {"subnets": 12, "cap_s": 0.01},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    run = open_run(folder)
    train(run)
    run.close()
    return folder
