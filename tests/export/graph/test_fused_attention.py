"""ONNX Runtime's operator in place of attention's nodes, against the numpy reference and the graph that it replaces."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest

from ortnas.export.build import Exporter
from ortnas.export.graph.fused_attention import OPERATOR, fuse_attention
from ortnas.export.graph.inputs import USUAL_INPUTS, ModelInputs
from ortnas.export.graph.model import float_model
from ortnas.export.graph.reference import reference_output
from ortnas.export.inference import drift, load, run
from ortnas.export.int8.recipes import ATTENTION_PRODUCTS, Attention
from ortnas.export.weights import SupernetFolder
from tests.networks import (
    HOST_RECIPE,
    SHAPES,
    full_feeds,
    make_dimensions,
    random_feeds,
    random_subnets,
    random_tensors,
    space_of,
)

UNMASKED = ModelInputs(mask=False)
EQUAL = 1e-4
# Of three layers those whose scores go straight into their softmax; all where nothing is named.
FUSED_LAYERS = {"mpnet": 0, "modernbert": 1, "deberta-v2": 0}


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def make_exporter(shape: str = "bert", attention: Attention = "float") -> Exporter:
    dimensions = make_dimensions("classification", **SHAPES[shape])
    folder = SupernetFolder(None, dimensions, space_of(dimensions), random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    feeds = [full_feeds(dimensions, 8, 20, seed) for seed in range(4)]
    return Exporter(folder, replace(HOST_RECIPE, attention=attention), feeds, UNMASKED)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_family_computes_the_same_with_fewer_nodes(shape: str) -> None:
    dimensions = make_dimensions("masked-lm", **SHAPES[shape])
    tensors, feeds = random_tensors(dimensions), random_feeds(dimensions)
    for subnet in random_subnets(space_of(dimensions), 2):
        model = float_model(tensors, dimensions, subnet, UNMASKED)
        usual = operators(model)
        fused = fuse_attention(model)
        count = operators(fused)[OPERATOR]
        if len(subnet.layers) == dimensions.num_layers:
            assert count == FUSED_LAYERS.get(shape, dimensions.num_layers)
        assert operators(fused)["Softmax"] == usual["Softmax"] - count
        assert sum(operators(fused).values()) <= sum(usual.values()) - 3 * count
        output = run(load(fused.SerializeToString()), feeds)
        expected = reference_output(tensors, dimensions, subnet, feeds)
        shown = feeds["attention_mask"] == 1
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(output[shown], expected[shown], atol=EQUAL * scale)


@pytest.mark.parametrize("shape", ["bert", "jina"])
def test_nothing_is_left_of_what_is_replaced(shape: str) -> None:
    dimensions = make_dimensions(**SHAPES[shape])
    subnet = space_of(dimensions).largest
    graph = fuse_attention(float_model(random_tensors(dimensions), dimensions, subnet, UNMASKED)).graph
    read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    assert {item.name for item in graph.initializer} <= read
    made = {name for node in graph.node for name in node.output}
    assert made <= read
    assert {info.name for info in graph.value_info} <= made


def test_a_model_with_a_mask_stays_as_it_is() -> None:
    dimensions = make_dimensions()
    model = float_model(random_tensors(dimensions), dimensions, space_of(dimensions).largest)
    before = model.SerializeToString(deterministic=True)
    assert fuse_attention(model).SerializeToString(deterministic=True) == before


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTION_PRODUCTS)
def test_products_in_integers_are_left_to_them(attention: Attention) -> None:
    exporter = make_exporter(attention=attention)
    subnet = exporter.supernet.space.smallest
    for content in (exporter.build(subnet, "int8"), exporter.sliced(subnet)):
        count = operators(onnx.load_from_string(content))[OPERATOR]
        assert count == (len(subnet.layers) if attention == "float" else 0)
    assert operators(onnx.load_from_string(exporter.build(subnet, "fp32")))[OPERATOR] == len(subnet.layers)


@pytest.mark.slow
@pytest.mark.parametrize("shapes", [None, (2, 20)], ids=["any", "fixed"])
def test_int8_models_answer_as_without_it(shapes: tuple[int, int] | None) -> None:
    fused = replace(make_exporter(), inputs=ModelInputs(shapes, mask=False))
    plain = replace(fused, fuses_attention=False)
    subnet = fused.supernet.dimensions.full_subnet
    feeds = full_feeds(fused.supernet.dimensions, 8, 20, seed=5)
    answers = [run(load(exporter.build(subnet, "int8")), feeds) for exporter in (fused, plain)]
    assert drift(*answers).cosine > 0.999
    assert operators(onnx.load_from_string(plain.build(subnet, "int8")))[OPERATOR] == 0


def test_the_usual_form_is_never_fused() -> None:
    exporter = replace(make_exporter(), inputs=USUAL_INPUTS)
    content = exporter.build(exporter.supernet.space.smallest, "fp32")
    assert operators(onnx.load_from_string(content))[OPERATOR] == 0
