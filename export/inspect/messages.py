"""ONNX files as protocol buffer messages, without the package onnx, which hosts that only serve models lack.

``protobuf`` comes with ONNX Runtime. The messages hold those fields of onnx.proto that are looked at, under the names
and numbers that they have there; the others are kept as they are when a message is written again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The messages' classes are made below; their fields are those of ``_MESSAGES``.
Message = Any


class _Field(NamedTuple):
    """``kind`` is a scalar type of protocol buffers or the name of a message; fields of one ``choice`` exclude each
    other."""

    name: str
    number: int
    kind: str
    is_repeated: bool = False
    choice: str = ""


_MESSAGES = {
    "ModelProto": (
        _Field("ir_version", 1, "int64"),
        _Field("graph", 7, "GraphProto"),
        _Field("opset_import", 8, "OperatorSetIdProto", True),
        _Field("functions", 25, "FunctionProto", True),
    ),
    "OperatorSetIdProto": (_Field("domain", 1, "string"), _Field("version", 2, "int64")),
    "FunctionProto": (_Field("node", 7, "NodeProto", True),),
    "GraphProto": (
        _Field("node", 1, "NodeProto", True),
        _Field("initializer", 5, "TensorProto", True),
        _Field("input", 11, "ValueInfoProto", True),
        _Field("output", 12, "ValueInfoProto", True),
    ),
    "NodeProto": (
        _Field("input", 1, "string", True),
        _Field("output", 2, "string", True),
        _Field("name", 3, "string"),
        _Field("op_type", 4, "string"),
        _Field("attribute", 5, "AttributeProto", True),
        _Field("domain", 7, "string"),
    ),
    "AttributeProto": (
        _Field("name", 1, "string"),
        _Field("f", 2, "float"),
        _Field("i", 3, "int64"),
        _Field("s", 4, "bytes"),
        _Field("t", 5, "TensorProto"),
        _Field("g", 6, "GraphProto"),
        _Field("floats", 7, "float", True),
        _Field("ints", 8, "int64", True),
        _Field("strings", 9, "bytes", True),
        _Field("graphs", 11, "GraphProto", True),
        _Field("type", 20, "int32"),
    ),
    "TensorProto": (
        _Field("dims", 1, "int64", True),
        _Field("data_type", 2, "int32"),
        _Field("name", 8, "string"),
        _Field("external_data", 13, "StringStringEntryProto", True),
        _Field("data_location", 14, "int32"),
    ),
    "StringStringEntryProto": (_Field("key", 1, "string"), _Field("value", 2, "string")),
    "ValueInfoProto": (_Field("name", 1, "string"), _Field("type", 2, "TypeProto")),
    "TypeProto": (
        _Field("tensor_type", 1, "TensorTypeProto", choice="value"),
        # What these hold is not looked at.
        _Field("sequence_type", 4, "OtherProto", choice="value"),
        _Field("map_type", 5, "OtherProto", choice="value"),
        _Field("opaque_type", 7, "OtherProto", choice="value"),
        _Field("sparse_tensor_type", 8, "OtherProto", choice="value"),
        _Field("optional_type", 9, "OtherProto", choice="value"),
    ),
    "TensorTypeProto": (_Field("elem_type", 1, "int32"), _Field("shape", 2, "TensorShapeProto")),
    "TensorShapeProto": (_Field("dim", 1, "DimensionProto", True),),
    "DimensionProto": (
        _Field("dim_value", 1, "int64", choice="value"),
        _Field("dim_param", 2, "string", choice="value"),
    ),
    "OtherProto": (),
}
# AttributeProto.AttributeType: the field that holds the value.
_VALUE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 10: "graphs"}
GRAPH_ATTRIBUTE = 5
# TensorProto.DataLocation
EXTERNAL_DATA = 1
# TensorProto.DataType: numpy's (or ml_dtypes') name, and bits per value; strings are counted as pointers.
_ELEMENT_TYPES = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 64),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1fn", 4),
    24: ("float8_e8m0fnu", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
}
INT64 = 7


def _make_classes() -> dict[str, Message]:
    file = descriptor_pb2.FileDescriptorProto(name="ortnas/onnx.proto", package="ortnas.onnx")
    scalar = descriptor_pb2.FieldDescriptorProto
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for choice in dict.fromkeys(field.choice for field in fields if field.choice):
            described.oneof_decl.add(name=choice)
        for field in fields:
            label = scalar.LABEL_REPEATED if field.is_repeated else scalar.LABEL_OPTIONAL
            entry = described.field.add(name=field.name, number=field.number, label=label)
            if field.kind in _MESSAGES:
                entry.type, entry.type_name = scalar.TYPE_MESSAGE, f".ortnas.onnx.{field.kind}"
            else:
                entry.type = scalar.Type.Value(f"TYPE_{field.kind.upper()}")
            if field.choice:
                entry.oneof_index = 0
    # A pool of its own: where onnx is installed too, neither sees the other's messages.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ortnas.onnx.{name}")) for name in _MESSAGES
    }


_MODEL = _make_classes()["ModelProto"]


def parse_model(content: bytes) -> Message:
    """The model of an ONNX file's bytes; what lies outside the file is not read. Raises protobuf's DecodeError."""
    return _MODEL.FromString(content)


def attribute_value(attribute: Message) -> Any:
    """A number, bytes, a message or a list of them; None for kinds that are not looked at."""
    name = _VALUE_FIELDS.get(attribute.type)
    return None if name is None else getattr(attribute, name)


def element_type(number: int) -> tuple[str, int]:
    """Name and bits of a tensor's element type, by its number in ONNX; ``?`` for one that is not known."""
    return _ELEMENT_TYPES.get(number, ("?", 0))
