from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from ortnas.bench.session import Setup
from ortnas.export.build import Exporter, ExportError
from ortnas.export.graph.encoder import build_graph
from ortnas.export.graph.model import float_model
from ortnas.export.inference import Drift, drift, load, run
from ortnas.export.int8.calibration import calibrate
from ortnas.export.int8.quantize import quantize
from ortnas.export.int8.recipes import FALLBACK, RECIPES, Recipe, check_architecture, choose_recipe, recipe_named
from ortnas.export.weights import SupernetFolder
from tests.export.models import optimized_graph
from tests.networks import HOST_RECIPE, make_dimensions, make_space, random_feeds, random_subnets, random_tensors


def make_exporter(head: str = "embedding", **changes: object) -> Exporter:
    dimensions = make_dimensions(head, **changes)
    folder = SupernetFolder(None, dimensions, make_space(), random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
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


def test_a_graph_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = make_exporter()
    other = random_tensors(exporter.supernet.dimensions, seed=7)
    monkeypatch.setattr(
        "ortnas.export.build.build_graph", lambda tensors, dimensions, subnet: build_graph(other, dimensions, subnet)
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
