"""Graphs for requests of one shape, and for requests without padding, against the numpy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ortnas.bench.timing import Workload
from ortnas.export.graph.inputs import ModelInputs, inputs_for
from ortnas.export.graph.model import float_model
from ortnas.export.graph.reference import reference_output
from ortnas.export.inference import load, run
from ortnas.export.model_requests import RequestError
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.sentence_modules import POOLING_MODES
from tests.networks import (
    CHAIN,
    SHAPES,
    full_feeds,
    make_dimensions,
    make_space,
    random_feeds,
    random_tensors,
    space_of,
)

EQUAL = 1e-4
BATCH, SEQUENCE = 2, 16
FIXED, UNMASKED = ModelInputs((BATCH, SEQUENCE)), ModelInputs(mask=False)
BOTH = ModelInputs((BATCH, SEQUENCE), mask=False)
OF_SIZES = {"Shape", "Range", "Expand", "Concat", "Slice", "Tile", "ConstantOfShape", "Cos", "Sin", "Abs", "Greater"}


def check_equal(dimensions: Any, inputs: ModelInputs, feeds: dict[str, np.ndarray]) -> None:
    """The outputs of three texts; three are no whole number of batches."""
    tensors = random_tensors(dimensions)
    subnet = space_of(dimensions).smallest
    model = float_model(tensors, dimensions, subnet, inputs)
    output = run(load(model.SerializeToString()), feeds)
    expected = reference_output(tensors, dimensions, subnet, feeds)
    assert output.shape == expected.shape
    shown = feeds["attention_mask"] == 1
    if expected.ndim == 3:
        output, expected = output[shown], expected[shown]
    np.testing.assert_allclose(output, expected, atol=EQUAL * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("inputs", [FIXED, UNMASKED, BOTH], ids=["fixed", "unmasked", "both"])
def test_every_family_computes_the_same(family: str, inputs: ModelInputs) -> None:
    dimensions = make_dimensions("masked-lm", **SHAPES[family])
    feeds = full_feeds(dimensions, 3, SEQUENCE) if inputs is BOTH else random_feeds(dimensions)
    check_equal(dimensions, inputs, feeds)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("inputs", [FIXED, UNMASKED], ids=["fixed", "unmasked"])
def test_every_head_computes_the_same(head: str, inputs: ModelInputs) -> None:
    dimensions = make_dimensions(head)
    check_equal(dimensions, inputs, random_feeds(dimensions))


@pytest.mark.parametrize("mode", POOLING_MODES)
@pytest.mark.parametrize("inputs", [FIXED, UNMASKED], ids=["fixed", "unmasked"])
def test_every_pooling_computes_the_same(mode: str, inputs: ModelInputs) -> None:
    dimensions = make_dimensions(pooling=(mode,))
    check_equal(dimensions, inputs, random_feeds(dimensions))


def test_modules_behind_the_pooling_compute_the_same() -> None:
    dimensions = make_dimensions(**CHAIN)
    check_equal(dimensions, FIXED, random_feeds(dimensions))


@pytest.mark.parametrize("family", SHAPES)
def test_nothing_computes_with_sizes(family: str) -> None:
    dimensions = make_dimensions("masked-lm", **SHAPES[family])
    subnet = space_of(dimensions).largest
    usual = float_model(random_tensors(dimensions), dimensions, subnet)
    fixed = float_model(random_tensors(dimensions), dimensions, subnet, FIXED)
    of_sizes = {node.op_type for node in usual.graph.node} & OF_SIZES
    left = [node.op_type for node in fixed.graph.node if node.op_type in of_sizes]
    # What depends on tokens: turned halves of heads, and diagonals of products with positions.
    allowed = {"Concat"} if dimensions.rotary_theta else {"Slice"} if family == "deberta-v2" else set()
    assert "Shape" in of_sizes
    assert set(left) <= allowed
    sizes = [[axis.dim_value for axis in item.type.tensor_type.shape.dim] for item in fixed.graph.input]
    assert sizes == [[BATCH, SEQUENCE]] * len(sizes)
    assert [axis.dim_value for axis in fixed.graph.output[0].type.tensor_type.shape.dim[:2]] == [BATCH, SEQUENCE]


def test_no_constant_is_left_that_nothing_reads() -> None:
    dimensions = make_dimensions()
    for inputs in (FIXED, UNMASKED, BOTH):
        graph = float_model(random_tensors(dimensions), dimensions, make_space().largest, inputs).graph
        read = {name for node in graph.node for name in node.input}
        assert {item.name for item in graph.initializer} <= read


def test_large_constants_are_left_to_the_runtime() -> None:
    # Folded, the position of every token of a large batch would be a table of its own.
    dimensions = make_dimensions(max_positions=512, hidden_size=32)
    inputs = ModelInputs((64, 512))
    folded = float_model(random_tensors(dimensions), dimensions, make_space().largest, inputs)
    usual = float_model(random_tensors(dimensions), dimensions, make_space().largest)
    assert folded.ByteSize() < usual.ByteSize() + 2**16


def test_without_a_mask_nothing_is_added_to_scores() -> None:
    dimensions = make_dimensions()
    graph = float_model(random_tensors(dimensions), dimensions, make_space().largest, UNMASKED).graph
    assert [item.name for item in graph.input] == ["input_ids", "token_type_ids"]
    assert not any("mask" in node.name for node in graph.node if node.name.startswith(("attention", "layers")))


@pytest.mark.parametrize(
    ("inputs", "sequence", "problem"),
    [
        (FIXED, SEQUENCE + 1, "at most 16 tokens, and one has 17"),
        (BOTH, SEQUENCE - 1, "exactly 16 tokens, and one has 15"),
        (BOTH, SEQUENCE + 1, "exactly 16 tokens, and one has 17"),
    ],
)
def test_texts_that_do_not_fit_get_a_sentence(inputs: ModelInputs, sequence: int, problem: str) -> None:
    dimensions = make_dimensions()
    model = float_model(random_tensors(dimensions), dimensions, make_space().smallest, inputs)
    with pytest.raises(RequestError, match=f"the model takes texts of {problem}"):
        run(load(model.SerializeToString()), full_feeds(dimensions, 2, sequence))


def test_longer_padding_than_the_model_takes_is_cut() -> None:
    dimensions = make_dimensions("token-classification")
    feeds = random_feeds(dimensions, sequence=11)
    wider = {name: np.pad(values, ((0, 0), (0, 20))) for name, values in feeds.items()}
    model = float_model(random_tensors(dimensions), dimensions, make_space().smallest, FIXED)
    session = load(model.SerializeToString())
    output, expected = run(session, wider), run(session, feeds)
    assert output.shape == (3, 31, 3)
    np.testing.assert_allclose(output[:, :11], expected, atol=EQUAL)


def test_shapes_are_told() -> None:
    assert FIXED.to_json() == {"shapes": [BATCH, SEQUENCE], "mask": True}
    assert FIXED.sizes == {"batch": BATCH, "sequence": SEQUENCE}
    assert UNMASKED.sizes == {"batch": "batch", "sequence": "sequence"}
    for inputs in (ModelInputs(), FIXED, UNMASKED, BOTH):
        shape = inputs.shapes or (4, 8)
        workload = Workload(*shape, fixed=inputs.shapes is not None, mask=inputs.mask)
        assert inputs_for(workload) == inputs
