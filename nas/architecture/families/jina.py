"""Jina Embeddings v3 (Sturua et al. 2024): RoBERTa's network, with heads turned by positions instead of a table.

Adapters for tasks are not part of what is read: merge one first, or take the checkpoint without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ortnas.nas.architecture.blocks import POST_NORM, Block
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families.bert import (
    EMBEDDING_NAMES,
    NETWORK,
    enter,
    post_norm_layer,
)
from ortnas.nas.architecture.families.family import Family
from ortnas.nas.architecture.families.roberta import ROBERTA_DECODER, ROBERTA_HEADS
from ortnas.nas.architecture.ops import Ops, Weight
from ortnas.nas.architecture.subnet import Layer, Subnet

T = TypeVar("T")
W = TypeVar("W")


def _without_positions(block: Block) -> Block:
    return replace(block, tensors={name: axes for name, axes in block.tensors.items() if name != "embeddings.position"})


def _look_up(ops: Ops[T, W], top: Mapping[str, Weight[W]]) -> T:
    return ops.look_up(top["embeddings.word"], None, top["embeddings.token_type"])


def _encode(
    ops: Ops[T, W],
    embedded: T,
    top: Mapping[str, Weight[W]],
    layers: Iterable[tuple[Layer, Mapping[str, Weight[W]]]],
    dimensions: Dimensions,
) -> T:
    x = enter(ops, embedded, top, dimensions)
    mask, turns = ops.mask(), ops.turns(dimensions.rotary_theta, dimensions.head_size)
    for layer, weights in layers:
        x = post_norm_layer(ops, layer, x, weights, mask, dimensions, turns)
    return x


def read_rotation(values: Any) -> dict[str, Any]:
    """Fields of ``Dimensions``. Raises ValueError."""
    settings = values.rope_parameters
    if settings["rope_type"] != "default":
        raise ValueError(f"rope_type = {settings['rope_type']!r}; only 'default' is supported")
    if values.hidden_size // values.num_attention_heads % 2:
        raise ValueError("heads of an odd size cannot be turned by pairs")
    return {"rotary_theta": float(settings["rope_theta"])}


def spell_rotation(dimensions: Dimensions, _: Subnet) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": dimensions.rotary_theta}}


JINA_V3 = Family(
    network=replace(
        NETWORK,
        entry=_without_positions(NETWORK.entry),
        factorised_entry=_without_positions(NETWORK.factorised_entry),
        # Inside heads, places tell which entries are turned together: they keep their order.
        layer=replace(POST_NORM, gates=tuple(gate for gate in POST_NORM.gates if not gate.is_inside_heads)),
        look_up=_look_up,
        encode=_encode,
        node_bytes=(0, 1_410),
    ),
    class_prefix="JinaEmbeddingsV3",
    base="roberta",
    embeddings={ours: theirs for ours, theirs in EMBEDDING_NAMES.items() if ours != "embeddings.position"},
    layers="layers",
    layer={
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.o_proj",
        "attention_norm": "post_attention_layernorm",
        "ffn_in": "mlp.fc1",
        "ffn_out": "mlp.fc2",
        "ffn_norm": "post_mlp_layernorm",
    },
    renamed={
        "emb_ln": "embeddings.LayerNorm",
        "encoder.layers": "layers",
        "mixer.out_proj": "self_attn.o_proj",
        "norm1": "post_attention_layernorm",
        "norm2": "post_mlp_layernorm",
    },
    fused={"mixer.Wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")},
    heads=ROBERTA_HEADS,
    decoder=ROBERTA_DECODER,
    head_activation="tanh",
    transform_activation="gelu",
    read_own=read_rotation,
    spell_own=spell_rotation,
)
