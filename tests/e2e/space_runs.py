"""Small runs of random networks on the simulated host, whose spaces are what is tested."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.networks import write_bert


def ortnas(*arguments: str, expected: int = 0) -> str:
    """All that the command says, in one line."""
    done = subprocess.run([sys.executable, "-m", "ortnas", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def write_run(folder: Path, sentences: Sequence[str], space: Mapping[str, Any], **sections: Any) -> Path:
    """``run.yaml`` of a run in ``folder/run``, one budget of 1.2x, winners trained alone for a few steps."""
    (folder / "corpus.txt").write_text("\n".join(sentences))
    document = {
        "checkpoint": str(write_bert(folder / "bert", num_hidden_layers=3)),
        "head": "embedding",
        "folder": str(folder / "run"),
        "data": {
            "source": str(folder / "corpus.txt"),
            "max_length": 16,
            "calibration_size": 16,
            "search_size": 32,
            "report_size": 32,
        },
        "space": {"hidden_size": [32], "num_heads": [4], "ffn_size": [64], **space},
        "training": {"steps": 4, "batch_size": 8, "importance_texts": 16},
        "refinement": {"steps": 20, "batch_size": 8},
        "target": {"sequence": 16, "host": "simulated"},
        "bench": {"subnets": 12, "cap_s": 0.01},
        "search": {"budgets": ["1.2x"], "candidates": 8, "population": 4, "finalists": 2},
        **sections,
    }
    configuration = folder / "run.yaml"
    configuration.write_text(yaml.safe_dump(document))
    return configuration
