"""INT8 graphs of subnets, cut from the quantized full network instead of being quantized one by one.

ONNX Runtime's quantizer works once, on the full network. A subnet's graph has the same nodes, and its int8 weights,
scales, zero points and int32 biases are slices, as its float weights are. Latency does not depend on their values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from ortnas.export.graph.builder import Axis, Graph, add_initializer, entry_sizes
from ortnas.export.graph.encoder import residual_stream
from ortnas.export.graph.model import state_subnet
from ortnas.export.int8.quantize import WORD_TABLE
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import kept_parts, kept_sizes
from ortnas.nas.architecture.subnet import Layer, Subnet

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
# What the quantizer appends to the name of an initializer for what it makes of it; the longest fits first.
_DERIVED = ("_quantized_zero_point", "_quantized_scale", "_quantized", "_zero_point", "_scale", "")


@dataclass(frozen=True)
class _Piece:
    """An initializer of the full graph: values with one axis per label, and how many labels each real axis has."""

    values: npt.NDArray[Any]
    labels: tuple[str, ...]
    widths: tuple[int, ...]

    def cut(self, kept: dict[str, int]) -> npt.NDArray[Any]:
        view = self.values[tuple(slice(kept.get(label)) for label in self.labels)]
        shape, position = [], 0
        for width in self.widths:
            shape.append(math.prod(view.shape[position : position + width]))
            position += width
        return np.ascontiguousarray(view).reshape(shape)


class QuantizedSupernet:
    """The full network's INT8 model, taken apart (it is used up). ``graph`` is the float graph that it was made of,
    ``keep_float`` the weight products that subnets may leave as they are there."""

    def __init__(
        self, model: onnx.ModelProto, graph: Graph, dimensions: Dimensions, keep_float: Collection[str] = ()
    ) -> None:
        self._dimensions = dimensions
        self._sizes, self._scaled, self._folded = graph.sizes, graph.scaled, graph.folded
        self._pieces = {
            item.name: self._piece(item.name, numpy_helper.to_array(item), graph)
            for item in model.graph.initializer
            if item.name not in graph.folded
        }
        self._float_nodes = {node.name: node for node in graph.nodes if node.name in keep_float}
        # The quantizer gives what it makes of a bias the bias's name: weights and biases in float are kept apart.
        self._float_pieces = {
            name: self._piece(name, np.asarray(graph.initializers[name]), graph)
            for node in self._float_nodes.values()
            for name in node.input
            if name in graph.initializers and name not in graph.folded
        }
        streams = residual_stream(dimensions)
        self._streams = list(streams.values())
        # Numbers of the parts of layers, in the order of computing.
        self._parts = {place: number for number, place in enumerate(list(streams)[1:])}
        # One group of nodes a part of a layer, then that of the head; what the layers do not feed comes first.
        self._groups: list[list[onnx.NodeProto]] = [[] for _ in self._streams]
        self._front: list[onnx.NodeProto] = []
        behind_layers: set[str] = set()
        for node in model.graph.node:
            owner = self._owner(node.output[0])
            if owner is None and not behind_layers.isdisjoint(node.input):
                owner = len(self._parts)
            if owner is None:
                self._front.append(node)
            else:
                self._groups[owner].append(node)
                behind_layers.update(node.output)
        for field in ("node", "initializer"):
            model.graph.ClearField(field)
        self._shell = model

    def cut(self, subnet: Subnet) -> onnx.ModelProto:
        """The subnet's INT8 model. Raises SpaceError where it does not fit the supernet."""
        self._dimensions.check(subnet)
        model = onnx.ModelProto()
        model.CopyFrom(self._shell)
        model.graph.name = f"ortnas-{subnet.key}"
        state_subnet(model, subnet, "int8")
        written = set[str]()
        stream = self._streams[0]
        self._write(model.graph, self._front, (stream, stream), subnet, None, written)
        for layer in subnet.layers:
            for number in self._kept_parts(layer):
                move = self._streams[number], stream
                self._write(model.graph, self._groups[number], move, subnet, layer, written)
                stream = self._streams[number + 1]
        self._write(model.graph, self._groups[-1], (self._streams[-1], stream), subnet, None, written)
        return model

    def _piece(self, name: str, values: npt.NDArray[Any], graph: Graph) -> _Piece:
        axes = self._axes(name, values.shape, graph)
        labels = [_labels(axis) for axis in axes]
        names = tuple(label for group in labels for label in group)
        shape = [self._dimensions.sizes.get(label, size) for label, size in _expand(labels, values.shape)]
        return _Piece(values.reshape(shape), names, tuple(map(len, labels)))

    def _axes(self, name: str, shape: tuple[int, ...], graph: Graph) -> tuple[Axis, ...]:
        """What the axes of an initializer are made of; fixed sizes where the subnet changes nothing."""
        for suffix in _DERIVED:
            base = name.removesuffix(suffix)
            if name.endswith(suffix) and base in graph.axes:
                axes = graph.axes[base]
                # One scale a row of the word table, one a column of every weight, or one for all of it.
                channels = axes[:1] if base == WORD_TABLE else axes[-1:]
                for candidate in (axes, channels):
                    if shape == tuple(entry_sizes(candidate, self._dimensions.sizes)):
                        return candidate
        return tuple(int(size) for size in shape)

    def _kept_parts(self, layer: Layer) -> list[int]:
        return [self._parts[layer.source, part.name] for part in kept_parts(self._dimensions, layer)]

    def _owner(self, tensor: str) -> int | None:
        """The number of the part that a tensor belongs to, that of the parts for the head, None for what none owns.

        The integer form of the residual stream belongs to its reader, whose biases are in units of its scale.
        """
        for reader, stream in enumerate(self._streams):
            if tensor.startswith(f"{stream}_"):
                return reader
        if not tensor.startswith("layers/"):
            return None
        layer, part = tensor.split("/")[1:3]
        return self._parts[int(layer), part]

    def _write(
        self,
        target: onnx.GraphProto,
        nodes: Sequence[onnx.NodeProto],
        move: tuple[str, str],
        subnet: Subnet,
        layer: Layer | None,
        written: set[str],
    ) -> None:
        """Adds copies of nodes with the initializers that they read; ``move`` is the residual stream that they read in
        the full network and the one that they read here."""
        kept = kept_sizes(subnet, layer)
        stream, new_stream = move

        def rename(name: str) -> str:
            moves = name == stream or name.startswith(f"{stream}_")
            return new_stream + name[len(stream) :] if moves else name

        for source in nodes if layer is None else self._chosen(nodes, subnet):
            pieces = self._float_pieces if source.name in subnet.keep_float else self._pieces
            node = target.node.add()
            node.CopyFrom(source)
            node.name = rename(source.name)
            for position, name in enumerate(source.output):
                node.output[position] = rename(name)
            for position, name in enumerate(source.input):
                new_name = node.input[position] = rename(name)
                if (name in pieces or name in self._folded) and new_name not in written:
                    written.add(new_name)
                    values = self._values(name, pieces, kept)
                    owners = {name.rpartition(".")[0], name.removesuffix("_scale")}
                    is_scaled = not owners.isdisjoint(self._scaled) and values.dtype == np.float32
                    if layer is not None and is_scaled:
                        # The softmax scale is that of the subnet's head size.
                        values = values * np.float32(math.sqrt(self._dimensions.head_size / layer.head_size))
                    add_initializer(target, new_name, values)

    def _chosen(self, nodes: Sequence[onnx.NodeProto], subnet: Subnet) -> list[onnx.NodeProto]:
        """The nodes of a part, with products in float where the subnet leaves them so, and without what nobody needs
        then of what makes integers of their inputs."""
        if not subnet.keep_float:
            return list(nodes)
        kept: list[onnx.NodeProto] = []
        read = set[str]()
        for node in reversed(nodes):
            chosen = self._float_nodes[node.name] if node.name in subnet.keep_float else node
            if chosen.op_type not in _CONVERSIONS or not read.isdisjoint(chosen.output):
                kept.append(chosen)
                read.update(name for name in chosen.input if chosen is node or name not in self._float_pieces)
        return kept[::-1]

    def _values(self, name: str, pieces: Mapping[str, _Piece], kept: dict[str, int]) -> npt.NDArray[Any]:
        if name in self._folded:
            return self._folded[name](kept)
        if name in self._sizes:
            return entry_sizes(self._sizes[name], self._dimensions.sizes | kept)
        return pieces[name].cut(kept)


def _labels(axis: Axis) -> tuple[str, ...]:
    """A fixed axis has one label that nothing cuts."""
    return ("",) if isinstance(axis, int) else axis


def _expand(labels: list[tuple[str, ...]], shape: tuple[int, ...]) -> Iterable[tuple[str, int]]:
    for group, size in zip(labels, shape, strict=True):
        for label in group:
            yield label, size
