"""Runs whose models take requests of one shape alone, or no mask, from timings to the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from tests.e2e.commands import ortnas, predictions, refusal
from tests.e2e.runs import write_space_run

pytestmark = pytest.mark.slow
SPACE = {"depth": [1, 2, 3], "ffn_size": [16, 32, 48, 64]}


@pytest.mark.parametrize(
    ("export", "target", "requests"),
    [
        ({"shapes": [2, 16]}, {"batch": 2}, [2, 16]),
        ({"mask": False}, {}, ["batch", "sequence"]),
    ],
    ids=["fixed", "unmasked"],
)
def test_what_is_timed_scored_and_packaged_takes_them(
    tmp_path: Path, sentences: list[str], export: dict[str, Any], target: dict[str, Any], requests: list[Any]
) -> None:
    sections = {"export": export, "target": target, "refinement": {"steps": 0}}
    configuration = write_space_run(tmp_path, sentences, SPACE, **sections)
    ortnas("run", configuration)
    package = tmp_path / "run" / "packages" / "int8-1.2x"
    inputs = {item.name: item.shape for item in onnxruntime.InferenceSession(package / "model.onnx").get_inputs()}
    assert set(map(tuple, inputs.values())) == {tuple(requests)}
    assert ("attention_mask" in inputs) == export.get("mask", True)
    (workload,) = json.loads((package / "ortnas.json").read_text())["target"]["workloads"]
    assert (workload.get("fixed", False), workload.get("mask", True)) == ("shapes" in export, "mask" not in export)
    short, long = predictions(
        package, "a", "a text of yours that is longer than the models of this test can read, " * 2
    )
    assert len(short["output"]) == len(long["output"]) == 32
    # Timings of models that take other requests are others.
    said = refusal("fit", configuration, "--set", "export={}", "--set", "target.batch=1")
    assert "the store holds no usable measurement of this target" in said


def test_other_requests_than_the_models_take_are_refused(tmp_path: Path, sentences: list[str]) -> None:
    configuration = write_space_run(tmp_path, sentences, SPACE, export={"shapes": [1, 12]}, target={"sequence": 12})
    assert "export.shapes: texts have up to 16 tokens (data.max_length), and the model takes 12" in refusal(
        "run", configuration
    )
    assert "the model takes requests of 1 x 12 tokens alone, and the target's are 8 x 12" in refusal(
        "run", configuration, "--set", "target.batch=8"
    )
