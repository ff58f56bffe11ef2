"""What Arm's integer and float kernels compute, against this machine's and against whole numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortnas.bench.session import Setup
from ortnas.export.build import Exporter
from ortnas.export.inference import drift
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.weights import SupernetFolder
from tests.arm64.running import outputs_on
from tests.networks import HOST_RECIPE, make_dimensions, make_space, random_feeds, random_tensors

pytestmark = pytest.mark.slow
RECIPES = {"cortex-a72": "generic", "neoverse-n1": "arm64_dotprod", "neoverse-v1": "arm64_i8mm"}
FLOAT_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    return random_feeds(make_dimensions(), batch=4, sequence=40, seed=9)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A random encoder in float, and quantized by every recipe that some Arm processor has."""
    dimensions, space = make_dimensions(), make_space()
    folder = SupernetFolder(tmp_path_factory.mktemp("net"), dimensions, space, random_tensors(dimensions), (), {}, "")
    calibration = [random_feeds(dimensions, batch=8, sequence=40, seed=seed) for seed in range(4)]
    exporters = {name: Exporter(folder, recipe_named(name), calibration) for name in RECIPES.values()}
    return {"fp32": exporters["generic"].build(space.largest, "fp32")} | {
        name: exporter.build(space.largest, "int8") for name, exporter in exporters.items()
    }


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, bytes], feeds: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return outputs_on(sys.executable, tmp_path_factory.mktemp("here") / "run", models, feeds)


def test_int8_models_give_what_they_give_here(
    arm_python: str,
    processor: str,
    tmp_path: Path,
    models: dict[str, bytes],
    feeds: dict[str, np.ndarray],
    here: dict[str, np.ndarray],
) -> None:
    """Float kernels round otherwise in the last digits; what lies between them is rounded to the same 8 bits."""
    there = outputs_on(arm_python, tmp_path / "run", models, feeds)
    assert np.abs(there["fp32"] - here["fp32"]).max() < FLOAT_TOLERANCE
    recipe = RECIPES[processor]
    if not HOST_RECIPE.reduce_range or recipe == "generic":
        assert np.abs(there[recipe] - here[recipe]).max() < FLOAT_TOLERANCE
    assert drift(there[recipe], there["fp32"]).cosine > 0.99


def extreme_product() -> bytes:
    """[4, 512] of 255 by [512, 8] of 127 and -128: sums of two products do not fit into 16 bits."""
    weight = np.where(np.arange(8) % 2, np.int8(127), np.int8(-128)) * np.ones((512, 1), np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["input_ids", "weight"], ["sums"])],
        "extreme",
        [helper.make_tensor_value_info("input_ids", TensorProto.UINT8, [4, 512])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [4, 8])],
        [numpy_helper.from_array(weight.astype(np.int8), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("name", ["neoverse-n1", "neoverse-v1"])
def test_sums_of_the_largest_products_are_exact(arm_pythons: dict[str, str], tmp_path: Path, name: str) -> None:
    """Why recipes for these processors keep all 8 bits of weights."""
    feeds = {"input_ids": np.full((4, 512), 255, np.uint8)}
    (sums,) = outputs_on(arm_pythons[name], tmp_path / "run", {"extreme": extreme_product()}, feeds).values()
    assert np.array_equal(sums, np.tile(np.array([-128, 127], np.int32) * 255 * 512, (4, 4)))


def test_bfloat16_is_computed_where_it_is_asked_for_and_can_be(
    arm_python: str, processor: str, tmp_path: Path, models: dict[str, bytes], feeds: dict[str, np.ndarray]
) -> None:
    recipe = RECIPES[processor]
    pair = {name: models[name] for name in ("fp32", recipe)}
    plain = outputs_on(arm_python, tmp_path / "plain", pair, feeds)
    fast = outputs_on(arm_python, tmp_path / "fast", pair, feeds, Setup(fastmath_bfloat16=True))
    if processor == "neoverse-v1":
        assert 0 < np.abs(fast["fp32"] - plain["fp32"]).max() < 0.1
        assert drift(fast["fp32"], plain["fp32"]).cosine > 0.999
    else:
        assert np.array_equal(fast["fp32"], plain["fp32"])
        assert np.array_equal(fast[recipe], plain[recipe])
