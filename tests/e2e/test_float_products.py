"""A run whose search decides which weight products stay in float."""

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
    return " ".join((done.stdout + done.stderr).split())


def test_products_stay_in_float_from_timing_to_package_and_report(tmp_path: Path, sentences: list[str]) -> None:
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
        "space": {"hidden_size": [32], "depth": [2], "num_heads": [4], "ffn_size": [64], "keep_float": "search"},
        "quantization": {"keep_float": ["layers/0/ffn/in"]},
        "training": {"steps": 4, "batch_size": 8, "importance_texts": 16},
        "refinement": {"steps": 20, "batch_size": 8},
        "target": {"sequence": 16, "host": "simulated"},
        "bench": {"subnets": 12, "cap_s": 0.01},
        "search": {"budgets": ["1.2x"], "candidates": 8, "population": 4, "finalists": 2},
    }
    configuration = tmp_path / "run.yaml"
    configuration.write_text(yaml.safe_dump(document))
    said = ortnas("run", str(configuration))
    assert "always stays in float; the search decides about 17 other weight products" in said
    record = json.loads((tmp_path / "run" / "packages" / "int8-1.2x" / "ortnas.json").read_text())
    winner = Subnet.from_json(record["subnet"])
    assert record["recipe"]["keep_float"] == ["layers/0/ffn/in", *winner.keep_float]
    candidates = json.loads((tmp_path / "run" / "search" / "int8-1.2x" / "search.json").read_text())["candidates"]
    kept = {tuple(candidate["subnet"].get("keep_float", ())) for candidate in candidates}
    assert len(kept) > 1
    assert not any("layers/0/ffn/in" in products for products in kept)
    ortnas("verify", str(tmp_path / "run" / "packages" / "int8-1.2x"))
    # A search that may not decide it is of the same supernet.
    trained = (tmp_path / "run" / "supernet" / "model.safetensors").stat().st_mtime_ns
    document["space"]["keep_float"] = "none"  # type: ignore[index]
    configuration.write_text(yaml.safe_dump(document))
    ortnas("train", str(configuration))
    assert (tmp_path / "run" / "supernet" / "model.safetensors").stat().st_mtime_ns == trained


def test_a_search_that_has_nothing_to_decide_is_refused(tmp_path: Path, sentences: list[str]) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(sentences))
    document = {
        "checkpoint": str(write_bert(tmp_path / "bert")),
        "head": "embedding",
        "folder": str(tmp_path / "run"),
        "data": {"source": str(tmp_path / "corpus.txt"), "max_length": 16},
        "precision": "fp32",
        "space": {"keep_float": "search"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    assert "space.keep_float 'search' is for precision 'int8', not 'fp32'" in ortnas(
        "train", str(tmp_path / "run.yaml"), expected=1
    )
