"""DeBERTa v2 and v3 (He et al. 2021): BERT's layers, whose scores know distances by queries and keys of their own.

All layers project one table of distances with the weights of their own queries and keys (``share_att_key``). It has the
channels of the residual stream, and is cut with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ortnas.nas.architecture.activations import ACTIVATIONS, SPELLED_ACTIVATIONS
from ortnas.nas.architecture.blocks import POST_NORM, Block, Gate
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families.bert import CLASSIFIER, LAYER_NAMES, LAYERS, NETWORK, SPAN, attended, ffn
from ortnas.nas.architecture.families.family import Family
from ortnas.nas.architecture.ops import HeadPart, Ops, RelativeTable, Weight
from ortnas.nas.architecture.subnet import Layer, Subnet

T = TypeVar("T")
W = TypeVar("W")

# Token and token, token and position, position and token.
_TERMS = 3

_ENTRY = Block(
    tensors={
        "embeddings.word": ("vocab", "hidden"),
        "embeddings.norm.weight": ("hidden",),
        "embeddings.norm.bias": ("hidden",),
        "positions.table": ("relative", "hidden"),
        "positions.norm.weight": ("hidden",),
        "positions.norm.bias": ("hidden",),
    },
    products=(),
    gates=tuple(
        Gate("hidden", (f"{name}.weight", f"{name}.bias"), ("hidden",))
        for name in ("embeddings.norm", "positions.norm")
    ),
    output="embeddings/norm",
)


def _look_up(ops: Ops[T, W], top: Mapping[str, Weight[W]]) -> T:
    return ops.look_up(top["embeddings.word"], None, None)


def _encode(
    ops: Ops[T, W],
    embedded: T,
    top: Mapping[str, Weight[W]],
    layers: Iterable[tuple[Layer, Mapping[str, Weight[W]]]],
    dimensions: Dimensions,
) -> T:
    epsilon = dimensions.layer_norm_epsilon
    norm = top["embeddings.norm.weight"], top["embeddings.norm.bias"]
    x = ops.layer_norm("embeddings/norm", embedded, *norm, epsilon)
    table = RelativeTable(
        top["positions.table"],
        top["positions.norm.weight"],
        top["positions.norm.bias"],
        epsilon,
        dimensions.position_buckets,
        dimensions.farthest_position,
    )
    mask = ops.mask()
    for layer, weights in layers:
        name = f"layers/{layer.source}"
        if layer.num_heads:
            x = attended(ops, name, x, _mixed(ops, f"{name}/attention", x, weights, mask, table), weights, epsilon)
        if layer.ffn_size:
            x = ffn(ops, name, x, weights, dimensions)
    return x


def _mixed(ops: Ops[T, W], name: str, x: T, weights: Mapping[str, Weight[W]], mask: T, table: RelativeTable[W]) -> T:
    def projection(part: str) -> tuple[Weight[W], Weight[W]]:
        return weights[f"{part}.weight"], weights[f"{part}.bias"]

    parts: tuple[HeadPart, ...] = ("query", "key", "value")
    query, key, value = (ops.heads(f"{name}/{part}", x, *projection(part), part, terms=_TERMS) for part in parts)
    by_position = (
        ops.position_heads(f"{name}/position_query", table, *projection("query"), "query"),
        ops.position_heads(f"{name}/position_key", table, *projection("key"), "key"),
    )
    return ops.attend(name, query, key, value, mask, by_position)


# What a configuration has to say, and what it says where it says nothing.
_REQUIRED: dict[str, tuple[Any, Any]] = {
    "relative_attention": (True, False),
    "share_att_key": (True, False),
    "position_biased_input": (False, True),
    "type_vocab_size": (0, 0),
    "conv_kernel_size": (0, 0),
}


def _read(values: Any) -> dict[str, Any]:
    """What a configuration says beside BERT's keys, as fields of ``Dimensions``. Raises ValueError."""
    for key, (needed, default) in _REQUIRED.items():
        if (stated := getattr(values, key, default)) != needed:
            raise ValueError(f"{key} = {stated!r}; only {needed!r}, as in all of DeBERTa-v3, is supported")
    kinds = sorted(values.pos_att_type or ())
    if kinds != ["c2p", "p2c"]:
        raise ValueError(f"pos_att_type = {kinds}; only c2p and p2c together are supported")
    if (norm := str(getattr(values, "norm_rel_ebd", "none"))).strip().lower() != "layer_norm":
        raise ValueError(f"norm_rel_ebd = {norm!r}; only 'layer_norm' is supported")
    head_size = values.hidden_size // values.num_attention_heads
    for key, size in {
        "embedding_size": values.hidden_size,
        "pooler_hidden_size": values.hidden_size,
        "attention_head_size": head_size,
    }.items():
        if (stated := getattr(values, key, size)) != size:
            raise ValueError(f"{key} = {stated!r}, and by the hidden size it would be {size}: that is not supported")
    buckets, farthest = getattr(values, "position_buckets", -1), values.max_relative_positions
    if farthest < 1:
        farthest = values.max_position_embeddings
    if type(buckets) is not int or not 4 <= buckets < 2 * (farthest - 1):
        raise ValueError(
            f"position_buckets = {buckets!r}; there should be from 4 to twice the farthest distance, {farthest - 1}"
        )
    if values.pooler_hidden_act not in ACTIVATIONS:
        raise ValueError(f"pooler_hidden_act = {values.pooler_hidden_act!r} is not supported")
    return {
        "position_buckets": buckets,
        "farthest_position": farthest,
        "head_activation": ACTIVATIONS[values.pooler_hidden_act],
    }


def _spell(dimensions: Dimensions, subnet: Subnet) -> dict[str, Any]:
    """The configuration's keys beside BERT's."""
    activation = dimensions.head_activation
    return {
        **{key: needed for key, (needed, default) in _REQUIRED.items() if needed != default},
        "type_vocab_size": 0,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "position_buckets": dimensions.position_buckets,
        "max_relative_positions": dimensions.farthest_position,
        "pooler_hidden_size": subnet.hidden_size,
        "pooler_hidden_act": SPELLED_ACTIVATIONS.get(activation, activation),
    }


# The masked-LM head as it was pretrained, and where transformers' first version of it has the same modules.
_OWN_HEAD, _FIRST_HEAD = "lm_predictions.lm_head", "cls.predictions"
_RESPELLED = {f"{_OWN_HEAD}.{part}.": f"{_FIRST_HEAD}.transform.{part}." for part in ("dense", "LayerNorm")} | {
    f"{_OWN_HEAD}.bias": f"{_FIRST_HEAD}.bias"
}


def _respell(values: Any, name: str) -> str:
    """The name of a tensor here; which of two masked-LM heads counts is said by ``legacy``."""
    own = None if values.legacy else next((own for own in _RESPELLED if name.startswith(own)), None)
    return name if own is None else _RESPELLED[own] + name.removeprefix(own)


_POOLED = {"head.pooler": "pooler.dense", "head.classifier": "classifier"}
_OWN_NAMES = {f"attention.self.{kind}": f"attention.self.{kind}_proj" for kind in ("query", "key", "value")}

DEBERTA_V2 = Family(
    network=replace(
        NETWORK,
        entry=_ENTRY,
        factorised_entry=_ENTRY,
        layer=POST_NORM,
        look_up=_look_up,
        encode=_encode,
        folded={f"position_{part}.table": ("heads", "relative", "head") for part in ("query", "key")},
        folded_from=tuple(name for name in _ENTRY.tensors if name.startswith("positions.")),
        node_bytes=(2_200, 3_000),
    ),
    class_prefix="DebertaV2",
    base="deberta",
    embeddings={
        "embeddings.word": "embeddings.word_embeddings.weight",
        "embeddings.norm": "embeddings.LayerNorm",
        "positions.table": "encoder.rel_embeddings.weight",
        "positions.norm": "encoder.LayerNorm",
    },
    layers=LAYERS,
    layer={ours: _OWN_NAMES.get(theirs, theirs) for ours, theirs in LAYER_NAMES.items()},
    heads={
        "classification": _POOLED,
        "token-classification": CLASSIFIER,
        "span": SPAN,
        "masked-lm": {
            "head.transform": f"{_FIRST_HEAD}.transform.dense",
            "head.transform_norm": f"{_FIRST_HEAD}.transform.LayerNorm",
            "head.decoder.bias": f"{_FIRST_HEAD}.bias",
        },
    },
    decoder=f"{_FIRST_HEAD}.decoder.weight",
    head_activation="gelu",
    fixed={"type_vocab_size": 1},
    read_own=_read,
    spell_own=_spell,
    respell=_respell,
    # The heads of a pretraining, which no head here takes its weights from.
    other_heads=("lm_predictions", "mask_predictions"),
)
