"""The messages of ONNX files are those of the package onnx."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ortnas.export.inspect.messages import (
    EXTERNAL_DATA,
    GRAPH_ATTRIBUTE,
    INT64,
    attribute_value,
    element_type,
    parse_model,
)
from tests.export.models import branches, convolutions

# Messages that onnx keeps inside others.
INNER = {
    "TensorTypeProto": onnx.TypeProto.Tensor,
    "DimensionProto": onnx.TensorShapeProto.Dimension,
}


def descriptors(message: object) -> dict[str, object]:
    """All messages that one holds, by name."""
    seen: dict[str, object] = {}
    waiting = [message]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.name not in seen:
            seen[descriptor.name] = descriptor
            waiting += [field.message_type for field in descriptor.fields if field.message_type]
    return seen


def test_every_field_has_the_number_type_and_count_that_it_has_in_onnx() -> None:
    ours = descriptors(parse_model(b"").DESCRIPTOR)
    assert len(ours) == 14
    for name, message in ours.items():
        if name == "OtherProto":
            continue
        theirs = INNER.get(name) or getattr(onnx, name)
        for field in message.fields:
            twin = theirs.DESCRIPTOR.fields_by_name[field.name]
            same_type = twin.type == field.type or (twin.enum_type is not None and field.type == field.TYPE_INT32)
            assert (field.number, same_type, field.is_repeated) == (twin.number, True, twin.is_repeated), field.name
            assert (field.containing_oneof is None) == (twin.containing_oneof is None), field.name


@pytest.mark.parametrize("content", [convolutions(), branches()])
def test_what_is_not_looked_at_is_kept(content: bytes) -> None:
    again = onnx.ModelProto.FromString(parse_model(content).SerializeToString())
    assert again == onnx.ModelProto.FromString(content)


def test_attributes_have_their_values() -> None:
    values = {"f": 1.5, "i": 3, "s": b"text", "floats": [1.5, 2.5], "ints": [1, 2], "strings": [b"a", b"b"]}
    node = helper.make_node("Any", [], ["y"], domain="own", **values)
    content = helper.make_model(helper.make_graph([node], "graph", [], [])).SerializeToString()
    (parsed,) = parse_model(content).graph.node
    read = {item.name: attribute_value(item) for item in parsed.attribute}
    assert {name: value if name in "fis" else list(value) for name, value in read.items()} == values
    assert onnx.AttributeProto.GRAPH == GRAPH_ATTRIBUTE
    assert (TensorProto.EXTERNAL, TensorProto.INT64) == (EXTERNAL_DATA, INT64)


@pytest.mark.parametrize("number", range(1, 27))
def test_element_types_have_numpys_names_and_sizes(number: int) -> None:
    name, bits = element_type(number)
    try:
        kind = helper.tensor_dtype_to_np_dtype(number)
    except KeyError:
        pytest.skip(f"onnx {onnx.__version__} does not know element type {number}")
    if name == "string":
        assert kind.hasobject
        return
    assert name == kind.name
    is_packed = kind.kind == "V" and "int" in name
    assert bits == (ml_dtypes.iinfo(kind).bits if is_packed else 4 if "float4" in name else 8 * kind.itemsize)
    assert element_type(0) == ("?", 0)
    assert np.dtype(kind).itemsize * 8 >= bits
