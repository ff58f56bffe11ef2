"""What quantize_static makes by default: what the library itself writes, without its words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from ortnas.export.graph.model import float_model
from ortnas.export.inference import load, run
from ortnas.export.int8.static_defaults import StaticDefaultsError, quantize_by_defaults
from tests.networks import make_dimensions, random_feeds, random_tensors


class Reader(CalibrationDataReader):
    def __init__(self, batches: list[dict[str, np.ndarray]]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def test_it_is_the_model_that_the_library_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dimensions = make_dimensions("classification")
    proto = float_model(random_tensors(dimensions), dimensions, dimensions.full_subnet)
    model = proto.SerializeToString()
    batches = [random_feeds(dimensions, seed=seed) for seed in range(2)]
    ours = quantize_by_defaults(model, batches)
    assert capsys.readouterr() == ("", "")
    (tmp_path / "float.onnx").write_bytes(model)
    quantize_static(tmp_path / "float.onnx", tmp_path / "theirs.onnx", Reader(batches))
    feeds = random_feeds(dimensions, seed=7)
    theirs = run(load((tmp_path / "theirs.onnx").read_bytes()), feeds)
    np.testing.assert_array_equal(run(load(ours), feeds), theirs)
    kinds = {item.data_type for item in onnx.load_from_string(ours).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


def test_what_it_cannot_take_is_said_in_a_sentence() -> None:
    with pytest.raises(StaticDefaultsError, match="quantize_static gives up"):
        quantize_by_defaults(onnx.ModelProto().SerializeToString(), [])
