"""What a model family is: a network, and how transformers spells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ortnas.nas.architecture.blocks import Block
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.ops import Ops, Weight
from ortnas.nas.architecture.subnet import Layer

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

    ``factorised_entry`` is the entry where the tables have a width of their own. ``node_bytes`` is what the graph's
    nodes and their constants take in a file beside BERT's: once, and a layer.
    """

    entry: Block
    factorised_entry: Block
    layer: Block
    look_up: LookUp
    encode: Encode
    node_bytes: tuple[int, int] = (0, 0)

    def entry_of(self, dimensions: Dimensions) -> Block:
        return self.factorised_entry if dimensions.table_size else self.entry


@dataclass(frozen=True)
class Family:
    """A network, and how transformers spells one model type that computes it.

    Names are of whole tensors, or of modules whose ``.weight`` and ``.bias`` follow: ``embeddings`` and ``heads``
    (by head) go from canonical names to full ones, ``layer`` from canonical names within a layer to names below
    ``layers``; ``shared`` has tensors that every layer has here and all share there. ``decoder`` is the masked-LM
    decoder's weight, tied to the word table. ``settings`` holds the names of configuration keys that differ from
    BERT's, ``fixed`` the values of keys that the family does not have, ``required`` the only values of keys that
    transformers itself computes with.
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
    shared: Mapping[str, str] = field(default_factory=dict)
    # The transform of the masked-LM head has this activation, whatever the encoder's is; None: the encoder's.
    transform_activation: str | None = None
    # Position embeddings start behind the row of the padding token (fairseq's numbering).
    positions_follow_padding: bool = False
    # The embedding tables may be narrower or wider than the hidden size.
    factorises_tables: bool = False
    # Architectures beside the head's own class that bring a trained head along, by head.
    also_trained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # First parts of the names of heads that no kind of ours has, such as those of a pretraining.
    other_heads: tuple[str, ...] = ()

    @property
    def has_token_types(self) -> bool:
        return "type_vocab_size" not in self.fixed

    def class_name(self, head: str) -> str:
        return self.class_prefix + HEADS[head].class_suffix

    def read_setting(self, config: Any, key: str) -> Any:
        """The value of one of BERT's configuration keys in a transformers configuration of this family."""
        return self.fixed[key] if key in self.fixed else getattr(config, self.settings.get(key, key))

    def spell_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings under BERT's keys as this family writes them, without those that are fixed here."""
        return {self.settings.get(key, key): value for key, value in settings.items() if key not in self.fixed}
