"""Small runs of random networks on plain sentences: written, trained, and opened with other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import train


def train_run(
    folder: Path, sentences: Sequence[str], target: Mapping[str, Any], bench: Mapping[str, Any], search_size: int = 32
) -> None:
    """A run of the checkpoint in ``folder/bert``, whose supernet is the checkpoint in order of importance."""
    (folder / "corpus.txt").write_text("\n".join(sentences))
    document = {
        "checkpoint": str(folder / "bert"),
        "head": "embedding",
        "folder": str(folder / "run"),
        "data": {
            "source": str(folder / "corpus.txt"),
            "max_length": 16,
            "calibration_size": 16,
            "search_size": search_size,
            "report_size": 32,
        },
        "training": {"steps": 0, "batch_size": 8, "importance_texts": 16},
        "target": {"sequence": 16, **target},
        "bench": bench,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    run = open_run(folder)
    train(run)
    run.close()


def open_run(folder: Path, /, **changes: Any) -> Run:
    """Sections change by key."""
    document = yaml.safe_load((folder / "run.yaml").read_text())
    for section, change in changes.items():
        document[section] = document.get(section, {}) | change if isinstance(change, dict) else change
    return Run(check_configuration(document, "test"), Console(to_stderr=True))
