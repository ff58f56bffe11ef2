"""The float graph against the numpy reference, and the reference against the torch network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.build import load, run
from export.graph import float_model
from export.reference import reference_output
from nas.checkpoint import read_checkpoint
from nas.presets import default_space
from nas.space import SpaceError, Subnet
from nas.supernet import Supernet
from tests.networks import make_dimensions, make_space, random_feeds, random_subnets, random_tensors

EQUAL = 1e-4


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_network_reference_and_onnx_agree_on_random_subnets(head: str, activation: str) -> None:
    dimensions = make_dimensions(head, activation=activation)
    tensors = random_tensors(dimensions)
    network = Supernet({name: torch.from_numpy(value) for name, value in tensors.items()}, dimensions)
    for seed, subnet in enumerate(random_subnets(make_space(), 8)):
        feeds = random_feeds(dimensions, seed=seed)
        with torch.no_grad():
            expected = network({name: torch.from_numpy(array) for name, array in feeds.items()}, subnet).numpy()
        np.testing.assert_allclose(reference_output(tensors, dimensions, subnet, feeds), expected, atol=EQUAL)
        model = float_model(tensors, dimensions, subnet).SerializeToString()
        np.testing.assert_allclose(run(load(model), feeds), expected, atol=EQUAL)


@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_real_bert_tiny_agrees_on_twenty_subnets(bert_tiny: Path, head: str) -> None:
    checkpoint = read_checkpoint(str(bert_tiny), head, ("a", "b") if head == "classification" else ())
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    tensors = {name: tensor.detach().numpy() for name, tensor in network.tensors.items()}
    subnets = random_subnets(default_space(checkpoint.dimensions), 20)
    assert len(set(subnets)) >= 20
    for seed, subnet in enumerate(subnets):
        feeds = random_feeds(checkpoint.dimensions, batch=2, sequence=17, seed=seed)
        with torch.no_grad():
            expected = network({name: torch.from_numpy(array) for name, array in feeds.items()}, subnet).numpy()
        model = float_model(tensors, checkpoint.dimensions, subnet).SerializeToString()
        np.testing.assert_allclose(run(load(model), feeds), expected, atol=EQUAL)


@given(batch=st.integers(1, 4), sequence=st.integers(2, 40), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_batch_and_sequence_are_dynamic(batch: int, sequence: int, seed: int) -> None:
    dimensions = make_dimensions()
    tensors = random_tensors(dimensions)
    subnet = make_space().smallest
    feeds = random_feeds(dimensions, batch, sequence, seed)
    output = run(load(float_model(tensors, dimensions, subnet).SerializeToString()), feeds)
    assert output.shape == (batch, 32)
    np.testing.assert_allclose(output, reference_output(tensors, dimensions, subnet, feeds), atol=EQUAL)


def test_graph_is_standard_onnx_with_the_expected_operators() -> None:
    dimensions = make_dimensions()
    model = float_model(random_tensors(dimensions), dimensions, make_space().largest)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    layers = 3
    assert counts["Gemm"] == 6 * layers
    assert counts["LayerNormalization"] == 2 * layers + 1
    assert counts["Softmax"] == counts["Gelu"] == layers
    assert counts["MatMul"] == 2 * layers + 2
    assert counts["Transpose"] == 4 * layers


@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_declared_shapes_are_the_real_ones(head: str) -> None:
    """ONNX Runtime plans its buffers by them."""
    dimensions = make_dimensions(head)
    model = float_model(random_tensors(dimensions), dimensions, make_space().smallest)
    declared = {info.name: info.type.tensor_type.shape.dim for info in model.graph.value_info}
    model.graph.output.extend(model.graph.value_info)
    feeds = random_feeds(dimensions, batch=3, sequence=7)
    session = load(model.SerializeToString())
    outputs = dict(zip([item.name for item in session.get_outputs()], session.run(None, feeds), strict=True))
    assert len(declared) >= 20
    for name, dims in declared.items():
        expected = [{"tokens": 21, "batch": 3}.get(dim.dim_param, dim.dim_value) for dim in dims]
        assert list(outputs[name].shape) == expected, name


def test_names_tell_where_a_node_belongs() -> None:
    dimensions = make_dimensions()
    names = {node.name for node in float_model(random_tensors(dimensions), dimensions, make_space().largest).graph.node}
    assert {"layers/2/ffn/in", "layers/0/attention/query", "embeddings/word", "head/projection"} <= names


def test_a_subnet_that_does_not_fit_is_refused() -> None:
    dimensions = make_dimensions()
    with pytest.raises(SpaceError, match="hidden_size 64"):
        float_model(random_tensors(dimensions), dimensions, Subnet(64, dimensions.full_subnet.layers))
