"""MPNet (Song et al. 2020): BERT's network without token types, with a bias of attention by distance.

All layers of a checkpoint share one table of the bias. Here every layer has a copy: it is put in order, and cut, with
the layer's own heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ortnas.nas.architecture.blocks import POST_NORM
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families.bert import (
    EMBEDDING_NAMES,
    LAYER_NAMES,
    LAYERS,
    NETWORK,
    enter,
    post_norm_layer,
)
from ortnas.nas.architecture.families.family import Family
from ortnas.nas.architecture.families.roberta import ROBERTA_DECODER, ROBERTA_HEADS
from ortnas.nas.architecture.ops import Ops, Weight
from ortnas.nas.architecture.positions import BUCKETS
from ortnas.nas.architecture.subnet import Layer

T = TypeVar("T")
W = TypeVar("W")

_TABLE = "position_bias.weight"
# transformers has the first position in this row, whatever the padding token is.
_PADDING = 1


def _encode(
    ops: Ops[T, W],
    embedded: T,
    top: Mapping[str, Weight[W]],
    layers: Iterable[tuple[Layer, Mapping[str, Weight[W]]]],
    dimensions: Dimensions,
) -> T:
    x = enter(ops, embedded, top, dimensions)
    mask = ops.mask()
    for layer, weights in layers:
        bias = mask
        if layer.num_heads:
            bias = ops.relate(f"layers/{layer.source}/attention/positions", mask, weights[_TABLE])
        x = post_norm_layer(ops, layer, x, weights, bias, dimensions)
    return x


_ATTENTION, _FFN = POST_NORM.parts
_LAYER = replace(
    POST_NORM,
    tensors={**POST_NORM.tensors, _TABLE: ("bucket", "heads")},
    parts=(replace(_ATTENTION, modules=(*_ATTENTION.modules, "position_bias")), _FFN),
)
_OWN_NAMES = {f"attention.self.{kind}": f"attention.attn.{kind[0]}" for kind in ("query", "key", "value")} | {
    "attention.output.dense": "attention.attn.o",
    "attention.output.LayerNorm": "attention.LayerNorm",
}

MPNET = Family(
    network=replace(NETWORK, layer=_LAYER, encode=_encode, node_bytes=(4_500, 970)),
    class_prefix="MPNet",
    base="mpnet",
    embeddings=EMBEDDING_NAMES,
    layers=LAYERS,
    layer={ours: _OWN_NAMES.get(theirs, theirs) for ours, theirs in LAYER_NAMES.items()},
    shared={_TABLE: "encoder.relative_attention_bias.weight"},
    heads=ROBERTA_HEADS,
    decoder=ROBERTA_DECODER,
    head_activation="tanh",
    fixed={"type_vocab_size": 1},
    required={"relative_attention_num_buckets": BUCKETS, "pad_token_id": _PADDING},
    transform_activation="gelu",
    positions_follow_padding=True,
)
