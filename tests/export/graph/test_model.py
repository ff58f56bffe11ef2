"""The float graph against the numpy reference, and the reference against the torch network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ortnas.bench.session import Setup
from ortnas.export.graph.encoder import weight_products
from ortnas.export.graph.inputs import input_names
from ortnas.export.graph.model import float_model, output_names
from ortnas.export.graph.reference import reference_output
from ortnas.export.inference import load, run
from ortnas.export.int8.calibration import calibrate
from ortnas.export.int8.quantize import quantize
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.architecture.presets import default_space
from ortnas.nas.architecture.sentence_modules import POOLING_MODES, SentenceModule, module_sizes
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.supernet import Supernet
from tests.export.models import optimized_graph
from tests.networks import (
    HOST_RECIPE,
    SHAPES,
    make_dimensions,
    make_space,
    random_feeds,
    random_subnets,
    random_tensors,
    space_of,
)

EQUAL = 1e-4


def make_case(head: str, **changes: Any) -> tuple[Dimensions, dict[str, np.ndarray], Supernet]:
    dimensions = make_dimensions(head, **changes)
    tensors = random_tensors(dimensions)
    return dimensions, tensors, Supernet({name: torch.from_numpy(value) for name, value in tensors.items()}, dimensions)


def onnx_output(model: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The output of a model with one, or the two outputs of a span model side by side."""
    session = load(model)
    outputs = session.run(None, {item.name: feeds[item.name] for item in session.get_inputs()})
    return outputs[0] if len(outputs) == 1 else np.stack(outputs, -1)


def at_tokens(output: np.ndarray, dimensions: Dimensions, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Without the padding of heads that have an output for every token."""
    if HEADS[dimensions.head].is_token_level:
        return output[feeds["attention_mask"] == 1]
    return output


def check_agreement(network: Supernet, tensors: dict[str, np.ndarray], subnet: Subnet, seed: int) -> None:
    dimensions = network.dimensions
    feeds = random_feeds(dimensions, batch=3, sequence=11, seed=seed)
    with torch.no_grad():
        output = network({name: torch.from_numpy(array) for name, array in feeds.items()}, subnet).numpy()
    expected = at_tokens(output, dimensions, feeds)
    scale = max(1.0, float(np.abs(expected).max()))
    reference = reference_output(tensors, dimensions, subnet, feeds)
    assert reference.shape == output.shape
    np.testing.assert_allclose(at_tokens(reference, dimensions, feeds), expected, atol=EQUAL * scale)
    model = float_model(tensors, dimensions, subnet).SerializeToString()
    np.testing.assert_allclose(at_tokens(onnx_output(model, feeds), dimensions, feeds), expected, atol=EQUAL * scale)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_network_reference_and_onnx_agree_on_random_subnets(shape: str, head: str) -> None:
    dimensions, tensors, network = make_case(head, **SHAPES[shape])
    for seed, subnet in enumerate(random_subnets(space_of(dimensions), 4)):
        check_agreement(network, tensors, subnet, seed)


@pytest.mark.parametrize("head", ["embedding", "classification"])
@pytest.mark.parametrize("shape", SHAPES)
def test_subnets_whose_layers_lack_attention_or_ffn_agree(shape: str, head: str) -> None:
    dimensions, tensors, network = make_case(head, **SHAPES[shape])
    full = dimensions.full_subnet
    first, *others = full.layers
    for subnet in (
        replace(full, layers=(replace(first, num_heads=0, head_size=0), *others)),
        replace(full, layers=(replace(first, ffn_size=0), replace(others[0], num_heads=0, head_size=0), *others[1:])),
        *random_subnets(space_of(dimensions).of_absent_parts, 3),
    ):
        check_agreement(network, tensors, subnet, seed=5)


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu"])
@pytest.mark.parametrize("head", ["classification", "masked-lm"])
def test_activations_agree(head: str, activation: str) -> None:
    _, tensors, network = make_case(head, activation=activation)
    for seed, subnet in enumerate(random_subnets(make_space(), 2)):
        check_agreement(network, tensors, subnet, seed)


MODULES = (
    SentenceModule("layer_norm"),
    SentenceModule("dense", 24, "tanh", has_bias=True),
    SentenceModule("dense", 20, "gelu"),
    SentenceModule("normalize"),
    SentenceModule("dense", 28, has_bias=True),
    SentenceModule("dense", 16, "sigmoid"),
    SentenceModule("truncate", 10),
)


@pytest.mark.parametrize("pooling", [(mode,) for mode in POOLING_MODES] + [("max", "cls"), POOLING_MODES])
def test_poolings_agree(pooling: tuple[PoolingMode, ...]) -> None:
    changes = {"pooling": pooling, "modules": (), "embedding_size": 32 * len(pooling)}
    _, tensors, network = make_case("embedding", **changes)
    for seed, subnet in enumerate(random_subnets(make_space(), 2)):
        check_agreement(network, tensors, subnet, seed)


@pytest.mark.parametrize("count", range(1, len(MODULES) + 1))
def test_chains_of_modules_agree(count: int) -> None:
    modules = MODULES[:count]
    *_, size = module_sizes(64, modules).values()
    dimensions, tensors, network = make_case(
        "embedding", pooling=("mean", "lasttoken"), modules=modules, embedding_size=size
    )
    subnet = make_space().smallest
    check_agreement(network, tensors, subnet, count)
    check_agreement(network, tensors, make_space().largest, count)
    model = float_model(tensors, dimensions, subnet)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == size


def test_vectors_without_a_direction_stay_zero() -> None:
    modules = (SentenceModule("dense", 8, "relu", has_bias=True), SentenceModule("normalize"))
    _, tensors, network = make_case("embedding", modules=modules, embedding_size=8)
    tensors["head.modules.0.weight"][:] = 0
    tensors["head.modules.0.bias"][:] = -1
    network = Supernet({name: torch.from_numpy(value) for name, value in tensors.items()}, network.dimensions)
    check_agreement(network, tensors, make_space().smallest, 0)


def test_a_text_has_the_same_embedding_beside_longer_ones() -> None:
    dimensions, tensors, _ = make_case("embedding", pooling=POOLING_MODES, embedding_size=32 * len(POOLING_MODES))
    session = load(float_model(tensors, dimensions, make_space().largest).SerializeToString())
    feeds = random_feeds(dimensions, batch=4, sequence=20)
    together = run(session, feeds)
    for row, length in enumerate(feeds["attention_mask"].sum(1)):
        alone = run(session, {name: values[row : row + 1, :length] for name, values in feeds.items()})
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["embedding", "classification", "masked-lm"])
def test_real_bert_tiny_agrees_on_random_subnets(bert_tiny: Path, head: str) -> None:
    checkpoint = read_checkpoint(str(bert_tiny), head, ("a", "b") if head == "classification" else ())
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    tensors = {name: tensor.detach().numpy() for name, tensor in network.tensors.items()}
    subnets = random_subnets(default_space(checkpoint.dimensions), 4 if head == "masked-lm" else 20)
    assert len(set(subnets)) >= 4
    for seed, subnet in enumerate(subnets):
        check_agreement(network, tensors, subnet, seed)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_runs_every_gemm_in_integers_and_stays_close_to_float(shape: str, head: str) -> None:
    dimensions, tensors, _ = make_case(head, **SHAPES[shape])
    subnet = space_of(dimensions).largest
    names = input_names(dimensions)
    batches = [
        {name: feeds[name] for name in names}
        for feeds in (random_feeds(dimensions, batch=8, sequence=20, seed=seed) for seed in range(8))
    ]

    def outputs(model: onnx.ModelProto) -> np.ndarray:
        """Of all batches: eight numbers of one would not say much of a head that gives one a text."""
        content = model.SerializeToString()
        return np.concatenate([at_tokens(onnx_output(content, batch), dimensions, batch).ravel() for batch in batches])

    model = float_model(tensors, dimensions, subnet)
    # The quantizer works on the model itself.
    exact = outputs(model)
    quantized = quantize(model, calibrate(model, batches).ranges, HOST_RECIPE)
    onnx.checker.check_model(quantized, full_check=True)
    rounded = outputs(quantized)
    cosine = rounded @ exact / np.linalg.norm(rounded) / np.linalg.norm(exact)
    assert 0.99 < cosine < 1
    kinds = [node.op_type for node in optimized_graph(quantized.SerializeToString(), Setup()).graph.node]
    assert kinds.count("QGemm") == [node.op_type for node in quantized.graph.node].count("Gemm") >= 18
    assert "Gemm" not in kinds


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_weight_products_names_every_gemm_of_the_full_network(shape: str, head: str) -> None:
    dimensions, tensors, _ = make_case(head, **SHAPES[shape])
    model = float_model(tensors, dimensions, dimensions.full_subnet)
    assert weight_products(dimensions) == [node.name for node in model.graph.node if node.op_type == "Gemm"]


@pytest.mark.parametrize("shape", SHAPES)
@given(batch=st.integers(1, 4), sequence=st.integers(2, 40), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_batch_and_sequence_are_dynamic(shape: str, batch: int, sequence: int, seed: int) -> None:
    dimensions = make_dimensions(**SHAPES[shape])
    tensors = random_tensors(dimensions)
    subnet = space_of(dimensions).smallest
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


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_declared_shapes_are_the_real_ones(shape: str, head: str) -> None:
    """ONNX Runtime plans its buffers by them."""
    dimensions, tensors, _ = make_case(head, **SHAPES[shape])
    model = float_model(tensors, dimensions, space_of(dimensions).smallest)
    assert tuple(item.name for item in model.graph.input) == input_names(dimensions)
    assert tuple(item.name for item in model.graph.output) == output_names(dimensions)
    onnx.checker.check_model(model, full_check=True)
    declared = {info.name: info.type.tensor_type.shape.dim for info in (*model.graph.value_info, *model.graph.output)}
    model.graph.output.extend(model.graph.value_info)
    feeds = random_feeds(dimensions, batch=3, sequence=7)
    session = load(model.SerializeToString())
    names = [item.name for item in session.get_outputs()]
    values = session.run(None, {item.name: feeds[item.name] for item in session.get_inputs()})
    outputs = dict(zip(names, values, strict=True))
    sizes = {"tokens": 21, "batch": 3, "sequence": 7}
    assert len(declared) >= 15
    for name, dims in declared.items():
        expected = [sizes.get(dim.dim_param, dim.dim_value) for dim in dims]
        assert list(outputs[name].shape) == expected, name


def test_a_network_with_one_token_type_has_no_input_for_it() -> None:
    assert input_names(make_dimensions(token_types=1)) == ("input_ids", "attention_mask")
    assert input_names(make_dimensions()) == ("input_ids", "attention_mask", "token_type_ids")
    assert output_names(make_dimensions("span")) == ("start_logits", "end_logits")


def test_names_tell_where_a_node_belongs() -> None:
    dimensions = make_dimensions()
    names = {node.name for node in float_model(random_tensors(dimensions), dimensions, make_space().largest).graph.node}
    assert {"layers/2/ffn/in", "layers/0/attention/query", "embeddings/word", "head/projection"} <= names


def test_a_subnet_that_does_not_fit_is_refused() -> None:
    dimensions = make_dimensions()
    with pytest.raises(SpaceError, match="hidden_size 64"):
        float_model(random_tensors(dimensions), dimensions, Subnet(64, dimensions.full_subnet.layers))
