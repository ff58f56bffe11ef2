"""Sliced INT8 graphs against those that the quantizer makes of the subnet itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ortnas.export.build import Exporter
from ortnas.export.graph.encoder import weight_products
from ortnas.export.graph.inputs import ModelInputs
from ortnas.export.inference import drift, load, run
from ortnas.export.int8.recipes import FALLBACK, Attention, Recipe
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from tests.networks import (
    CHAIN,
    HOST_RECIPE,
    SHAPES,
    make_dimensions,
    random_feeds,
    random_subnets,
    random_tensors,
    space_of,
)


def make_exporter(head: str, shape: str = "bert", recipe: Recipe = HOST_RECIPE, **changes: Any) -> Exporter:
    dimensions = make_dimensions(head, **SHAPES[shape], **changes)
    folder = SupernetFolder(None, dimensions, space_of(dimensions), random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    return Exporter(folder, recipe, [random_feeds(dimensions, batch=8, sequence=20, seed=seed) for seed in range(8)])


def structure(model: bytes) -> tuple[object, ...]:
    """Everything that ONNX Runtime's choice of kernels can depend on: nodes, and initializers without their values."""
    graph = onnx.load_from_string(model).graph
    nodes = sorted(node.SerializeToString(deterministic=True) for node in graph.node)
    initializers = sorted((item.name, item.data_type, tuple(item.dims)) for item in graph.initializer)
    sizes = {item.name: numpy_helper.to_array(item).tolist() for item in graph.initializer if item.data_type == 7}
    return nodes, initializers, sizes, list(map(str, graph.input)), list(map(str, graph.output)), graph.name


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sliced_graph_is_the_graph_that_the_quantizer_makes(shape: str, head: str) -> None:
    exporter = make_exporter(head, shape)
    for subnet in random_subnets(exporter.supernet.space, 3):
        sliced = exporter.sliced(subnet)
        onnx.checker.check_model(onnx.load_from_string(sliced), full_check=True)
        assert structure(sliced) == structure(exporter.build(subnet, "int8"))


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [ModelInputs((2, 24)), ModelInputs(mask=False)], ids=["fixed", "unmasked"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sliced_graph_takes_the_same_requests(shape: str, inputs: ModelInputs) -> None:
    exporter = dataclasses.replace(make_exporter("classification", shape), inputs=inputs)
    for subnet in random_subnets(exporter.supernet.space, 2):
        sliced = exporter.sliced(subnet)
        onnx.checker.check_model(onnx.load_from_string(sliced), full_check=True)
        assert structure(sliced) == structure(exporter.build(subnet, "int8"))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_sliced_graphs_lack_the_parts_that_the_subnet_lacks(shape: str) -> None:
    exporter = make_exporter("classification", shape)
    full = exporter.supernet.dimensions.full_subnet
    first, *others = full.layers
    without_first = dataclasses.replace(full, layers=(dataclasses.replace(first, num_heads=0, head_size=0), *others))
    for subnet in (without_first, *random_subnets(exporter.supernet.space.of_absent_parts, 4)):
        assert structure(exporter.sliced(subnet)) == structure(exporter.build(subnet, "int8"))


@pytest.mark.slow
def test_a_sliced_graph_has_the_modules_of_embeddings() -> None:
    exporter = make_exporter("embedding", **CHAIN)
    for subnet in random_subnets(exporter.supernet.space, 2):
        assert structure(exporter.sliced(subnet)) == structure(exporter.build(subnet, "int8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"per_channel": False},
        {"embeddings": False},
        {"keep_float": ("head/*", "layers/1/ffn/*", "layers/2/attention/query")},
        {"attention": "integer"},
        {"attention": "scores", "keep_float": ("layers/2/attention/query",)},
    ],
)
def test_sliced_graphs_follow_the_recipe(changes: dict[str, object]) -> None:
    exporter = make_exporter("classification", recipe=dataclasses.replace(FALLBACK, **changes))  # type: ignore[arg-type]
    for subnet in random_subnets(exporter.supernet.space, 3):
        assert structure(exporter.sliced(subnet)) == structure(exporter.build(subnet, "int8"))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_the_full_slice_is_the_quantized_network_itself(head: str) -> None:
    exporter = make_exporter(head)
    full = exporter.supernet.dimensions.full_subnet
    feeds = random_feeds(exporter.supernet.dimensions, batch=4, sequence=20, seed=99)
    outputs = [run(load(model), feeds) for model in (exporter.sliced(full), exporter.build(full, "int8"))]
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("attention", ["float", "integer"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_slice_computes_its_subnet(shape: str, attention: Attention) -> None:
    """Also where layers are left out and heads are narrower, which changes biases' units and the softmax scale."""
    exporter = make_exporter("embedding", shape, dataclasses.replace(HOST_RECIPE, attention=attention))
    feeds = random_feeds(exporter.supernet.dimensions, batch=16, sequence=20, seed=99)
    narrow = exporter.supernet.space.head_size[0]
    subnets = [
        Subnet(24, (Layer(0, 3, narrow, 48), Layer(2, 4, 8, 32))),
        Subnet(32, (Layer(1, 4, 8, 64), Layer(2, 2, narrow, 64))),
        Subnet(16, (Layer(2, 4, 8, 64),)),
        *random_subnets(exporter.supernet.space, 4),
    ]
    for subnet in subnets:
        exact = run(load(exporter.build(subnet, "fp32")), feeds)
        assert drift(run(load(exporter.sliced(subnet)), feeds), exact).cosine > 0.99, subnet.describe()


def test_layers_out_of_order_are_refused() -> None:
    exporter = make_exporter("embedding")
    for sources in ((1, 0), (1, 1)):
        subnet = Subnet(16, tuple(Layer(source, 2, 4, 16) for source in sources))
        with pytest.raises(SpaceError, match="should ascend"):
            exporter.sliced(subnet)


def test_weights_of_a_slice_are_those_of_the_full_network() -> None:
    exporter = make_exporter("classification")
    full, part = (
        {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(model).graph.initializer}
        for model in (
            exporter.sliced(exporter.supernet.dimensions.full_subnet),
            exporter.sliced(Subnet(24, (Layer(1, 3, 4, 48),))),
        )
    )
    assert part["layers/1/ffn/in.weight_quantized"].dtype == np.int8
    np.testing.assert_array_equal(
        part["layers/1/ffn/in.weight_quantized"], full["layers/1/ffn/in.weight_quantized"][:24, :48]
    )
    heads = full["layers/1/attention/output.weight_quantized"].reshape(4, 8, 32)[:3, :4, :24]
    np.testing.assert_array_equal(part["layers/1/attention/output.weight_quantized"], heads.reshape(12, 24))
    biases = full["layers/1/attention/query.bias_quantized"].reshape(4, 8)[:3, :4]
    np.testing.assert_array_equal(part["layers/1/attention/query.bias_quantized"], biases.ravel())
    scales = full["layers/1/attention/query.weight_scale"].reshape(4, 8)[:3, :4] * np.float32(np.sqrt(2))
    np.testing.assert_allclose(part["layers/1/attention/query.weight_scale"], scales.ravel(), rtol=1e-6)
    # The first layer of the subnet reads the embeddings in the units of the layer that it read in the full network.
    assert part["embeddings/norm_scale"] == full["layers/0/ffn/norm_scale"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sliced_graph_leaves_products_in_float_as_the_quantizer_does(shape: str) -> None:
    exporter = make_exporter("classification", shape)
    products = [name for name in weight_products(exporter.supernet.dimensions) if name.startswith("layers/")]
    space = exporter.supernet.space.leaving_float(products)
    exporter = dataclasses.replace(exporter, supernet=dataclasses.replace(exporter.supernet, space=space))
    for subnet in random_subnets(space, 4, seed=1):
        sliced, built = exporter.sliced(subnet), exporter.build(subnet, "int8")
        assert structure(sliced) == structure(built)
        # Of the float products, not even the weights may differ.
        tensors = [
            {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(model).graph.initializer}
            for model in (sliced, built)
        ]
        for node in onnx.load_from_string(built).graph.node:
            if node.name in subnet.keep_float:
                weight, bias = node.input[1:3]
                for name in (weight, bias):
                    np.testing.assert_allclose(tensors[0][name], tensors[1][name], rtol=1e-6)


def test_the_scale_of_queries_follows_the_heads_size() -> None:
    """Queries hold the softmax scale, which is that of the subnet's heads."""
    exporter = make_exporter("embedding", recipe=dataclasses.replace(HOST_RECIPE, attention="scores"))

    def scales(subnet: Subnet) -> dict[str, float]:
        model = onnx.load_from_string(exporter.sliced(subnet))
        values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        return {part: float(values[f"layers/1/attention/{part}/transposed_scale"]) for part in ("query", "key")}

    full, narrow = (scales(Subnet(32, (Layer(1, 4, size, 64),))) for size in (8, 4))
    assert narrow["query"] == pytest.approx(full["query"] * 2**0.5)
    assert narrow["key"] == full["key"]
