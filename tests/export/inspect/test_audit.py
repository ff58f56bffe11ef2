from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from ortnas.bench.session import Setup
from ortnas.bench.timing import Workload
from ortnas.export.build import Exporter
from ortnas.export.inspect.audit import Audit, CoverageError, audit, check_coverage
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.weights import SupernetFolder
from tests.export.models import (
    branches,
    convolutions,
    export_bert,
    make_model,
    random_integers,
    random_weight,
    two_gemms,
)
from tests.networks import make_dimensions, make_space, random_feeds, random_tensors

WORKLOAD = Workload(batch=3, sequence=10)


def make_exporter() -> Exporter:
    dimensions = make_dimensions("embedding")
    folder = SupernetFolder(None, dimensions, make_space(), random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    feeds = [random_feeds(dimensions, batch=8, sequence=20, seed=seed) for seed in range(4)]
    return Exporter(folder, recipe_named("avx512_vnni"), feeds)


def look(model: bytes | Path) -> Audit:
    return audit(model, WORKLOAD, Setup())


def counts(model_audit: Audit) -> dict[str, int]:
    return {product.name: product.multiply_adds for product in model_audit.products}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bert(tmp_path_factory.mktemp("bert") / "bert.onnx")


def quantize(
    folder: Path, model: bytes, shape: tuple[int, ...], activations: QuantType, excluded: tuple[str, ...] = ()
) -> bytes:
    """A model with one float input quantized by ONNX Runtime's own script."""
    name = onnx.load_model_from_string(model).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            values = np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)
            self.batches = iter([{name: batch} for batch in values])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    (folder / "float.onnx").write_bytes(model)
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Reader(),
        QuantFormat.QDQ,
        activation_type=activations,
        nodes_to_exclude=list(excluded),
    )
    return (folder / "int8.onnx").read_bytes()


def test_a_known_network_has_the_products_of_pen_and_paper() -> None:
    model_audit = look(two_gemms())
    assert counts(model_audit) == {"first": 3 * 24 * 40, "second": 3 * 40 * 8}
    assert {product.kernel for product in model_audit.products} == {"float"}
    assert model_audit.input_shapes == {"x": (3, 24)}
    assert model_audit.weight_bytes == {"float32": 4 * (24 * 40 + 40 + 40 * 8 + 8)}
    assert model_audit.operators_in_file == {"Gemm": 2, "Relu": 1}
    assert sum(model_audit.operators.values()) <= 3
    assert (model_audit.ir_version, model_audit.opset, model_audit.file_bytes) == (8, 17, len(two_gemms()))
    assert model_audit.inputs[0].describe() == "x float32 [batch, 24]"


def test_integer_weight_products_of_our_int8_model_are_the_encoder() -> None:
    exporter = make_exporter()
    subnet = exporter.supernet.space.largest
    tokens = WORKLOAD.batch * WORKLOAD.sequence
    as_int8 = look(exporter.build(subnet, "int8"))
    integer = sum(product.multiply_adds for product in as_int8.products if product.kernel == "integer")
    assert integer == subnet.multiply_adds * tokens
    # Scores and their use, each tokens x sequence x width per layer; pooling and the head's projection are beside them.
    attention = sum(2 * tokens * WORKLOAD.sequence * layer.num_heads * layer.head_size for layer in subnet.layers)
    activations = [product for product in as_int8.products if not product.has_weight and "layers" in product.name]
    assert sum(product.multiply_adds for product in activations) == attention
    assert len(activations) == 2 * len(subnet.layers)
    assert all(product.has_weight for product in as_int8.products if product.kernel == "integer")
    assert as_int8.weight_integer_share > 0.95 > as_int8.integer_share
    assert as_int8.weight_bytes["int8"] > as_int8.weight_bytes["float32"]
    check_coverage(as_int8, 1.0, allowed=["head/*"])
    as_float = look(exporter.build(subnet, "fp32"))
    assert sum(counts(as_float).values()) == sum(counts(as_int8).values())
    assert as_float.integer_share == as_float.weight_integer_share == 0


def test_float_models_fail_the_check_with_names_and_reasons() -> None:
    with pytest.raises(CoverageError) as refused:
        check_coverage(look(two_gemms()), 0.9)
    assert str(refused.value) == (
        "integer kernels do 0 % of the weight products' multiply-adds, less than 90 %; in floats: "
        "first (FusedGemm: neither its input nor its weight is quantized), "
        "second (Gemm: neither its input nor its weight is quantized)"
    )


def test_many_float_products_are_named_in_part() -> None:
    exporter = make_exporter()
    as_float = look(exporter.build(exporter.supernet.space.largest, "fp32"))
    with pytest.raises(CoverageError, match=r"layers/\d/ffn/\w+ \(.*\), layers.* and 16 more$"):
        check_coverage(as_float, 0.5)


@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
def test_a_quantized_model_passes_the_check(tmp_path: Path, activations: QuantType) -> None:
    model_audit = look(quantize(tmp_path, two_gemms(), (16, 24), activations))
    assert counts(model_audit) == {"first": 3 * 24 * 40, "second": 3 * 40 * 8}
    assert model_audit.integer_share == model_audit.weight_integer_share == 1
    check_coverage(model_audit, 1.0)


def test_one_product_left_in_floats_is_named_unless_it_is_allowed(tmp_path: Path) -> None:
    model_audit = look(quantize(tmp_path, two_gemms(), (16, 24), QuantType.QUInt8, excluded=("second",)))
    assert model_audit.weight_integer_share == pytest.approx(24 * 40 / (24 * 40 + 40 * 8))
    check_coverage(model_audit, 0.75)
    with pytest.raises(
        CoverageError, match=r"do 75 % .* less than 99 %; in floats: second \(\w*Gemm: its weight is not"
    ):
        check_coverage(model_audit, 0.99)
    check_coverage(model_audit, 0.99, allowed=["sec*"])
    with pytest.raises(CoverageError, match="second"):
        check_coverage(model_audit, 0.99, allowed=["first"])


@pytest.mark.parametrize(
    ("quantized", "reason"),
    [
        (("x", "w"), "input and weight are quantized, but ONNX Runtime did not fuse them"),
        (("x",), "its weight is not quantized"),
        (("w",), "its input is not quantized"),
        ((), "neither its input nor its weight is quantized"),
    ],
)
def test_a_float_product_says_what_keeps_it_float(quantized: tuple[str, ...], reason: str) -> None:
    nodes, left, right = [], "x", "w"
    weights = [random_weight("w", 24, 8), random_weight("b", 8), random_weight("scale"), random_weight("scales", 24)]
    if "x" in quantized:
        nodes.append(helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"]))
        nodes.append(helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["xd"]))
        weights.append(random_integers("zero", np.uint8))
        left = "xd"
    if "w" in quantized:
        # Along the inner dimension, which no integer kernel takes.
        nodes.append(helper.make_node("DequantizeLinear", ["w8", "scales"], ["wd"], axis=0))
        weights.append(random_integers("w8", np.int8, 24, 8))
        right = "wd"
    nodes.append(helper.make_node("Gemm", [left, right, "b"], ["y"], name="product"))
    (product,) = look(make_model(nodes, {"x": ["batch", 24]}, ["y"], weights)).products
    assert (product.kernel, product.has_weight, product.reason) == ("float", True, reason)


def test_convolutions_are_counted_in_the_layout_that_runs(tmp_path: Path) -> None:
    expected = sorted([3 * 16 * 64 * 27, 3 * 32 * 16 * 8, 3 * 512 * 5])
    as_float = look(convolutions())
    assert sorted(counts(as_float).values()) == expected
    assert all(product.has_weight for product in as_float.products)
    as_int8 = look(quantize(tmp_path, convolutions(), (2, 3, 8, 8), QuantType.QUInt8))
    assert sorted(counts(as_int8).values()) == expected
    assert as_int8.operators["QLinearConv"] == 2
    assert as_int8.weight_integer_share == 1


def test_transformers_bert_is_counted_in_floats_and_dynamically_quantized(bert: Path, tmp_path: Path) -> None:
    tokens, sequence = WORKLOAD.batch * WORKLOAD.sequence, WORKLOAD.sequence
    encoder, attention = 2 * tokens * 32 * (4 * 32 + 2 * 64), 2 * 2 * tokens * sequence * 32
    as_float = look(bert)
    assert sum(product.multiply_adds for product in as_float.weight_products) == encoder
    assert sum(counts(as_float).values()) == encoder + attention
    quantize_dynamic(bert, tmp_path / "int8.onnx")
    as_int8 = look(tmp_path / "int8.onnx")
    assert sum(counts(as_int8).values()) == encoder + attention
    assert as_int8.weight_integer_share == 1
    assert as_int8.integer_share == pytest.approx(encoder / (encoder + attention))
    check_coverage(as_int8, 1.0)


def test_fused_attention_is_split_into_projection_and_activations(tmp_path: Path) -> None:
    node = helper.make_node("Attention", ["x", "w", "b"], ["y"], name="fused", num_heads=2, domain="com.microsoft")
    model = make_model(
        [node], {"x": ["batch", "sequence", 8]}, ["y"], [random_weight("w", 8, 24), random_weight("b", 24)]
    )
    projection, activations = 3 * 10 * 8 * 24, 2 * 3 * 10 * 10 * 8
    as_float = look(model)
    assert [(item.kernel, item.has_weight, item.multiply_adds) for item in as_float.products] == [
        ("float", True, projection),
        ("float", False, activations),
    ]
    (tmp_path / "float.onnx").write_bytes(model)
    options = {"DefaultTensorType": TensorProto.FLOAT}
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", extra_options=options)
    as_int8 = look(tmp_path / "int8.onnx")
    assert [(item.operator, item.kernel, item.multiply_adds) for item in as_int8.products] == [
        ("QAttention", "integer", projection),
        ("QAttention", "float", activations),
    ]
    check_coverage(as_int8, 1.0)


def test_attention_of_given_queries_has_no_weights() -> None:
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["y"], num_heads=2, domain="com.microsoft")
    inputs = {"q": ["batch", "sequence", 8], "k": ["batch", 7, 8], "v": ["batch", 7, 8]}
    (product,) = look(make_model([node], inputs, ["y"])).products
    assert (product.has_weight, product.multiply_adds) == (False, 2 * 3 * 10 * 7 * 8)


@pytest.mark.parametrize(("accuracy_level", "kernel"), [(0, "float"), (4, "integer")])
def test_packed_weights_are_integer_products_where_activations_become_int8(accuracy_level: int, kernel: str) -> None:
    attributes = {"K": 32, "N": 6, "bits": 4, "block_size": 32, "accuracy_level": accuracy_level}
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **attributes)
    weights = [random_integers("w", np.uint8, 6, 1, 16), random_weight("s", 6)]
    (product,) = look(make_model([node], {"x": ["batch", "sequence", 32]}, ["y"], weights)).products
    assert (product.kernel, product.has_weight, product.multiply_adds) == (kernel, True, 30 * 32 * 6)
    assert ("few bits" in product.reason) == (kernel == "float")


def test_einsum_is_counted_by_its_equation_or_named() -> None:
    nodes = [
        helper.make_node("Einsum", ["x", "w"], ["p"], name="projection", equation="bsi,io->bso"),
        helper.make_node("Einsum", ["p", "p"], ["y"], name="scores", equation="bso, bto -> bst"),
        helper.make_node("Einsum", ["x", "w"], ["z"], name="dots", equation="...i,io->...o"),
    ]
    model = make_model(nodes, {"x": ["batch", "sequence", 4]}, ["y", "z"], [random_weight("w", 4, 6)])
    model_audit = look(model)
    assert counts(model_audit) == {"projection": 3 * 10 * 4 * 6, "scores": 3 * 10 * 10 * 6}
    assert [product.has_weight for product in model_audit.products] == [True, False]
    assert [node.name for node in model_audit.uncounted] == ["dots"]


def test_local_functions_are_counted_as_they_run() -> None:
    body = [helper.make_node("MatMul", ["a", "b"], ["o"], name="inner")]
    function = helper.make_function("local", "Linear", ["a", "b"], ["o"], body, [helper.make_opsetid("", 17)])
    node = helper.make_node("Linear", ["x", "w"], ["y"], domain="local")
    model_audit = look(make_model([node], {"x": ["batch", 4]}, ["y"], [random_weight("w", 4, 6)], functions=[function]))
    assert [product.multiply_adds for product in model_audit.products] == [3 * 4 * 6]
    assert model_audit.operators_in_file == {"Linear": 1, "MatMul": 1}


def test_products_in_branches_are_named_and_fail_the_check_unless_allowed() -> None:
    model_audit = look(branches())
    assert {(node.name, node.reason) for node in model_audit.uncounted} == {
        ("inner_a", "inside If choice"),
        ("inner_b", "inside If choice"),
    }
    assert model_audit.operators_in_file["MatMul"] == 2
    with pytest.raises(CoverageError, match=r"could not be counted: inner_. \(MatMul: inside If choice\), inner_"):
        check_coverage(model_audit, 0.0)
    with pytest.raises(CoverageError, match="no product with a weight"):
        check_coverage(model_audit, 0.0, allowed=["inner_*"])


def test_recurrent_products_are_named() -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="lstm", hidden_size=4)
    weights = [random_weight("w", 1, 16, 4), random_weight("r", 1, 16, 4)]
    model_audit = look(make_model([node], {"x": ["sequence", "batch", 4]}, ["y"], weights))
    assert [(node.name, node.operator) for node in model_audit.uncounted] == [("lstm", "LSTM")]
    assert model_audit.input_shapes == {"x": (10, 3, 4)}


def test_weights_beside_the_file_are_read_and_weighed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load_model_from_string(two_gemms())
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model_audit = look(path)
    assert counts(model_audit) == {"first": 3 * 24 * 40, "second": 3 * 40 * 8}
    assert model_audit.file_bytes == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    assert model_audit.weight_bytes == {"float32": 4 * (24 * 40 + 40 + 40 * 8 + 8)}
