from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from ortnas.bench.session import Setup
from ortnas.bench.timing import Workload
from ortnas.export.build import Exporter, ExportError
from ortnas.export.graph.encoder import build_graph
from ortnas.export.graph.inputs import ModelInputs
from ortnas.export.graph.model import float_model
from ortnas.export.inference import Drift, drift, load, run
from ortnas.export.inspect.audit import audit
from ortnas.export.int8.calibration import calibrate
from ortnas.export.int8.quantize import quantize
from ortnas.export.int8.recipes import (
    FALLBACK,
    RECIPES,
    Attention,
    Recipe,
    check_architecture,
    choose_recipe,
    is_integer_attention,
    recipe_named,
)
from ortnas.export.weights import SupernetFolder
from tests.export.models import optimized_graph
from tests.networks import (
    HOST_RECIPE,
    SHAPES,
    make_dimensions,
    random_feeds,
    random_subnets,
    random_tensors,
    space_of,
)


def make_exporter(head: str = "embedding", **changes: Any) -> Exporter:
    dimensions = make_dimensions(head, **changes)
    folder = SupernetFolder(None, dimensions, space_of(dimensions), random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    return Exporter(
        folder, HOST_RECIPE, [random_feeds(dimensions, batch=8, sequence=20, seed=seed) for seed in range(8)]
    )


@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_int8_stays_close_to_float(head: str) -> None:
    exporter = make_exporter(head)
    feeds = random_feeds(exporter.supernet.dimensions, batch=16, sequence=20, seed=99)
    for subnet in random_subnets(exporter.supernet.space, 3):
        float_output = run(load(exporter.build(subnet, "fp32")), feeds)
        result = drift(run(load(exporter.build(subnet, "int8")), feeds), float_output)
        assert 0 < result.mean < result.largest
        assert result.cosine > 0.99


def test_every_weight_product_runs_in_integers() -> None:
    exporter = make_exporter()
    model = exporter.build(exporter.supernet.space.largest, "int8")
    graph = optimized_graph(model, Setup()).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QGemm") == 18
    assert "Gemm" not in kinds
    # Residual additions read floats: no dequantized copy beside the one of the embedding rows.
    assert kinds.count("DequantizeLinear") == 1
    assert "SkipLayerNormalization" not in kinds


@pytest.mark.parametrize("head", ["embedding", "span"])
@pytest.mark.parametrize("inputs", [ModelInputs((3, 24)), ModelInputs(mask=False)], ids=["fixed", "unmasked"])
def test_models_of_other_requests_have_the_same_integers(head: str, inputs: ModelInputs) -> None:
    exporter = make_exporter(head)
    feeds = random_feeds(exporter.supernet.dimensions, batch=8, sequence=20, seed=99)
    subnet = exporter.supernet.space.largest
    expected = run(load(exporter.build(subnet, "int8")), feeds)
    model = replace(exporter, inputs=inputs).build(subnet, "int8")
    output = run(load(model), feeds)
    shown = feeds["attention_mask"] == 1 if head == "span" else ...
    np.testing.assert_allclose(output[shown], expected[shown], atol=1e-5)
    kinds = [node.op_type for node in optimized_graph(model, Setup()).graph.node]
    assert "Gemm" not in kinds
    assert "Shape" not in kinds or inputs.shapes is None


def test_weights_are_per_channel_int8_and_the_word_table_per_row() -> None:
    exporter = make_exporter()
    model = onnx.load_from_string(exporter.build(exporter.supernet.space.largest, "int8"))
    onnx.checker.check_model(model, full_check=True)
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    assert values["layers/0/ffn/in.weight_quantized"].dtype == np.int8
    assert values["layers/0/ffn/in.weight_scale"].shape == (64,)
    assert values["layers/0/ffn/in.bias_quantized"].dtype == np.int32
    table = values["embeddings.word_quantized"].astype(np.float32) * values["embeddings.word_scale"][:, None]
    original = exporter.supernet.tensors["embeddings.word"]
    assert (np.abs(table - original).max(1) <= np.abs(original).max(1) / 254 * 1.001).all()
    assert "embeddings.word" not in values


@pytest.mark.parametrize("recipe", [HOST_RECIPE, replace(FALLBACK, per_channel=False)], ids=["channels", "tensors"])
def test_weights_are_rounded_as_the_quantizer_itself_does(recipe: Recipe) -> None:
    exporter = make_exporter("classification")
    supernet = exporter.supernet
    # A bias that is far larger than its weights makes the quantizer widen their scale.
    supernet.tensors["layers.1.ffn_in.bias"][5] = 3e5
    supernet.tensors["layers.1.ffn_in.weight"][5] *= 1e-6
    models = [float_model(supernet.tensors, supernet.dimensions, supernet.space.largest) for _ in range(2)]
    ranges = calibrate(models[0], exporter.calibration).ranges
    ours = quantize(models[1], ranges, recipe)
    theirs = QDQQuantizer(
        models[0],
        recipe.per_channel,
        recipe.reduce_range,
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        [],
        [],
        ["Gemm"],
        {"OpTypesToExcludeOutputQuantization": ["Gemm"]},
    )
    theirs.quantize_model()
    expected, rounded = (
        {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        for model in (theirs.model.model, ours)
    )
    assert expected["layers/1/ffn/in.weight_quantized"].dtype == np.int8
    del expected["embeddings.word"]
    for name, values in expected.items():
        np.testing.assert_array_equal(rounded[name], values, name)


@pytest.mark.parametrize("weight_type", ["int8", "uint8"])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_scales_of_channels_are_those_that_the_quantizer_computes(
    monkeypatch: pytest.MonkeyPatch, weight_type: str, reduce_range: bool
) -> None:
    exporter = make_exporter("classification")
    dimensions = exporter.supernet.dimensions
    tensors = dict(exporter.supernet.tensors)
    # A channel of zeros, one that is almost that, one whose bias is large for its weights, and one of a single sign.
    weight, bias = (np.array(tensors[f"layers.0.ffn_in.{kind}"]) for kind in ("weight", "bias"))
    weight[0], weight[1], weight[2], weight[3] = 0, 1e-44, 1e-7, np.abs(weight[3])
    bias[2] = 50
    tensors |= {"layers.0.ffn_in.weight": weight, "layers.0.ffn_in.bias": bias}
    recipe = replace(HOST_RECIPE, weight_type=weight_type, reduce_range=reduce_range, keep_float=("layers/1/*",))
    subnet = dimensions.full_subnet

    def quantized() -> bytes:
        model = float_model(tensors, dimensions, subnet)
        content: bytes = quantize(model, calibrate(model, exporter.calibration).ranges, recipe).SerializeToString()
        return content

    ours = quantized()
    monkeypatch.setattr("ortnas.export.int8.quantize._channel_scales", lambda *_: {})
    assert quantized() == ours


def test_reduced_range_keeps_weights_to_seven_bits() -> None:
    exporter = make_exporter()
    model = float_model(exporter.supernet.tensors, exporter.supernet.dimensions, exporter.supernet.space.largest)
    ranges = calibrate(model, exporter.calibration).ranges
    quantized = quantize(model, ranges, recipe_named("avx2"))
    weights = [
        numpy_helper.to_array(item) for item in quantized.graph.initializer if item.name.endswith("weight_quantized")
    ]
    assert len(weights) == 18
    assert max(np.abs(weight.astype(int)).max() for weight in weights) == 64


@pytest.mark.parametrize("inputs", [ModelInputs(), ModelInputs((2, 20)), ModelInputs(mask=False)])
def test_a_graph_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, inputs: ModelInputs) -> None:
    exporter = replace(make_exporter(), inputs=inputs)
    other = random_tensors(exporter.supernet.dimensions, seed=7)
    monkeypatch.setattr(
        "ortnas.export.build.build_graph",
        lambda _, dimensions, subnet, mask: build_graph(other, dimensions, subnet, mask),
    )
    for precision in ("int8", "fp32"):
        with pytest.raises(ExportError, match="differ by"):
            exporter.build(exporter.supernet.space.largest, precision)  # type: ignore[arg-type]


def test_recipes_follow_the_instruction_set() -> None:
    assert choose_recipe(["avx2", "avx512f", "avx512_vnni"]).name == "avx512_vnni"
    assert choose_recipe(["avx2"]).reduce_range
    assert choose_recipe([]) is FALLBACK
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    with pytest.raises(ValueError, match="allowed are amx"):
        recipe_named("sse")


@pytest.mark.parametrize(
    ("name", "machine", "sentence"),
    [
        (
            "arm64_dotprod",
            "x86_64",
            "is for Arm64 processors, and the host is x86_64; for that there are amx, avx512_vnni, ",
        ),
        ("arm64_i8mm", "AMD64", "the host is AMD64; .* avx2, generic, and auto"),
        ("avx2", "aarch64", "is for x86-64 processors, .* there are arm64_i8mm, arm64_dotprod, generic, and auto"),
        ("amx", "ARM64", "the host is ARM64; for that there are arm64_i8mm"),
        ("avx_vnni", "riscv64", "the host is riscv64; for that there are generic, and auto"),
        ("sse", "x86_64", "unknown quantization recipe 'sse'"),
    ],
)
def test_a_recipe_of_another_architecture_is_refused(name: str, machine: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_architecture(name, machine)


def test_a_recipe_of_the_machines_architecture_is_taken_with_or_without_its_instructions() -> None:
    for name, machine in (("amx", "x86_64"), ("avx2", "AMD64"), ("arm64_i8mm", "arm64"), ("generic", "riscv64")):
        check_architecture(name, machine)
    check_architecture("arm64_i8mm", "")  # a host of which that is not known


def test_drift_by_hand() -> None:
    exact = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    moved = np.array([[4.0, 3.0], [1.0, 0.0]], np.float32)
    assert drift(moved, exact) == Drift(largest=1.0, mean=0.5, cosine=pytest.approx(0.98), flips=0.5)


@pytest.mark.parametrize("attention", ["scores", "mixtures", "integer"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_two_activations_run_in_integers_where_the_recipe_says_so(shape: str, attention: Attention) -> None:
    exporter = make_exporter(**SHAPES[shape])
    exporter = replace(exporter, recipe=replace(HOST_RECIPE, attention=attention))
    subnet = exporter.supernet.dimensions.full_subnet
    model = exporter.build(subnet, "int8")
    plain = replace(exporter, recipe=HOST_RECIPE).build(subnet, "int8")
    audited, before = (audit(content, Workload(2, 20, 100), Setup()) for content in (model, plain))
    integer = {product.name for product in audited.products if product.kernel == "integer" and not product.has_weight}
    assert (
        integer
        == {product.name for product in audited.products if is_integer_attention(attention, product.name)}
        != set()
    )
    assert audited.integer_share > before.integer_share
    assert audited.weight_integer_share == before.weight_integer_share
    names = {product.name: product.operator for product in audited.products}
    kernels = {names[name] for name in integer}
    assert kernels <= {"MatMulIntegerToFloat", "QLinearMatMul"}
    feeds = random_feeds(exporter.supernet.dimensions, batch=16, sequence=20, seed=99)
    exact = run(load(exporter.build(subnet, "fp32")), feeds)
    assert drift(run(load(model), feeds), exact).cosine > 0.98


def test_probabilities_have_the_scale_of_all_softmaxes() -> None:
    exporter = make_exporter()
    exporter = replace(exporter, recipe=replace(HOST_RECIPE, attention="mixtures"))
    model = onnx.load_from_string(exporter.build(exporter.supernet.space.largest, "int8"))
    onnx.checker.check_model(model, full_check=True)
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    readers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    probabilities = [node for node in readers if node.input[0].endswith("/probabilities")]
    assert len(probabilities) == 3
    for node in probabilities:
        assert values[node.input[1]] == np.float32(1 / 255)
        assert values[node.input[2]] == np.uint8(0)
    assert not any("/scores" in node.input[0] or "/query" in node.input[0] for node in readers)


def test_a_recipe_of_an_unknown_attention_is_refused() -> None:
    document = HOST_RECIPE.to_json()
    assert Recipe.from_json({**document, "attention": "scores"}).attention == "scores"
    with pytest.raises(ValueError, match="attention is one of float, scores, mixtures, integer"):
        Recipe.from_json({**document, "attention": "int8"})
