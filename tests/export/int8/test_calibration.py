"""Ranges of the calibrators against numpy and against ONNX Runtime's own flow through files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

from ortnas.bench.conditions import usable_processors
from ortnas.export.build import Exporter
from ortnas.export.graph.model import float_model
from ortnas.export.inference import drift, load, run
from ortnas.export.int8.calibration import (
    _CALIBRATERS,
    METHODS,
    CalibrationError,
    Feeds,
    calibrate,
    calibration_warnings,
)
from ortnas.export.weights import SupernetFolder
from tests.networks import HOST_RECIPE, make_dimensions, make_space, random_feeds, random_tensors

Ranges = dict[str, tuple[float, float]]
ORT_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


def make_model(head: str = "classification", **tensors: float) -> onnx.ModelProto:
    """A random network; given tensors (double underscores for dots) are filled with one value."""
    dimensions = make_dimensions(head)
    values = random_tensors(dimensions)
    for name, value in tensors.items():
        values[name.replace("__", ".")][:] = value
    return float_model(values, dimensions, make_space().largest)


def make_batches(count: int = 6, texts: int = 8) -> list[Feeds]:
    """Batches of different lengths."""
    dimensions = make_dimensions()
    return [random_feeds(dimensions, texts, sequence=40 - 3 * seed, seed=seed) for seed in range(count)]


def plain(ranges: object) -> Ranges:
    return {
        name: tuple(float(np.asarray(bound).item()) for bound in data.range_value)  # type: ignore[misc]
        for name, data in ranges.items()  # type: ignore[attr-defined]
    }


def activations(model: onnx.ModelProto, names: Sequence[str], batches: Sequence[Feeds]) -> dict[str, list[np.ndarray]]:
    """All values of inner tensors, batch by batch."""
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    inner.graph.output.extend(info for info in model.graph.value_info if info.name in names)
    session = load(inner.SerializeToString())
    outputs = [session.run(list(names), dict(batch)) for batch in batches]
    return {name: [values[place].ravel() for values in outputs] for place, name in enumerate(names)}


def test_minmax_ranges_are_the_extremes_of_the_inputs_of_weight_products() -> None:
    model, batches = make_model(), make_batches()
    ranges = plain(calibrate(model, batches).ranges)
    products = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert ranges.keys() == {node.input[0] for node in products}
    for name, values in activations(model, list(ranges), batches).items():
        together = np.concatenate(values)
        assert ranges[name] == pytest.approx((together.min(), together.max()), rel=1e-5)


@pytest.mark.slow
def test_percentile_ranges_hold_their_share_of_the_values() -> None:
    model, batches = make_model(), make_batches(texts=64)
    ranges = plain(calibrate(model, batches, "percentile").ranges)
    extremes = plain(calibrate(model, batches).ranges)
    cut = 0
    for name, values in activations(model, list(ranges), batches).items():
        bin_width = np.ptp(np.abs(values[0])) / 2048
        limit = np.percentile(np.abs(np.concatenate(values)), 99.999, method="inverted_cdf")
        for bound, extreme in zip(ranges[name], extremes[name], strict=True):
            expected = min(abs(extreme), limit)
            assert expected - 1.01 * bin_width <= abs(bound) <= expected * (1 + 1e-5)
            cut += abs(bound) < abs(extreme) - bin_width
    assert cut >= 3


def test_entropy_ranges_lie_inside_the_extremes_and_hold_nearly_all_values() -> None:
    model, batches = make_model(), make_batches()
    ranges, extremes = (plain(calibrate(model, batches, method).ranges) for method in ("entropy", "minmax"))
    for name, values in activations(model, list(ranges), batches).items():
        (low, high), (lowest, highest) = ranges[name], extremes[name]
        assert lowest * (1 + 1e-5) <= low < high <= highest * (1 + 1e-5)
        together = np.concatenate(values)
        assert ((together >= low) & (together <= high)).mean() > 0.99
    assert any(ranges[name] != pytest.approx(extremes[name]) for name in ranges)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_ranges_are_those_of_the_calibrator_that_reads_files(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, batches = make_model(), make_batches()
    ranges = plain(calibrate(model, batches, method).ranges)
    assert capsys.readouterr().out == ""

    class Reader(CalibrationDataReader):
        def __init__(self, batch: Feeds) -> None:
            self.batches = [batch]

        def get_next(self) -> Feeds | None:
            return self.batches.pop() if self.batches else None

    onnx.save(model, tmp_path / "model.onnx")
    calibrator = create_calibrator(
        str(tmp_path / "model.onnx"), ["Gemm"], str(tmp_path / "augmented.onnx"), ORT_METHODS[method]
    )
    for batch in batches:
        calibrator.collect_data(Reader(batch))
    expected = plain(calibrator.compute_data())
    assert len(ranges) == 14
    for name, bounds in ranges.items():
        assert bounds == pytest.approx(expected[name], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", ["embedding", "span"])
def test_every_method_gives_a_model_close_to_float(head: str, method: str) -> None:
    dimensions = make_dimensions(head)
    folder = SupernetFolder(None, dimensions, make_space(), random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    recipe = replace(HOST_RECIPE, calibration=method)
    exporter = Exporter(folder, recipe, make_batches())
    feeds = random_feeds(dimensions, batch=16, sequence=20, seed=99)
    quantized, exact = (run(load(exporter.build(folder.space.largest, kind)), feeds) for kind in ("int8", "fp32"))
    assert 0.99 < drift(quantized, exact).cosine < 1


@pytest.mark.parametrize("method", METHODS)
def test_the_output_is_that_of_the_float_model_on_the_first_batch(method: str) -> None:
    model, batches = make_model("span"), make_batches()
    output = calibrate(model, batches, method).output
    assert output.shape == (8, 40, 2)
    np.testing.assert_allclose(output, run(load(model.SerializeToString()), batches[0]), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_one_damaged_word_is_noticed_in_any_batch(damage: float, method: str) -> None:
    """ReduceMin and ReduceMax of ONNX Runtime pass over a NaN between numbers."""
    dimensions, batches = make_dimensions("classification"), make_batches()
    for batch in batches:
        batch["input_ids"][batch["input_ids"] == 7] = 8
    batches[4]["input_ids"][3, 1] = 7
    tensors = random_tensors(dimensions)
    tensors["embeddings.word"][7, 3] = damage
    with pytest.raises(CalibrationError, match="not finite; the weights or the data are damaged"):
        calibrate(float_model(tensors, dimensions, make_space().largest), batches, method)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("value", "words"), [(0.0, "zero"), (0.25, "0.25"), (-0.25, "-0.25")])
def test_a_range_without_width_is_refused(value: float, words: str, method: str) -> None:
    model = make_model(layers__1__attention_norm__weight=0.0, layers__1__attention_norm__bias=value)
    with pytest.raises(CalibrationError, match=f"layers/1/attention/norm is always {words}; the network is degenerate"):
        calibrate(model, make_batches(), method)


@pytest.mark.parametrize("method", METHODS)
def test_unusable_calibration_data_is_refused(method: str) -> None:
    model, batches = make_model(), make_batches()
    padding = {name: np.zeros_like(array) for name, array in batches[0].items()}
    for unusable in ([], [padding]):
        with pytest.raises(CalibrationError, match="not padding"):
            calibrate(model, unusable, method)
    short = {name: array for name, array in batches[1].items() if name != "token_type_ids"}
    with pytest.raises(CalibrationError, match="batch 2 of 2 lacks token_type_ids; every batch needs input_ids, att"):
        calibrate(model, [batches[0], short], method)


def test_inputs_that_the_model_does_not_have_are_left_out() -> None:
    model, batches = make_model(), make_batches()
    more = [batch | {"position_ids": batch["input_ids"]} for batch in batches]
    assert plain(calibrate(model, more).ranges) == plain(calibrate(model, batches).ranges)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(CalibrationError, match="'kl'; allowed are minmax, entropy, percentile"):
        calibrate(make_model(), make_batches(), "kl")


@pytest.mark.parametrize("method", METHODS)
def test_one_text_is_enough_for_ranges_but_earns_a_warning(method: str) -> None:
    batches = make_batches(count=1, texts=1)
    ranges = plain(calibrate(make_model(), batches, method).ranges)
    assert all(low < high for low, high in ranges.values())
    assert any("1 text" in sentence for sentence in calibration_warnings(method, batches))


def test_methods_that_cut_the_extremes_earn_a_warning() -> None:
    batches = make_batches()
    assert calibration_warnings("minmax", batches) == []
    for method in ("entropy", "percentile"):
        (sentence,) = calibration_warnings(method, batches)
        assert sentence.startswith(f"calibration {method!r}")


@pytest.mark.parametrize("method", METHODS)
def test_sessions_take_a_thread_for_each_processor_that_is_granted(method: str) -> None:
    calibrater = _CALIBRATERS[method](make_model(), {}, "float")
    for session in (calibrater.infer_session, load(make_model().SerializeToString())):
        assert session.get_session_options().intra_op_num_threads == usable_processors()
