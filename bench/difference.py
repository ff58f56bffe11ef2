"""A model as its difference from another one, of which it repeats parts.

Subnets are slices of one network, so most of a subnet's bytes are leading entries of that network's tensors. A
difference lists the parts of a model in the order of its bytes: some that are given, and slices of tensors in the other
model, the source. What is rebuilt of it is the model byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

# What is smaller is given: naming its slice would hardly be shorter.
_SMALLEST_SLICE_BYTES = 256
# No file of protocol buffers is larger.
_LARGEST_MODEL_BYTES = 1 << 31
_BLOCK_BYTES = 1 << 20

# Numbers of fields in ONNX's protocol buffers (onnx.proto), and how their values are written.
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_TENSOR_DIMS, _TENSOR_NAME, _TENSOR_RAW_DATA = 1, 8, 9
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_VARINT = 10

Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Slice:
    """The first ``kept`` entries along every axis of the bytes of ``shape`` at ``offset`` in the source."""

    offset: int
    shape: tuple[int, ...]
    kept: tuple[int, ...]


# A whole number is that of bytes that are given.
Part: TypeAlias = int | Slice


@dataclass(frozen=True)
class Difference:
    """Parts in the order of the model's bytes; ``content`` are the bytes that are given, one after the other."""

    parts: tuple[Part, ...]
    content: bytes = field(repr=False)

    @property
    def has_slices(self) -> bool:
        return any(isinstance(part, Slice) for part in self.parts)

    def parts_to_json(self) -> list[Any]:
        return [
            part if isinstance(part, int) else {"offset": part.offset, "shape": part.shape, "kept": part.kept}
            for part in self.parts
        ]


class Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Tensor:
    """An initializer's values at ``offset`` in a model's bytes; the last axis of ``shape`` are the bytes of a value."""

    offset: int
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape)

    def values(self, model: bytes) -> Bytes:
        return np.frombuffer(model, np.uint8, self.size_bytes, self.offset).reshape(self.shape)


def find_difference(model: bytes, source: bytes) -> Difference:
    """``model`` by slices of the initializers that have the same names in ``source``; all is given where none fits."""
    sources = dict(_initializers(source))
    parts: list[Part] = []
    content: list[bytes] = []
    end = 0

    def give(until: int) -> None:
        if until > end:
            parts.append(until - end)
            content.append(model[end:until])

    for name, tensor in _initializers(model):
        if tensor.size_bytes >= _SMALLEST_SLICE_BYTES and name in sources:
            whole = sources[name]
            axes = _find_axes(tensor.values(model), whole.values(source))
            if axes is not None:
                give(tensor.offset)
                parts.append(Slice(whole.offset, *axes))
                end = tensor.offset + tensor.size_bytes
    give(len(model))
    return Difference(tuple(parts), b"".join(content))


def read_parts(document: Any, source_bytes: int) -> tuple[Part, ...]:
    """Parts of their JSON, in a source of so many bytes. Raises ValueError where they are none."""
    if not isinstance(document, list):
        raise ValueError("the parts of a model are a list")
    parts = tuple(_read_part(part, source_bytes) for part in document)
    if sum(part if isinstance(part, int) else math.prod(part.kept) for part in parts) > _LARGEST_MODEL_BYTES:
        raise ValueError("the parts of a model are more than 2 GiB")
    return parts


def rebuild(parts: Sequence[Part], content: Reader, source: BinaryIO) -> Iterator[bytes]:
    """The model's bytes in blocks, so that neither it nor the source need be in memory.

    Raises ValueError where ``content`` ends early.
    """
    for part in parts:
        yield from _given(part, content) if isinstance(part, int) else _cut(part, source)


def _given(size: int, content: Reader) -> Iterator[bytes]:
    while size:
        block = content.read(min(size, _BLOCK_BYTES))
        if not block:
            raise ValueError("the model's bytes end early")
        size -= len(block)
        yield block


def _cut(part: Slice, source: BinaryIO) -> Iterator[bytes]:
    row_bytes = math.prod(part.shape[1:])
    step = max(1, _BLOCK_BYTES // row_bytes)
    for row in range(0, part.kept[0], step):
        rows = min(step, part.kept[0] - row)
        source.seek(part.offset + row * row_bytes)
        values = np.frombuffer(source.read(rows * row_bytes), np.uint8).reshape(rows, *part.shape[1:])
        yield values[_leading((rows, *part.kept[1:]))].tobytes()


def _read_part(part: Any, source_bytes: int) -> Part:
    if type(part) is int and part >= 0:
        return part
    if isinstance(part, dict) and part.keys() == {"offset", "shape", "kept"}:
        offset, shape, kept = part["offset"], part["shape"], part["kept"]
        if isinstance(shape, list) and isinstance(kept, list) and len(shape) == len(kept) > 0:
            are_whole = all(type(number) is int for number in (offset, *shape, *kept))
            if are_whole and offset >= 0 and all(0 < few <= size for few, size in zip(kept, shape, strict=True)):
                if offset + math.prod(shape) > source_bytes:
                    raise ValueError("a part of a model reaches beyond the end of the one that it is cut from")
                return Slice(offset, tuple(shape), tuple(kept))
    raise ValueError("a part of a model is a number of bytes, or offset, shape and kept of a slice")


def _leading(kept: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(size) for size in kept)


def _find_axes(values: Bytes, whole: Bytes) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The shape of ``whole`` of which ``values`` are the first entries along every axis, and how many; None if none.

    An axis may be one of heads and of the sizes in each, of which both are cut.
    """
    if values.ndim != whole.ndim or values.shape[-1] != whole.shape[-1]:
        return None
    if any(few > size for few, size in zip(values.shape, whole.shape, strict=True)):
        return None
    if np.array_equal(whole[_leading(values.shape)], values):
        return whole.shape, values.shape
    shape, kept = list[int](), list[int]()
    for axis in range(values.ndim - 1):
        entries = _find_entries(_first_line(values, axis), _first_line(whole, axis))
        if entries is None:
            return None
        shape += entries[0]
        kept += entries[1]
    shape.append(whole.shape[-1])
    kept.append(whole.shape[-1])
    cut = whole.reshape(shape)[_leading(kept)]
    return (tuple(shape), tuple(kept)) if np.array_equal(cut.reshape(values.shape), values) else None


def _first_line(values: Bytes, axis: int) -> Bytes:
    """The bytes of the values along one axis, at the start of all others."""
    line: Bytes = values[tuple(slice(None) if number == axis else 0 for number in range(values.ndim - 1))]
    return line


def _find_entries(line: Bytes, whole: Bytes) -> tuple[list[int], list[int]] | None:
    """How ``whole`` is divided, and what is kept of it, so that ``line`` is left."""
    if np.array_equal(whole[: len(line)], line):
        return [len(whole)], [len(line)]
    for size in range(1, len(whole)):
        if len(whole) % size == 0:
            heads = whole.reshape(-1, size, whole.shape[-1])
            for few in range(1, size + 1):
                count = len(line) // few
                is_whole = len(line) % few == 0 and count <= len(heads)
                if is_whole and np.array_equal(heads[:count, :few].reshape(line.shape), line):
                    return [len(heads), size], [count, few]
    return None


def _initializers(model: bytes) -> Iterator[tuple[str, _Tensor]]:
    """Names and places of initializers with raw values, in the order of the bytes; none of what is no ONNX."""
    tensors: list[tuple[str, _Tensor]] = []
    try:
        for graph in _messages(model, (0, len(model)), _MODEL_GRAPH):
            for initializer in _messages(model, graph, _GRAPH_INITIALIZER):
                if (named := _tensor(model, initializer)) is not None:
                    tensors.append(named)
    except ValueError:
        return
    yield from tensors


def _messages(content: bytes, within: tuple[int, int], wanted: int) -> Iterator[tuple[int, int]]:
    for number, wire, start, end in _fields(content, within):
        if number == wanted and wire == _LENGTH_DELIMITED:
            yield start, end


def _tensor(model: bytes, within: tuple[int, int]) -> tuple[str, _Tensor] | None:
    dims: list[int] = []
    name, raw = b"", (0, 0)
    for number, wire, start, end in _fields(model, within):
        if number == _TENSOR_DIMS:
            # One by one or packed, as the writer of the file chose.
            while start < end:
                size, start = _varint(model, start, end)
                dims.append(size)
        elif number == _TENSOR_NAME and wire == _LENGTH_DELIMITED:
            name = model[start:end]
        elif number == _TENSOR_RAW_DATA and wire == _LENGTH_DELIMITED:
            raw = start, end
    count, size_bytes = math.prod(dims), raw[1] - raw[0]
    if not size_bytes or not count or size_bytes % count:
        return None
    return name.decode(errors="replace"), _Tensor(raw[0], (*dims, size_bytes // count))


def _fields(content: bytes, within: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of the value of every field of a message.

    Raises ValueError where the bytes are none.
    """
    place, end = within
    while place < end:
        tag, place = _varint(content, place, end)
        number, wire = tag >> 3, tag & 7
        start = place
        if wire == _VARINT:
            _, place = _varint(content, place, end)
        elif wire == _LENGTH_DELIMITED:
            size, start = _varint(content, place, end)
            place = start + size
        elif wire in _FIXED_BYTES:
            place += _FIXED_BYTES[wire]
        else:
            raise ValueError("no field of protocol buffers")
        if place > end:
            raise ValueError("a field of protocol buffers that ends early")
        yield number, wire, start, place


def _varint(content: bytes, place: int, end: int) -> tuple[int, int]:
    """A whole number and the place behind it. Raises ValueError where it does not end."""
    value = 0
    for number in range(min(_LONGEST_VARINT, end - place)):
        byte = content[place + number]
        value |= (byte & 127) << 7 * number
        if byte < 128:
            return value, place + number + 1
    raise ValueError("a number of protocol buffers that ends early")
