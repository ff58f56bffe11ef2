"""A run whose search decides which weight products stay in float."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.nas.architecture.subnet import Subnet
from tests.e2e.commands import ortnas, refusal
from tests.e2e.runs import write_space_run

pytestmark = pytest.mark.slow


def test_products_stay_in_float_from_timing_to_package_and_report(tmp_path: Path, sentences: list[str]) -> None:
    space, own = {"depth": [2], "keep_float": "search"}, {"keep_float": ["layers/0/ffn/in"]}
    configuration = write_space_run(tmp_path, sentences, space, quantization=own)
    said = ortnas("run", configuration)
    assert "always stays in float; the search decides about 17 other weight products" in said
    record = json.loads((tmp_path / "run" / "packages" / "int8-1.2x" / "ortnas.json").read_text())
    winner = Subnet.from_json(record["subnet"])
    assert record["recipe"]["keep_float"] == ["layers/0/ffn/in", *winner.keep_float]
    candidates = json.loads((tmp_path / "run" / "search" / "int8-1.2x" / "search.json").read_text())["candidates"]
    kept = {tuple(candidate["subnet"].get("keep_float", ())) for candidate in candidates}
    assert len(kept) > 1
    assert not any("layers/0/ffn/in" in products for products in kept)
    ortnas("verify", tmp_path / "run" / "packages" / "int8-1.2x")
    # A search that may not decide it is of the same supernet.
    trained = (tmp_path / "run" / "supernet" / "model.safetensors").stat().st_mtime_ns
    ortnas("train", configuration, "--set", "space.keep_float=none")
    assert (tmp_path / "run" / "supernet" / "model.safetensors").stat().st_mtime_ns == trained


def test_a_search_that_has_nothing_to_decide_is_refused(tmp_path: Path, sentences: list[str]) -> None:
    configuration = write_space_run(tmp_path, sentences, {"depth": [2], "keep_float": "search"}, precision="fp32")
    assert "space.keep_float 'search' is for precision 'int8', not 'fp32'" in refusal("train", configuration)
