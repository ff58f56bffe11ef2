"""Canonical tensors of a supernet and the one slicing rule that cuts a subnet out of them.

Every axis of every tensor carries a label; a subnet keeps the first entries of each labelled axis. The rule holds for
anything that slices like an array, so training (torch) and export (numpy) share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

from ortnas.nas.architecture.blocks import Part
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.families.family import Network
from ortnas.nas.architecture.heads import HEADS, Head
from ortnas.nas.architecture.ops import Axes, Weight
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet

# The two files of a supernet folder beside the tokenizer's.
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "supernet.json"


def read_dimensions(document: Mapping[str, Any]) -> Dimensions:
    """Raises SpaceError where ``Dimensions.from_json`` does, and for an unknown head."""
    dimensions = Dimensions.from_json(document)
    if dimensions.head not in HEADS:
        raise SpaceError(f"dimensions: head is {dimensions.head!r}; allowed are {', '.join(HEADS)}")
    return dimensions


def network_of(dimensions: Dimensions) -> Network:
    """The network of the dimensions' family."""
    return FAMILIES[dimensions.family].network


def head_of(dimensions: Dimensions) -> Head:
    """The head as the dimensions' family has it."""
    return network_of(dimensions).heads[dimensions.head]


def top_axes(dimensions: Dimensions) -> dict[str, Axes]:
    """Axis labels of the embeddings, the exit and the head, by canonical name."""
    network, axes = network_of(dimensions), head_of(dimensions).tensors_of(dimensions)
    if not dimensions.table_size:
        axes = {
            name: tuple("hidden" if label == "table" else label for label in labels) for name, labels in axes.items()
        }
    return {**network.entry_of(dimensions).tensors, **network.exit.tensors, **axes}


def tensor_axes(dimensions: Dimensions) -> dict[str, Axes]:
    """Axis labels of every tensor of a supernet, by canonical name."""
    network, axes = network_of(dimensions), top_axes(dimensions)
    for index in range(dimensions.num_layers):
        of_layer = network.layer_at(index).tensors
        axes.update({f"layers.{index}.{name}": labels for name, labels in of_layer.items()})
    return axes


def split_name(name: str) -> tuple[str, str]:
    """A canonical name as that of a layer with its dot, empty for the entry and the head, and the name within it."""
    parts = name.split(".", 2)
    return (f"layers.{parts[1]}.", parts[2]) if parts[0] == "layers" else ("", name)


def tensor_shape(axes: Axes, dimensions: Dimensions) -> tuple[int, ...]:
    return tuple(dimensions.sizes[label] for label in axes)


class _Sliceable(Protocol):
    def __getitem__(self, index: tuple[slice, ...], /) -> Any: ...


T = TypeVar("T", bound=_Sliceable)


def kept_sizes(subnet: Subnet, layer: Layer | None = None) -> dict[str, int]:
    """How much of each labelled axis belongs to a subnet; axes that are not named are kept whole."""
    kept = {"hidden": subnet.hidden_size, "pooled": subnet.hidden_size}
    if layer is not None:
        kept |= _layer_sizes(layer)
    return kept


def kept_parts(dimensions: Dimensions, layer: Layer) -> list[Part]:
    """The parts of the supernet's layer that a subnet's has."""
    sizes = _layer_sizes(layer)
    return [part for part in network_of(dimensions).layer.parts if sizes[part.axis]]


def _layer_sizes(layer: Layer) -> dict[str, int]:
    return {"heads": layer.num_heads, "head": layer.head_size, "ffn": layer.ffn_size}


def cut(tensor: T, axes: Axes, subnet: Subnet, layer: Layer | None = None) -> T:
    """The part of one canonical tensor that belongs to a subnet, as a view."""
    kept = kept_sizes(subnet, layer)
    view: T = tensor[tuple(slice(kept.get(label)) for label in axes)]
    return view


def cut_layers(
    tensors: Mapping[str, T], subnet: Subnet, dimensions: Dimensions
) -> Iterator[tuple[Layer, dict[str, Weight[T]]]]:
    """For each layer of the subnet, its tensors by name within the layer, as views; without those of absent parts."""
    network = network_of(dimensions)
    for layer in subnet.layers:
        prefix, modules = f"layers.{layer.source}.", _kept_modules(dimensions, layer)
        yield (
            layer,
            {
                name: Weight(cut(tensors[prefix + name], axes, subnet, layer), axes)
                for name, axes in network.layer_at(layer.source).tensors.items()
                if name.rsplit(".", 1)[0] in modules
            },
        )


def _kept_modules(dimensions: Dimensions, layer: Layer) -> set[str]:
    return {module for part in kept_parts(dimensions, layer) for module in part.modules}


def cut_top(tensors: Mapping[str, T], subnet: Subnet, dimensions: Dimensions) -> dict[str, Weight[T]]:
    """Embeddings and head of the subnet by canonical name, as views."""
    return {name: Weight(cut(tensors[name], axes, subnet), axes) for name, axes in top_axes(dimensions).items()}


def whole_top(tensors: Mapping[str, T], dimensions: Dimensions) -> dict[str, Weight[T]]:
    """Embeddings and head of the full network by canonical name: the tensors themselves."""
    return {name: Weight(tensors[name], axes) for name, axes in top_axes(dimensions).items()}
