from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortnas.bench.session import Setup
from ortnas.bench.timing import Workload
from ortnas.export.graph.model import float_model
from ortnas.export.inspect.audit import audit
from ortnas.export.inspect.running import (
    InspectionError,
    find_model,
    make_up_inputs,
    profile,
    read_model,
)
from tests.export.models import (
    branches,
    convolutions,
    make_model,
    optimized_graph,
    random_integers,
    random_weight,
    two_gemms,
)
from tests.networks import make_dimensions, make_space, random_tensors

WORKLOAD = Workload(batch=3, sequence=10)


def our_model() -> bytes:
    dimensions = make_dimensions()
    content: bytes = float_model(random_tensors(dimensions), dimensions, make_space().largest).SerializeToString()
    return content


def looking_up(rows: int, ids: str, *before: onnx.NodeProto, table: str = "table") -> bytes:
    """A table of ``rows`` rows and its Gather, after other nodes."""
    nodes = [*before, helper.make_node("Gather", [table, ids], ["y"])]
    weights = [
        random_weight("table", rows, 4),
        random_integers("table8", np.int8, rows, 4),
        random_weight("scale"),
        numpy_helper.from_array(np.array([-1]), "flat"),
    ]
    return make_model(nodes, {"words": ["batch", "length"]}, ["y"], weights, TensorProto.INT64)


def test_inputs_of_our_model_are_ids_masks_and_types() -> None:
    feeds = make_up_inputs(read_model(our_model()), WORKLOAD)
    assert {name: value.shape for name, value in feeds.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), (3, 10)
    )
    assert feeds["attention_mask"].all()
    assert not feeds["token_type_ids"].any()
    assert feeds["input_ids"].max() < 120
    assert len(np.unique(feeds["input_ids"])) > 20


@pytest.mark.parametrize(
    "model",
    [
        looking_up(5, "words"),
        looking_up(5, "flat_ids", helper.make_node("Reshape", ["words", "flat"], ["flat_ids"])),
        looking_up(5, "ids32", helper.make_node("Cast", ["words"], ["ids32"], to=TensorProto.INT32)),
        looking_up(5, "words", helper.make_node("DequantizeLinear", ["table8", "scale"], ["floats"]), table="floats"),
    ],
    ids=["plain", "reshaped", "cast", "dequantized"],
)
def test_ids_stay_within_the_table_that_they_are_looked_up_in(model: bytes) -> None:
    feeds = make_up_inputs(read_model(model), Workload(batch=20, sequence=30))
    assert set(np.unique(feeds["words"])) == {0, 1, 2, 3, 4}


def test_ids_stay_below_the_workloads_vocabulary() -> None:
    feeds = make_up_inputs(read_model(looking_up(500, "words")), Workload(20, 30, vocab_size=7))
    assert feeds["words"].max() == 6


def test_one_name_is_one_size_and_open_sizes_are_batch_and_sequence() -> None:
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in ("a", "b", "c", "d")]
    inputs = {"a": ["rows", "length"], "b": ["batch", 1, "rows", "length"], "c": ["seq_len", "batch", 5], "d": ["", ""]}
    feeds = make_up_inputs(read_model(make_model(nodes, inputs, ["a_out"])), WORKLOAD)
    shapes = {name: value.shape for name, value in feeds.items()}
    assert shapes == {"a": (3, 10), "b": (3, 1, 3, 10), "c": (10, 3, 5), "d": (3, 10)}
    assert all(value.dtype == np.float32 and value.std() > 0.3 for value in feeds.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("padding_mask", np.ones(4)), ("position_ids", np.arange(4)), ("segments", np.zeros(4))],
)
def test_integers_follow_the_inputs_name(name: str, expected: np.ndarray) -> None:
    model = make_model([helper.make_node("Identity", [name], ["y"])], {name: [2, 4]}, ["y"], (), TensorProto.INT32)
    value = make_up_inputs(read_model(model), WORKLOAD)[name]
    assert value.dtype == np.int32
    assert np.array_equal(value, [expected, expected])


@pytest.mark.parametrize(
    ("sizes", "kind", "message"),
    [
        (["batch", 3, "height", "width"], TensorProto.FLOAT, "'x' leaves the size of axis 2 (height) open"),
        (None, TensorProto.FLOAT, "'x' has no declared shape"),
        (["batch"], TensorProto.STRING, "'x' is of type string"),
        (["batch"], TensorProto.BFLOAT16, "'x' is of type bfloat16"),
    ],
)
def test_inputs_that_cannot_be_made_up_are_named(sizes: list[int | str] | None, kind: int, message: str) -> None:
    model = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": sizes}, ["y"], (), kind)
    with pytest.raises(InspectionError) as refused:
        make_up_inputs(read_model(model), WORKLOAD)
    assert message in str(refused.value)


def test_the_optimized_graph_is_fused_and_holds_its_weights() -> None:
    graph = optimized_graph(convolutions(), Setup()).graph
    assert "Relu" not in {node.op_type for node in graph.node}
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    assert np.array_equal(weights["w3"], numpy_helper.to_array(random_weight("w3", 512, 5)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ONNX model"),
        (b"weights, but not ONNX", "not an ONNX model"),
        (two_gemms()[:-200], "not an ONNX model, or one that is cut short"),
        (make_model([helper.make_node("Gone", ["x"], ["y"])], {"x": ["batch"]}, ["y"]), "refuses it: .*Gone"),
    ],
    ids=["empty", "garbage", "truncated", "unknown operator"],
)
def test_what_is_no_model_gets_one_sentence(
    content: bytes, message: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    for model in (content, find_model(tmp_path)):
        with pytest.raises(InspectionError, match=message) as refused:
            audit(model, WORKLOAD, Setup())
        assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "model.onnx"))
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_gone_get_one_sentence(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(two_gemms())
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InspectionError, match=r"m\.onnx: ONNX Runtime .* refuses it: .*weights\.bin"):
        audit(tmp_path / "m.onnx", WORKLOAD, Setup())


def test_there_must_be_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "model.onnx"):
        with pytest.raises(InspectionError, match=r"model\.onnx: no such file"):
            find_model(path)


@pytest.mark.parametrize("look", [audit, profile])
def test_a_sequence_beyond_the_positions_gets_one_sentence(
    look: Callable[..., object], capfd: pytest.CaptureFixture[str]
) -> None:
    expected = (
        r"does not run with input_ids \[1, 41\], .*'embeddings/position': row 40 asked of a table with 40 rows; choose"
    )
    with pytest.raises(InspectionError, match=expected):
        look(our_model(), Workload(1, 41), Setup())
    assert look(our_model(), Workload(1, 40), Setup())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("look", [audit, profile])
def test_a_provider_that_is_not_there_is_named(look: Callable[..., object]) -> None:
    with pytest.raises(InspectionError, match=r"^MadeUpExecutionProvider is not available here; there is .*CPU"):
        look(two_gemms(), WORKLOAD, Setup("MadeUpExecutionProvider"))


def test_the_profile_counts_the_kernels_of_a_run_without_warm_up() -> None:
    run_profile = profile(our_model(), WORKLOAD, Setup(), runs=4)
    kernels = {row.operator: row.kernels for row in run_profile.operators}
    as_run = audit(our_model(), WORKLOAD, Setup()).operators
    assert kernels == as_run
    assert 0 < run_profile.kernels_ms <= run_profile.wall_ms
    assert sum(run_profile.share(row) for row in run_profile.operators) == pytest.approx(1)
    times = [row.time_ms for row in run_profile.operators]
    assert times == sorted(times, reverse=True)
    assert run_profile.to_json()["runs"] == 4


def test_the_profile_counts_kernels_in_branches_once() -> None:
    run_profile = profile(branches(), WORKLOAD, Setup(), runs=3)
    assert {row.operator: row.kernels for row in run_profile.operators} == {"ReduceSum": 1, "Cast": 1, "MatMul": 1}
