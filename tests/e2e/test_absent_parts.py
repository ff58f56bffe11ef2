"""A run whose winners can only be faster by layers that lack their attention or their FFN."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.nas.architecture.subnet import Subnet
from tests.e2e.commands import ortnas, predictions, refusal
from tests.e2e.runs import write_space_run

pytestmark = pytest.mark.slow


def test_winners_lack_parts_from_training_to_package_and_report(tmp_path: Path, sentences: list[str]) -> None:
    configuration = write_space_run(tmp_path, sentences, {"depth": [3], "drop_parts": True})
    ortnas("run", configuration)
    package = tmp_path / "run" / "packages" / "int8-1.2x"
    winner = Subnet.from_json(json.loads((package / "ortnas.json").read_text())["subnet"])
    assert any(layer.num_heads == 0 or layer.ffn_size == 0 for layer in winner.layers)
    refinement = json.loads((tmp_path / "run" / "search" / "int8-1.2x" / "refinement.json").read_text())
    assert refinement["weights"] is not None
    (prediction,) = predictions(package, "a text of yours")
    assert len(prediction["output"]) == 32
    said = refusal("extract", configuration, "--subnet", "1.2x", "--out", tmp_path / "x")
    assert "in transformers every layer has both" in said
