"""Canonical tensors of a supernet and the one slicing rule that cuts a subnet out of them.

Every axis of every tensor carries a label; a subnet keeps the first entries of each labelled axis. The rule holds for
anything that slices like an array, so training (torch) and export (numpy) share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Protocol, TypeVar

from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.families.family import Network
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.ops import Axes, Weight
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from ortnas.nas.wording import shown

# The two files of a supernet folder beside the tokenizer's.
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "supernet.json"


@dataclass(frozen=True)
class Dimensions:
    """Sizes and kinds of the full network.

    ``num_labels`` and ``embedding_size`` are 0 where the head has none. ``table_size`` is the width of the embedding
    tables, 0 where that is the hidden size. ``family`` is the checkpoint's model type in transformers; ``pooling``
    ("mean" or "cls") is the embedding head's, ``head_activation`` ("tanh", "relu" or "gelu") that of the dense layer
    of the classification and regression heads. ``padding_id`` is the padding token's, from which some families count
    positions.
    """

    vocab_size: int
    max_positions: int
    token_types: int
    hidden_size: int
    num_layers: int
    num_heads: int
    head_size: int
    ffn_size: int
    layer_norm_epsilon: float
    activation: str
    head: str
    num_labels: int = 0
    embedding_size: int = 0
    family: str = "bert"
    table_size: int = 0
    pooling: str = "mean"
    head_activation: str = "tanh"
    padding_id: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Dimensions:
        """Keys that have a default may be missing. Raises SpaceError for other missing or unknown keys and for an
        unknown head."""
        names = {field.name for field in fields(cls)}
        optional = {field.name for field in fields(cls) if field.default is not MISSING}
        if wrong := names.symmetric_difference(document) - optional:
            raise SpaceError(f"dimensions: missing or unknown keys {sorted(wrong)}")
        if document["head"] not in HEADS:
            raise SpaceError(f"dimensions: head is {document['head']!r}; allowed are {', '.join(HEADS)}")
        return cls(**document)

    @property
    def network(self) -> Network:
        return FAMILIES[self.family].network

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each labelled axis of the full network."""
        return {
            "vocab": self.vocab_size,
            "position": self.max_positions,
            "token_type": self.token_types,
            "table": self.table_size,
            "hidden": self.hidden_size,
            "pooled": self.hidden_size,
            "heads": self.num_heads,
            "head": self.head_size,
            "ffn": self.ffn_size,
            "embedding": self.embedding_size,
            "label": self.num_labels,
        }

    @property
    def full_subnet(self) -> Subnet:
        layer = (self.num_heads, self.head_size, self.ffn_size)
        return Subnet(self.hidden_size, tuple(Layer(source, *layer) for source in range(self.num_layers)))

    def check(self, subnet: Subnet) -> None:
        """Raises SpaceError where the subnet is larger than the supernet or mixes up its layers."""
        sources = [layer.source for layer in subnet.layers]
        if sources != sorted(set(sources)):
            raise SpaceError(f"source layers {shown(sources)} should ascend, each used once")
        limits = {"num_heads": self.num_heads, "head_size": self.head_size, "ffn_size": self.ffn_size}
        if not 1 <= subnet.hidden_size <= self.hidden_size:
            raise SpaceError(f"hidden_size {subnet.hidden_size} does not fit the supernet's {self.hidden_size}")
        if not subnet.layers:
            raise SpaceError("a subnet needs at least one layer")
        for layer in subnet.layers:
            if not 0 <= layer.source < self.num_layers:
                raise SpaceError(f"source layer {layer.source} does not fit the supernet's {self.num_layers} layers")
            for name, limit in limits.items():
                if not 1 <= getattr(layer, name) <= limit:
                    raise SpaceError(f"{name} {getattr(layer, name)} does not fit the supernet's {limit}")


def top_axes(dimensions: Dimensions) -> dict[str, Axes]:
    """Axis labels of the embeddings and the head, by canonical name."""
    axes = dict(HEADS[dimensions.head].tensors)
    if not dimensions.table_size:
        axes = {
            name: tuple("hidden" if label == "table" else label for label in labels) for name, labels in axes.items()
        }
    return {**dimensions.network.entry_of(dimensions).tensors, **axes}


def tensor_axes(dimensions: Dimensions) -> dict[str, Axes]:
    """Axis labels of every tensor of a supernet, by canonical name."""
    axes = top_axes(dimensions)
    for index in range(dimensions.num_layers):
        axes.update({f"layers.{index}.{name}": labels for name, labels in dimensions.network.layer.tensors.items()})
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
        kept |= {"heads": layer.num_heads, "head": layer.head_size, "ffn": layer.ffn_size}
    return kept


def cut(tensor: T, axes: Axes, subnet: Subnet, layer: Layer | None = None) -> T:
    """The part of one canonical tensor that belongs to a subnet, as a view."""
    kept = kept_sizes(subnet, layer)
    view: T = tensor[tuple(slice(kept.get(label)) for label in axes)]
    return view


def cut_layers(
    tensors: Mapping[str, T], subnet: Subnet, dimensions: Dimensions
) -> Iterator[tuple[Layer, dict[str, Weight[T]]]]:
    """For each layer of the subnet, its tensors by name within the layer, as views."""
    block = dimensions.network.layer
    for layer in subnet.layers:
        prefix = f"layers.{layer.source}."
        yield (
            layer,
            {
                name: Weight(cut(tensors[prefix + name], axes, subnet, layer), axes)
                for name, axes in block.tensors.items()
            },
        )


def cut_top(tensors: Mapping[str, T], subnet: Subnet, dimensions: Dimensions) -> dict[str, Weight[T]]:
    """Embeddings and head of the subnet by canonical name, as views."""
    return {name: Weight(cut(tensors[name], axes, subnet), axes) for name, axes in top_axes(dimensions).items()}


def whole_top(tensors: Mapping[str, T], dimensions: Dimensions) -> dict[str, Weight[T]]:
    """Embeddings and head of the full network by canonical name: the tensors themselves."""
    return {name: Weight(tensors[name], axes) for name, axes in top_axes(dimensions).items()}
