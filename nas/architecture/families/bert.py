"""BERT (Devlin et al. 2019), whose network RoBERTa, DistilBERT and ELECTRA share: layer norms after the sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from ortnas.nas.architecture.blocks import POST_NORM, Block, Gate, Product
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families.family import Family, Network
from ortnas.nas.architecture.ops import HeadPart, Ops, Weight
from ortnas.nas.architecture.subnet import Layer

T = TypeVar("T")
W = TypeVar("W")

_TABLES = {
    "embeddings.word": ("vocab", "table"),
    "embeddings.position": ("position", "table"),
    "embeddings.token_type": ("token_type", "table"),
    "embeddings.norm.weight": ("table",),
    "embeddings.norm.bias": ("table",),
}
_ENTRY = Block(
    tensors={name: tuple("hidden" if label == "table" else label for label in axes) for name, axes in _TABLES.items()},
    products=(),
    gates=(Gate("hidden", ("embeddings.norm.weight", "embeddings.norm.bias"), ("hidden",)),),
    output="embeddings/norm",
)
# From the tables' width to the hidden size (Clark et al. 2020, "ELECTRA"; Lan et al. 2019, "ALBERT", section 3.1).
_FACTORISED_ENTRY = Block(
    tensors={
        **_TABLES,
        "embeddings.projection.weight": ("hidden", "table"),
        "embeddings.projection.bias": ("hidden",),
    },
    products=(Product("embeddings/projection", "embeddings.projection"),),
    gates=(Gate("hidden", ("embeddings.projection.weight", "embeddings.projection.bias"), ("hidden",)),),
    output="embeddings/projected",
)


def _look_up(ops: Ops[T, W], top: Mapping[str, Weight[W]]) -> T:
    return ops.look_up(top["embeddings.word"], top["embeddings.position"], top["embeddings.token_type"])


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
        x = post_norm_layer(ops, layer, x, weights, mask, dimensions)
    return x


def enter(ops: Ops[T, W], embedded: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    """The start of the residual stream, of the summed embeddings."""
    norm = top["embeddings.norm.weight"], top["embeddings.norm.bias"]
    x = ops.layer_norm("embeddings/norm", embedded, *norm, dimensions.layer_norm_epsilon)
    if dimensions.table_size:
        weight, bias = top["embeddings.projection.weight"], top["embeddings.projection.bias"]
        x = ops.enter("embeddings/projection", x, weight, bias, "embeddings/projected")
    return x


def post_norm_layer(
    ops: Ops[T, W],
    layer: Layer,
    x: T,
    weights: Mapping[str, Weight[W]],
    mask: T,
    dimensions: Dimensions,
    turns: T | None = None,
) -> T:
    """One layer, with the parts that it has; ``mask`` is what it adds to attention's scores, ``turns`` turns heads."""
    name = f"layers/{layer.source}"
    if layer.num_heads:
        mixed = _mixed(ops, f"{name}/attention", x, weights, mask, turns)
        x = attended(ops, name, x, mixed, weights, dimensions.layer_norm_epsilon)
    if layer.ffn_size:
        x = ffn(ops, name, x, weights, dimensions)
    return x


def _mixed(ops: Ops[T, W], name: str, x: T, weights: Mapping[str, Weight[W]], mask: T, turns: T | None) -> T:
    parts: tuple[tuple[HeadPart, T | None], ...] = (("query", turns), ("key", turns), ("value", None))
    query, key, value = (
        ops.heads(f"{name}/{part}", x, weights[f"{part}.weight"], weights[f"{part}.bias"], part, by)
        for part, by in parts
    )
    return ops.attend(name, query, key, value, mask)


def attended(ops: Ops[T, W], name: str, x: T, mixed: T, weights: Mapping[str, Weight[W]], epsilon: float) -> T:
    """The end of a layer's attention, whose heads gave ``mixed``: the product of all, the sum, and its norm."""
    mixed = ops.linear(f"{name}/attention/output", mixed, weights["output.weight"], weights["output.bias"])
    x = ops.add(f"{name}/attention/residual", mixed, x)
    norm = weights["attention_norm.weight"], weights["attention_norm.bias"]
    return ops.layer_norm(f"{name}/attention/norm", x, *norm, epsilon)


def ffn(ops: Ops[T, W], name: str, x: T, weights: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    """A layer's FFN, the sum behind it, and its norm."""
    inner = ops.linear(f"{name}/ffn/in", x, weights["ffn_in.weight"], weights["ffn_in.bias"])
    inner = ops.activation(dimensions.activation, f"{name}/ffn/activation", inner)
    outer = ops.linear(f"{name}/ffn/out", inner, weights["ffn_out.weight"], weights["ffn_out.bias"])
    x = ops.add(f"{name}/ffn/residual", outer, x)
    norm = weights["ffn_norm.weight"], weights["ffn_norm.bias"]
    return ops.layer_norm(f"{name}/ffn/norm", x, *norm, dimensions.layer_norm_epsilon)


NETWORK = Network(_ENTRY, _FACTORISED_ENTRY, POST_NORM, _look_up, _encode)

EMBEDDING_NAMES = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.position": "embeddings.position_embeddings.weight",
    "embeddings.token_type": "embeddings.token_type_embeddings.weight",
    "embeddings.norm": "embeddings.LayerNorm",
}
LAYERS = "encoder.layer"
LAYER_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
CLASSIFIER = {"head.classifier": "classifier"}
# What later families have in place of BERT's pooler.
DENSE_CLASSIFIER = {"head.pooler": "classifier.dense", "head.classifier": "classifier.out_proj"}
SPAN = {"head.classifier": "qa_outputs"}
_POOLED = {"head.pooler": "bert.pooler.dense", "head.classifier": "classifier"}

BERT = Family(
    network=NETWORK,
    class_prefix="Bert",
    base="bert",
    embeddings=EMBEDDING_NAMES,
    layers=LAYERS,
    layer=LAYER_NAMES,
    heads={
        "classification": _POOLED,
        "token-classification": CLASSIFIER,
        "span": SPAN,
        "masked-lm": {
            "head.transform": "cls.predictions.transform.dense",
            "head.transform_norm": "cls.predictions.transform.LayerNorm",
            "head.decoder.bias": "cls.predictions.bias",
        },
    },
    decoder="cls.predictions.decoder.weight",
    head_activation="tanh",
    also_trained={"masked-lm": ("BertForPreTraining",)},
)
