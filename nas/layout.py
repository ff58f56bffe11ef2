"""Canonical tensors of a supernet and the one slicing rule that cuts a subnet out of them.

Every axis of every tensor carries a label; a subnet keeps the first entries of each labelled axis. The rule holds for
anything that slices like an array, so training (torch) and export (numpy) share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, TypeVar

from nas.space import Layer, SpaceError, Subnet

Axes = tuple[str, ...]

# The two files of a supernet folder beside the tokenizer's.
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "supernet.json"

EMBEDDINGS: dict[str, Axes] = {
    "embeddings.word": ("vocab", "hidden"),
    "embeddings.position": ("position", "hidden"),
    "embeddings.token_type": ("token_type", "hidden"),
    "embeddings.norm.weight": ("hidden",),
    "embeddings.norm.bias": ("hidden",),
}
LAYER: dict[str, Axes] = {
    "query.weight": ("heads", "head", "hidden"),
    "query.bias": ("heads", "head"),
    "key.weight": ("heads", "head", "hidden"),
    "key.bias": ("heads", "head"),
    "value.weight": ("heads", "head", "hidden"),
    "value.bias": ("heads", "head"),
    "output.weight": ("hidden", "heads", "head"),
    "output.bias": ("hidden",),
    "attention_norm.weight": ("hidden",),
    "attention_norm.bias": ("hidden",),
    "ffn_in.weight": ("ffn", "hidden"),
    "ffn_in.bias": ("ffn",),
    "ffn_out.weight": ("hidden", "ffn"),
    "ffn_out.bias": ("hidden",),
    "ffn_norm.weight": ("hidden",),
    "ffn_norm.bias": ("hidden",),
}
HEADS: dict[str, dict[str, Axes]] = {
    "embedding": {"head.projection.weight": ("embedding", "hidden")},
    "classification": {
        "head.pooler.weight": ("pooled", "hidden"),
        "head.pooler.bias": ("pooled",),
        "head.classifier.weight": ("label", "pooled"),
        "head.classifier.bias": ("label",),
    },
}


@dataclass(frozen=True)
class Dimensions:
    """Sizes of the full network. ``num_labels`` is 0 and ``embedding_size`` is 0 where the head has none."""

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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Dimensions:
        """Raises SpaceError for missing or unknown keys."""
        names = {field.name for field in fields(cls)}
        if wrong := names.symmetric_difference(document) - {"num_labels", "embedding_size"}:
            raise SpaceError(f"dimensions: missing or unknown keys {sorted(wrong)}")
        return cls(**document)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each labelled axis of the full network."""
        return {
            "vocab": self.vocab_size,
            "position": self.max_positions,
            "token_type": self.token_types,
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
        """Raises SpaceError where the subnet is larger than the supernet."""
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


def tensor_axes(dimensions: Dimensions) -> dict[str, Axes]:
    """Axis labels of every tensor of a supernet, by canonical name."""
    axes = dict(EMBEDDINGS)
    for index in range(dimensions.num_layers):
        axes.update({f"layers.{index}.{name}": labels for name, labels in LAYER.items()})
    return axes | HEADS[dimensions.head]


def tensor_shape(axes: Axes, dimensions: Dimensions) -> tuple[int, ...]:
    return tuple(dimensions.sizes[label] for label in axes)


class _Sliceable(Protocol):
    def __getitem__(self, index: tuple[slice, ...], /) -> Any: ...


T = TypeVar("T", bound=_Sliceable)


def cut(tensor: T, axes: Axes, subnet: Subnet, layer: Layer | None = None) -> T:
    """The part of one canonical tensor that belongs to a subnet, as a view."""
    kept = {"hidden": subnet.hidden_size, "pooled": subnet.hidden_size}
    if layer is not None:
        kept |= {"heads": layer.num_heads, "head": layer.head_size, "ffn": layer.ffn_size}
    view: T = tensor[tuple(slice(kept.get(label)) for label in axes)]
    return view


def cut_layers(tensors: Mapping[str, T], subnet: Subnet) -> Iterator[tuple[Layer, dict[str, T]]]:
    """For each layer of the subnet, its tensors by name within the layer, as views."""
    for layer in subnet.layers:
        prefix = f"layers.{layer.source}."
        yield layer, {name: cut(tensors[prefix + name], axes, subnet, layer) for name, axes in LAYER.items()}


def cut_top(tensors: Mapping[str, T], subnet: Subnet, head: str) -> dict[str, T]:
    """Embeddings and head of the subnet by canonical name, as views."""
    return {name: cut(tensors[name], axes, subnet) for name, axes in (EMBEDDINGS | HEADS[head]).items()}
