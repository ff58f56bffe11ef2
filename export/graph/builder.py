"""A growing ONNX graph, with what its initializers' axes are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from ortnas.nas.architecture.ops import Group
from ortnas.nas.arrays import Array

# What an axis of a graph's tensor is made of: labels of the network's axes, flattened into one, or a fixed size.
Axis = Group | int


class Graph:
    """Nodes and initializers in the making; every method returns the name of the tensor that it adds.

    Initializers are views of the supernet's tensors wherever they hold the same values.

    ``axes`` says of every initializer whose shape depends on the subnet what its axes are made of, ``sizes`` the same
    of the entries of those that hold sizes. ``scaled`` are the products whose weights hold the softmax scale, and the
    tensors that are made of them. ``folded`` computes initializers that are sums over axes that a subnet cuts, of what
    it keeps of each label.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, npt.NDArray[np.generic]] = {}
        self.value_info: list[onnx.ValueInfoProto] = []
        self.axes: dict[str, tuple[Axis, ...]] = {}
        self.sizes: dict[str, tuple[Axis, ...]] = {}
        self.scaled: set[str] = set()
        self.folded: dict[str, Callable[[Mapping[str, int]], Array]] = {}

    def constant(self, name: str, value: npt.NDArray[np.generic], axes: tuple[Axis, ...] = ()) -> str:
        self.initializers.setdefault(name, value)
        if axes:
            self.axes[name] = axes
        return name

    def fold(self, name: str, compute: Callable[[Mapping[str, int]], Array]) -> str:
        """A constant computed of weights; ``compute`` is given the sizes of labelled axes that are not kept whole."""
        self.folded[name] = compute
        return self.constant(name, compute({}))

    def integers(self, *values: int) -> str:
        return self.constant("integers." + "_".join(map(str, values)), np.array(values, np.int64))

    def sizes_of(self, name: str, entries: tuple[Axis, ...], sizes: Mapping[str, int]) -> str:
        self.sizes[name] = entries
        return self.constant(name, entry_sizes(entries, sizes))

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        shape: Sequence[int | str] | None = None,
        name: str = "",
        **attributes: object,
    ) -> str:
        """``shape`` is stated for inner tensors whose width the quantizer needs; ``name`` is the output's if empty."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=name or output, **attributes))
        if shape is not None:
            self.value_info.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape)))
        return output

    def split(self, tensor: str, outputs: Sequence[str], name: str) -> None:
        """Equal parts of the last axis."""
        self.nodes.append(
            helper.make_node("Split", [tensor], list(outputs), name=name, axis=-1, num_outputs=len(outputs))
        )


def entry_sizes(entries: tuple[Axis, ...], sizes: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Each entry's size, given those of the labels it is made of."""
    return np.array(
        [entry if isinstance(entry, int) else math.prod(sizes[label] for label in entry) for entry in entries], np.int64
    )


def add_initializer(
    target: onnx.GraphProto, name: str, values: npt.NDArray[np.generic], external: bool = False
) -> None:
    """Writes values, of any memory layout, where they will stay: a tensor made apart would be copied once more."""
    tensor = target.initializer.add()
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.dims.extend(values.shape)
    if external:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
    else:
        tensor.raw_data = values.tobytes()
