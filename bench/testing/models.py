"""ONNX models that are small and need no package to be written with: protobuf messages, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from ortnas.bench.simulated import PRECISION_PROPERTY, SUBNET_PROPERTY

# Token ids of requests to these models lie below.
VOCAB_SIZE = 120
_IR_VERSION, _OPSET = 8, 17
_FLOAT, _INT64 = 1, 7


def make_model(width: int, seed: int = 0) -> bytes:
    """A model of ``input_ids`` (batch, sequence): rows of a random table and one product, float32.

    Its metadata name a subnet of about that size, so that simulated hosts time it too.
    """
    rng = np.random.default_rng(seed)
    table, weight = (rng.standard_normal((rows, width)).astype(np.float32) for rows in (VOCAB_SIZE, width))
    graph = b"".join(
        (
            _message(1, _node("Gather", ("table", "input_ids"), "rows")),
            _message(1, _node("MatMul", ("rows", "weight"), "output")),
            _text(2, "small"),
            _message(5, _tensor("table", table)),
            _message(5, _tensor("weight", weight)),
            _message(11, _value("input_ids", _INT64, ("batch", "sequence"))),
            _message(12, _value("output", _FLOAT, ("batch", "sequence", width))),
        )
    )
    layer = {"source": 0, "num_heads": 1, "head_size": width, "ffn_size": width}
    properties = {
        SUBNET_PROPERTY: json.dumps({"hidden_size": width, "layers": [layer]}),
        PRECISION_PROPERTY: "fp32",
    }
    return b"".join(
        (
            _number(1, _IR_VERSION),
            _message(7, graph),
            _message(8, _text(1, "") + _number(2, _OPSET)),
            *(_message(14, _text(1, key) + _text(2, value)) for key, value in properties.items()),
        )
    )


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator)


def _tensor(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    sizes = b"".join(_number(1, size) for size in values.shape)
    return sizes + _number(2, _FLOAT) + _text(8, name) + _message(9, values.astype("<f4").tobytes())


def _value(name: str, element_type: int, shape: Sequence[str | int]) -> bytes:
    dimensions = b"".join(_message(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape)
    return _text(1, name) + _message(2, _message(1, _number(1, element_type) + _message(2, dimensions)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have their highest bit set."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
