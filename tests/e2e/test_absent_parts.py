"""A run whose winners can only be faster by layers that lack their attention or their FFN."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ortnas.nas.architecture.subnet import Subnet
from tests.networks import write_bert

pytestmark = pytest.mark.slow


def ortnas(*arguments: str, expected: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "ortnas", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    return done.stdout + done.stderr


def test_winners_lack_parts_from_training_to_package_and_report(tmp_path: Path, sentences: list[str]) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(sentences))
    document = {
        "checkpoint": str(write_bert(tmp_path / "bert", num_hidden_layers=3)),
        "head": "embedding",
        "folder": str(tmp_path / "run"),
        "data": {
            "source": str(tmp_path / "corpus.txt"),
            "max_length": 16,
            "calibration_size": 16,
            "search_size": 32,
            "report_size": 32,
        },
        "space": {"hidden_size": [32], "depth": [3], "num_heads": [4], "ffn_size": [64], "drop_parts": True},
        "training": {"steps": 4, "batch_size": 8, "importance_texts": 16},
        "refinement": {"steps": 20, "batch_size": 8},
        "target": {"sequence": 16, "host": "simulated"},
        "bench": {"subnets": 12, "cap_s": 0.01},
        "search": {"budgets": ["1.2x"], "candidates": 8, "population": 4, "finalists": 2},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    ortnas("run", str(tmp_path / "run.yaml"))
    package = tmp_path / "run" / "packages" / "int8-1.2x"
    winner = Subnet.from_json(json.loads((package / "ortnas.json").read_text())["subnet"])
    assert any(layer.num_heads == 0 or layer.ffn_size == 0 for layer in winner.layers)
    refinement = json.loads((tmp_path / "run" / "search" / "int8-1.2x" / "refinement.json").read_text())
    assert refinement["weights"] is not None
    command = [sys.executable, str(package / "predict.py"), "a text of yours"]
    assert len(json.loads(subprocess.check_output(command, text=True))["output"]) == 32
    refusal = ortnas(
        "extract", str(tmp_path / "run.yaml"), "--subnet", "1.2x", "--out", str(tmp_path / "x"), expected=1
    )
    assert "in transformers every layer has both" in " ".join(refusal.split())
