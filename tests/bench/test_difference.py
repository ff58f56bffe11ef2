"""Models as their differences from another one: rebuilt byte for byte, or refused."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from ortnas.bench.difference import Difference, find_difference, read_parts, rebuild


def rebuilt(difference: Difference, source: bytes) -> bytes:
    parts = read_parts(json.loads(json.dumps(difference.parts_to_json())), len(source))
    return b"".join(rebuild(parts, io.BytesIO(difference.content), io.BytesIO(source)))


def holding(values: np.ndarray) -> bytes:
    """A model with one initializer."""
    graph = onnx.helper.make_graph([], "one", [], [], [numpy_helper.from_array(np.ascontiguousarray(values), "weight")])
    content: bytes = onnx.helper.make_model(graph).SerializeToString()
    return content


def test_subnets_are_rebuilt_from_each_other_byte_for_byte(models: list[bytes]) -> None:
    for source in models:
        for model in models:
            assert rebuilt(find_difference(model, source), source) == model
    assert len(find_difference(models[0], models[0]).content) < len(models[0]) / 2


@given(st.binary(), st.binary())
def test_what_is_no_model_is_given_whole(model: bytes, source: bytes) -> None:
    difference = find_difference(model, source)
    assert difference.content == model
    assert not difference.has_slices
    assert rebuilt(difference, source) == model


@given(st.integers(1, 6), st.integers(1, 32), st.integers(1, 48), st.sampled_from((np.int8, np.float32)))
def test_heads_and_their_sizes_are_cut_alike(heads: int, head_size: int, rows: int, dtype: type) -> None:
    whole = np.random.default_rng(0).integers(-128, 128, (48, 6, 32)).astype(dtype)
    model = holding(whole[:rows, :heads, :head_size].reshape(rows, -1))
    source = holding(whole.reshape(48, -1))
    difference = find_difference(model, source)
    assert rebuilt(difference, source) == model
    if rows * heads * head_size * whole.itemsize >= 4096:
        assert difference.has_slices


def test_values_that_differ_in_one_place_are_given() -> None:
    whole = np.random.default_rng(0).integers(-128, 128, (64, 64)).astype(np.int8)
    other = whole.copy()
    other[-1, -1] ^= 1
    assert not find_difference(holding(other), holding(whole)).has_slices


@pytest.mark.parametrize(
    "part",
    [
        -1,
        True,
        "3",
        {"offset": 0, "shape": [4], "kept": [5]},
        {"offset": 0, "shape": [4, 4], "kept": [4]},
        {"offset": -1, "shape": [4], "kept": [4]},
        {"offset": 97, "shape": [4], "kept": [4]},
        {"offset": 0, "shape": [4]},
        1 << 32,
    ],
)
def test_parts_that_are_none_are_refused(part: object) -> None:
    with pytest.raises(ValueError, match="part"):
        read_parts([part], 100)


def test_bytes_that_end_early_are_refused() -> None:
    with pytest.raises(ValueError, match="end early"):
        list(rebuild([3], io.BytesIO(b"ab"), io.BytesIO()))
