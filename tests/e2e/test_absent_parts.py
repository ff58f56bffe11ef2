"""A run whose winners can only be faster by layers that lack their attention or their FFN."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ortnas.nas.architecture.subnet import Subnet
from tests.e2e.space_runs import ortnas, write_run

pytestmark = pytest.mark.slow


def test_winners_lack_parts_from_training_to_package_and_report(tmp_path: Path, sentences: list[str]) -> None:
    configuration = write_run(tmp_path, sentences, {"depth": [3], "drop_parts": True})
    ortnas("run", str(configuration))
    package = tmp_path / "run" / "packages" / "int8-1.2x"
    winner = Subnet.from_json(json.loads((package / "ortnas.json").read_text())["subnet"])
    assert any(layer.num_heads == 0 or layer.ffn_size == 0 for layer in winner.layers)
    refinement = json.loads((tmp_path / "run" / "search" / "int8-1.2x" / "refinement.json").read_text())
    assert refinement["weights"] is not None
    command = [sys.executable, str(package / "predict.py"), "a text of yours"]
    assert len(json.loads(subprocess.check_output(command, text=True))["output"]) == 32
    refusal = ortnas("extract", str(configuration), "--subnet", "1.2x", "--out", str(tmp_path / "x"), expected=1)
    assert "in transformers every layer has both" in refusal
