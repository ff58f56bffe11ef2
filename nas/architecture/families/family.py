"""What a model family is: a network, and how transformers spells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ortnas.nas.architecture.blocks import NOTHING, Block
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS, Head
from ortnas.nas.architecture.ops import Axes, Ops, Weight
from ortnas.nas.architecture.subnet import Layer, Subnet

T = TypeVar("T")
W = TypeVar("W")


class LookUp(Protocol):
    def __call__(self, ops: Ops[T, W], top: Mapping[str, Weight[W]]) -> T: ...


class Encode(Protocol):
    def __call__(
        self,
        ops: Ops[T, W],
        embedded: T,
        top: Mapping[str, Weight[W]],
        layers: Iterable[tuple[Layer, Mapping[str, Weight[W]]]],
        dimensions: Dimensions,
    ) -> T: ...


@dataclass(frozen=True)
class Network:
    """``look_up`` sums the embeddings, ``encode`` goes on to the last hidden state, [tokens, hidden].

    ``factorised_entry`` is the entry where the tables have a width of their own, ``first_layer`` the checkpoint's first
    layer where it is another than the others, ``exit`` what is behind the last. ``heads`` are this network's, by name.
    ``node_bytes`` is what the graph's nodes and their constants take in a file beside BERT's: once, and a layer.
    ``folded`` are the axes of what a layer's attention has in graphs in place of the tensors ``folded_from``.
    """

    entry: Block
    factorised_entry: Block
    layer: Block
    look_up: LookUp
    encode: Encode
    first_layer: Block | None = None
    exit: Block = NOTHING
    heads: Mapping[str, Head] = field(default_factory=lambda: HEADS)
    node_bytes: tuple[int, int] = (0, 0)
    folded: Mapping[str, Axes] = field(default_factory=dict)
    folded_from: tuple[str, ...] = ()

    def layer_at(self, source: int) -> Block:
        """The layer in this place of the checkpoint."""
        return self.first_layer if source == 0 and self.first_layer is not None else self.layer

    @property
    def is_gated(self) -> bool:
        return any(product.module == "ffn_gate" for product in self.layer.products)

    def entry_of(self, dimensions: Dimensions) -> Block:
        return self.factorised_entry if dimensions.table_size else self.entry


def _nothing_more(*_: Any) -> dict[str, Any]:
    return {}


def _as_it_is(_: Any, name: str) -> str:
    return name


@dataclass(frozen=True)
class Family:
    """A network, and how transformers spells one model type that computes it.

    Names are of whole tensors, or of modules whose ``.weight`` and ``.bias`` follow: ``embeddings``, ``exit`` and
    ``heads`` (by head) go from canonical names to full ones, ``layer`` from canonical names within a layer to names
    below ``layers``; ``shared`` has tensors that every layer has here and all share there. ``decoder`` is the masked-LM
    decoder's weight, tied to the word table. ``settings`` holds the names of configuration keys that differ from
    BERT's, ``fixed`` the values of keys that the family does not have, ``required`` the only values of keys that
    transformers itself computes with. In files, names have the keys of ``renamed`` for its values, and ``fused`` are
    modules, by the end of their names, that are taken apart, in the order of their rows, into those that the other
    names are of. ``bias_settings`` has the keys that say whether there are biases, by canonical module. ``read_own``
    makes fields of ``Dimensions`` of what else a configuration says, or raises ValueError; ``spell_own`` is the way
    back. ``respell`` gives the names here of tensors that some configurations call otherwise.
    """

    network: Network
    class_prefix: str
    base: str
    embeddings: Mapping[str, str]
    layers: str
    layer: Mapping[str, str]
    heads: Mapping[str, Mapping[str, str]]
    decoder: str
    head_activation: str
    settings: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)
    exit: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bias_settings: Mapping[str, str] = field(default_factory=dict)
    read_own: Callable[[Any], dict[str, Any]] = _nothing_more
    spell_own: Callable[[Dimensions, Subnet], dict[str, Any]] = _nothing_more
    respell: Callable[[Any, str], str] = _as_it_is
    shared: Mapping[str, str] = field(default_factory=dict)
    # The transform of the masked-LM head has this activation, whatever the encoder's is; None: the encoder's.
    transform_activation: str | None = None
    # Position embeddings start behind the row of the padding token (fairseq's numbering).
    positions_follow_padding: bool = False
    # The embedding tables may be narrower or wider than the hidden size.
    factorises_tables: bool = False
    # Architectures beside the head's own class that bring a trained head along, by head.
    also_trained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Its checkpoints name classes of their own (auto_map), which transformers has taken over since.
    was_own_code: bool = False
    # First parts of the names of heads that no kind of ours has, such as those of a pretraining.
    other_heads: tuple[str, ...] = ()

    @property
    def has_token_types(self) -> bool:
        return "type_vocab_size" not in self.fixed

    def bias_setting(self, name: str) -> str | None:
        """The key that says whether there is a canonical tensor, where that is a bias that a checkpoint may lack."""
        *path, kind = name.split(".")
        module = ".".join(path[2:] if path[0] == "layers" else path)
        return self.bias_settings.get(module) if kind == "bias" else None

    def class_name(self, head: str) -> str:
        return self.class_prefix + HEADS[head].class_suffix

    def read_setting(self, config: Any, key: str) -> Any:
        """The value of one of BERT's configuration keys in a transformers configuration of this family."""
        return self.fixed[key] if key in self.fixed else getattr(config, self.settings.get(key, key))

    def spell_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings under BERT's keys as this family writes them, without those that are fixed here."""
        return {self.settings.get(key, key): value for key, value in settings.items() if key not in self.fixed}
