"""Sizes and kinds of a full network, of which subnets are parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.architecture.positions import BUCKETS
from ortnas.nas.architecture.sentence_modules import (
    NORMALIZE,
    POOLING_MODES,
    SentenceModule,
    module_sizes,
)
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from ortnas.nas.wording import shown


@dataclass(frozen=True)
class Dimensions:
    """Sizes and kinds of the full network.

    ``num_labels`` and ``embedding_size`` are 0 where the head has none. ``table_size`` is the width of the embedding
    tables, 0 where that is the hidden size. ``family`` is the checkpoint's model type in transformers; ``pooling`` is
    what the embedding head makes of a text's tokens, side by side, and ``modules`` what becomes of that vector.
    ``head_activation`` ("tanh", "relu" or "gelu") is that of the dense layer of the classification and regression
    heads, and ``classifier_pooling`` ("cls" or "mean") what that layer reads. ``padding_id`` is the padding token's,
    from which some families count positions. ``has_own_decoder`` where the masked-LM head does not share the word
    table. ``rotary_theta`` is the base of the angles by which heads are turned, 0 where they are not; ``local_layers``
    of the checkpoint look no farther than ``local_reach`` tokens to either side, and have a base of their own.
    ``position_buckets`` are those of distances to either side where positions have queries and keys, 0 where they have
    none; ``farthest_position`` is the distance from which on all are in the last.
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
    pooling: tuple[PoolingMode, ...] = ("mean",)
    modules: tuple[SentenceModule, ...] = (NORMALIZE,)
    head_activation: str = "tanh"
    padding_id: int = 0
    has_own_decoder: bool = False
    classifier_pooling: str = "cls"
    rotary_theta: float = 0.0
    local_theta: float = 0.0
    local_reach: int = 0
    local_layers: tuple[int, ...] = ()
    position_buckets: int = 0
    farthest_position: int = 0

    def to_json(self) -> dict[str, Any]:
        """Without what only networks with turned heads, or with queries and keys of positions, have, where this is
        none."""
        document = asdict(self) | {"local_layers": list(self.local_layers)}
        if not self.rotary_theta:
            for name in ("classifier_pooling", "rotary_theta", "local_theta", "local_reach", "local_layers"):
                del document[name]
        if not self.position_buckets:
            del document["position_buckets"], document["farthest_position"]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Dimensions:
        """Keys that have a default may be missing. Raises SpaceError for other missing or unknown keys, and for
        poolings or modules that do not exist."""
        names = {field.name for field in fields(cls)}
        optional = {field.name for field in fields(cls) if field.default is not MISSING}
        if wrong := names.symmetric_difference(document) - optional:
            raise SpaceError(f"dimensions: missing or unknown keys {sorted(wrong)}")
        values = dict(document)
        # One mode stands for itself in folders of earlier releases.
        pooling = values.get("pooling", ["mean"])
        values["pooling"] = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        if not values["pooling"] or not set(values["pooling"]) <= set(POOLING_MODES):
            raise SpaceError(f"dimensions: pooling is {shown(pooling)}; there are {', '.join(POOLING_MODES)}")
        if "modules" in values:
            try:
                values["modules"] = tuple(map(SentenceModule.from_json, values["modules"]))
            except (TypeError, ValueError) as error:
                raise SpaceError(f"dimensions: {error}") from error
        values["local_layers"] = tuple(values.get("local_layers", ()))
        return cls(**values)

    @property
    def makes_unit_vectors(self) -> bool:
        """Whether embeddings are of length one."""
        return bool(self.modules) and self.modules[-1].kind == "normalize"

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each labelled axis of the full network."""
        return {
            "vocab": self.vocab_size,
            "position": self.max_positions,
            "bucket": BUCKETS,
            "relative": 2 * self.position_buckets,
            "token_type": self.token_types,
            "table": self.table_size,
            "hidden": self.hidden_size,
            "pooled": self.hidden_size,
            "heads": self.num_heads,
            "head": self.head_size,
            "ffn": self.ffn_size,
            "channel": self.hidden_size,
            "embedding": self.embedding_size,
            "label": self.num_labels,
            **module_sizes(len(self.pooling) * self.hidden_size, self.modules),
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
        if not any(layer.num_heads for layer in subnet.layers):
            raise SpaceError("a subnet needs attention in one of its layers")
        for layer in subnet.layers:
            if not layer.num_heads and not layer.ffn_size:
                raise SpaceError(f"layer {layer.source} has neither attention nor FFN; leave it out")
            if not layer.num_heads and layer.head_size:
                raise SpaceError(f"layer {layer.source} has no heads; their size is 0 then, not {layer.head_size}")
            if not 0 <= layer.source < self.num_layers:
                raise SpaceError(f"source layer {layer.source} does not fit the supernet's {self.num_layers} layers")
            for name, limit in limits.items():
                lowest = 1 if name == "head_size" and layer.num_heads else 0
                if not lowest <= getattr(layer, name) <= limit:
                    raise SpaceError(f"{name} {getattr(layer, name)} does not fit the supernet's {limit}")
            if self.rotary_theta and layer.num_heads and layer.head_size != self.head_size:
                raise SpaceError(
                    f"head_size {layer.head_size} cuts heads of {self.head_size}, whose entries are turned by pairs, "
                    f"the first half with the second; choose fewer heads of the whole size"
                )
