"""ModernBERT (Warner et al. 2024): layer norms before the products, turned heads, a gated FFN, and layers of which most
look at a window.

A bias that a checkpoint lacks is zero at first, and trained like the others; transformers can hold it. Which layers
look far goes with the checkpoint's layers, whichever of them a subnet keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ortnas.nas.architecture.activations import ACTIVATIONS, SPELLED_ACTIVATIONS
from ortnas.nas.architecture.blocks import GATED, Block, Gate
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families.family import Family, Network
from ortnas.nas.architecture.head_passes import (
    HeadPass,
    predicted_columns,
    predicted_labels,
    predicted_text_logits,
    predicted_vocabulary_logits,
    predicted_vocabulary_weights,
    text_logits,
    token_columns,
    token_labels,
    vocabulary_logits,
    vocabulary_weights,
)
from ortnas.nas.architecture.heads import HEADS, Head
from ortnas.nas.architecture.ops import HeadPart, Ops, Weight
from ortnas.nas.architecture.subnet import Layer, Subnet

T = TypeVar("T")
W = TypeVar("W")

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"

_ENTRY = Block(
    tensors={
        "embeddings.word": ("vocab", "hidden"),
        "embeddings.norm.weight": ("hidden",),
        "embeddings.norm.bias": ("hidden",),
    },
    products=(),
    gates=(Gate("hidden", ("embeddings.norm.weight", "embeddings.norm.bias"), ("hidden",)),),
    output="embeddings/norm",
)
_EXIT = Block(
    tensors={"final_norm.weight": ("hidden",), "final_norm.bias": ("hidden",)},
    products=(),
    gates=(Gate("hidden", ("final_norm.weight", "final_norm.bias"), ("hidden",)),),
    output="final/norm",
)
# A channel of the residual stream has a gate where a block writes it and one where a norm hands it on to a block.
_WRITTEN = tuple(Gate("hidden", (f"{name}.weight", f"{name}.bias"), ("hidden",)) for name in ("output", "ffn_out"))
_READ = tuple(
    Gate("hidden", (f"{name}.weight", f"{name}.bias"), ("hidden",)) for name in ("attention_norm", "ffn_norm")
)
_READ_AS_IT_IS = Gate("hidden", tuple(f"{name}.weight" for name in ("query", "key", "value")), ("hidden",))
# Inside heads, places tell which entries are turned together: they keep their order.
_UNITS = (Gate("heads", ("output.weight",), ("heads",)), Gate("ffn", ("ffn_out.weight",), ("ffn",)))
_LAYER = replace(
    GATED,
    gates=(*_UNITS, *_READ, *_WRITTEN),
    output="ffn/residual",
    parts=tuple(replace(part, output=f"{part.name}/residual") for part in GATED.parts),
)
# What comes from the embeddings has just been normalised.
_FIRST_LAYER = replace(
    _LAYER,
    tensors={name: axes for name, axes in _LAYER.tensors.items() if not name.startswith("attention_norm.")},
    gates=(*_UNITS, _READ_AS_IT_IS, _READ[1], *_WRITTEN),
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
    epsilon, size = dimensions.layer_norm_epsilon, dimensions.head_size
    norm = top["embeddings.norm.weight"], top["embeddings.norm.bias"]
    x = ops.layer_norm("embeddings/norm", embedded, *norm, epsilon)
    far = ops.mask(), ops.turns(dimensions.rotary_theta, size)
    near = far
    if dimensions.local_layers:
        near = ops.mask(dimensions.local_reach), far[1]
        if dimensions.local_theta != dimensions.rotary_theta:
            near = near[0], ops.turns(dimensions.local_theta, size)
    for layer, weights in layers:
        surroundings = near if layer.source in dimensions.local_layers else far
        if layer.num_heads:
            x = _attention(ops, f"layers/{layer.source}", x, weights, *surroundings, dimensions)
        if layer.ffn_size:
            x = _ffn(ops, f"layers/{layer.source}", x, weights, dimensions)
    return ops.layer_norm("final/norm", x, top["final_norm.weight"], top["final_norm.bias"], epsilon)


def _attention(
    ops: Ops[T, W], name: str, x: T, weights: Mapping[str, Weight[W]], mask: T, turns: T, dimensions: Dimensions
) -> T:
    y = x
    if "attention_norm.weight" in weights:
        norm = weights["attention_norm.weight"], weights["attention_norm.bias"]
        y = ops.layer_norm(f"{name}/attention/norm", x, *norm, dimensions.layer_norm_epsilon)
    parts: tuple[tuple[HeadPart, T | None], ...] = (("query", turns), ("key", turns), ("value", None))
    query, key, value = (
        ops.heads(f"{name}/attention/{part}", y, weights[f"{part}.weight"], weights[f"{part}.bias"], part, by)
        for part, by in parts
    )
    mixed = ops.attend(f"{name}/attention", query, key, value, mask)
    mixed = ops.linear(f"{name}/attention/output", mixed, weights["output.weight"], weights["output.bias"])
    return ops.add(f"{name}/attention/residual", mixed, x)


def _ffn(ops: Ops[T, W], name: str, x: T, weights: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    norm = weights["ffn_norm.weight"], weights["ffn_norm.bias"]
    y = ops.layer_norm(f"{name}/ffn/norm", x, *norm, dimensions.layer_norm_epsilon)
    inner = ops.linear(f"{name}/ffn/in", y, weights["ffn_in.weight"], weights["ffn_in.bias"])
    inner = ops.activation(dimensions.activation, f"{name}/ffn/activation", inner)
    gate = ops.linear(f"{name}/ffn/gate", y, weights["ffn_gate.weight"], weights["ffn_gate.bias"])
    inner = ops.multiply(f"{name}/ffn/gated", inner, gate)
    outer = ops.linear(f"{name}/ffn/out", inner, weights["ffn_out.weight"], weights["ffn_out.bias"])
    return ops.add(f"{name}/ffn/residual", outer, x)


# Every head has a dense layer with its norm, those of tokens too.
_PREDICTED: Mapping[HeadPass, HeadPass] = {
    text_logits: predicted_text_logits,
    token_labels: predicted_labels,
    token_columns: predicted_columns,
}


_DECODED: Mapping[HeadPass, HeadPass] = {
    vocabulary_logits: predicted_vocabulary_logits,
    vocabulary_weights: predicted_vocabulary_weights,
}


def _head(head: Head) -> Head:
    if head.forward in _DECODED:
        return replace(head, forward=_DECODED[head.forward])
    if head.forward not in _PREDICTED:
        return head
    return replace(
        head,
        forward=_PREDICTED[head.forward],
        tensors={
            "head.pooler.weight": ("pooled", "hidden"),
            "head.pooler.bias": ("pooled",),
            "head.pooler_norm.weight": ("pooled",),
            "head.pooler_norm.bias": ("pooled",),
            "head.classifier.weight": ("label", "pooled"),
            "head.classifier.bias": ("label",),
        },
        products=("head/pooler", "head/classifier"),
    )


def _read(values: Any) -> dict[str, Any]:
    """What a configuration says beside BERT's keys, as fields of ``Dimensions``. Raises ValueError."""
    kinds = list(values.layer_types)
    if len(kinds) != values.num_hidden_layers or not set(kinds) <= {_LOCAL, _GLOBAL}:
        raise ValueError(f"layer_types = {kinds}; every layer should be {_LOCAL} or {_GLOBAL}")
    thetas = {}
    for kind in (_GLOBAL, _LOCAL):
        settings = values.rope_parameters[kind]
        if settings["rope_type"] != "default":
            raise ValueError(f"rope_type = {settings['rope_type']!r}; only 'default' is supported")
        thetas[kind] = float(settings["rope_theta"])
    if values.hidden_size // values.num_attention_heads % 2:
        raise ValueError("heads of an odd size cannot be turned by pairs")
    if values.classifier_activation not in ACTIVATIONS:
        raise ValueError(f"classifier_activation = {values.classifier_activation!r} is not supported")
    return {
        "rotary_theta": thetas[_GLOBAL],
        "local_theta": thetas[_LOCAL],
        "local_reach": values.sliding_window,
        "local_layers": tuple(index for index, kind in enumerate(kinds) if kind == _LOCAL),
        "head_activation": ACTIVATIONS[values.classifier_activation],
        "classifier_pooling": values.classifier_pooling,
    }


def _spell(dimensions: Dimensions, subnet: Subnet) -> dict[str, Any]:
    """The configuration's keys beside BERT's."""
    is_local = [layer.source in dimensions.local_layers for layer in subnet.layers]
    thetas = {_GLOBAL: dimensions.rotary_theta, _LOCAL: dimensions.local_theta}
    return {
        "layer_types": [_LOCAL if local else _GLOBAL for local in is_local],
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        "local_attention": 2 * dimensions.local_reach,
        "classifier_activation": SPELLED_ACTIVATIONS.get(dimensions.head_activation, dimensions.head_activation),
        "classifier_pooling": dimensions.classifier_pooling,
    }


_NORMED_CLASSIFIER = {"head.pooler": "head.dense", "head.pooler_norm": "head.norm", "head.classifier": "classifier"}

MODERNBERT = Family(
    network=Network(
        entry=_ENTRY,
        factorised_entry=_ENTRY,
        layer=_LAYER,
        look_up=_look_up,
        encode=_encode,
        first_layer=_FIRST_LAYER,
        exit=_EXIT,
        heads={name: _head(head) for name, head in HEADS.items()},
        node_bytes=(1_100, 2_070),
    ),
    class_prefix="ModernBert",
    base="model",
    embeddings={"embeddings.word": "embeddings.tok_embeddings.weight", "embeddings.norm": "embeddings.norm"},
    exit={"final_norm": "final_norm"},
    layers="layers",
    layer={
        "query": "attn.Wqkv.query",
        "key": "attn.Wqkv.key",
        "value": "attn.Wqkv.value",
        "output": "attn.Wo",
        "attention_norm": "attn_norm",
        "ffn_in": "mlp.Wi.in",
        "ffn_gate": "mlp.Wi.gate",
        "ffn_out": "mlp.Wo",
        "ffn_norm": "mlp_norm",
    },
    fused={
        "attn.Wqkv": ("attn.Wqkv.query", "attn.Wqkv.key", "attn.Wqkv.value"),
        "mlp.Wi": ("mlp.Wi.in", "mlp.Wi.gate"),
    },
    bias_settings={
        **dict.fromkeys(("embeddings.norm", "attention_norm", "ffn_norm", "final_norm"), "norm_bias"),
        **dict.fromkeys(("head.pooler_norm", "head.transform_norm"), "norm_bias"),
        **dict.fromkeys(("query", "key", "value", "output"), "attention_bias"),
        **dict.fromkeys(("ffn_in", "ffn_gate", "ffn_out"), "mlp_bias"),
        **dict.fromkeys(("head.pooler", "head.transform"), "classifier_bias"),
        "head.decoder": "decoder_bias",
    },
    heads={
        "classification": _NORMED_CLASSIFIER,
        "token-classification": _NORMED_CLASSIFIER,
        "span": _NORMED_CLASSIFIER,
        "masked-lm": {
            "head.transform": "head.dense",
            "head.transform_norm": "head.norm",
            "head.decoder.bias": "decoder.bias",
        },
    },
    decoder="decoder.weight",
    head_activation="gelu",
    settings={"layer_norm_eps": "norm_eps", "hidden_act": "hidden_activation"},
    fixed={"type_vocab_size": 1},
    read_own=_read,
    spell_own=_spell,
)
