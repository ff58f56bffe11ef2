"""The heads' forward passes: from the last hidden state to a model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import Dimensions
from ortnas.nas.architecture.ops import Ops, Weight

T = TypeVar("T")
W = TypeVar("W")


class HeadPass(Protocol):
    def __call__(self, ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T: ...


def apply_head(ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    """The head on the last hidden state [tokens, hidden]; ``top`` has its weights.

    Unit embeddings [batch, embedding_size]; logits [batch, labels] (regression: 1), [batch, sequence, labels],
    [batch, sequence, 2] (span: start, end) or [batch, sequence, vocab].
    """
    return PASSES[dimensions.head](ops, x, top, dimensions)


def project(ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]]) -> T:
    """Hidden states in the checkpoint's channels: [..., hidden] to [..., embedding]."""
    return ops.project("head/projection", x, top["head.projection.weight"])


def _sentence_embedding(ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    """Mean of the tokens or the first one, projected to the checkpoint's width and scaled to length one."""
    pooled = ops.first_token("head", x) if dimensions.pooling == "cls" else ops.mean("head", x)
    return ops.unit(HEADS[dimensions.head].output_names[0], project(ops, pooled, top))


def _text_logits(ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    """A dense layer and the classifier on the first token of each text."""
    first = ops.first_token("head", x)
    dense = ops.linear("head/pooler", first, top["head.pooler.weight"], top["head.pooler.bias"])
    pooled = ops.activation(dimensions.head_activation, "head/pooled", dense)
    classifier = top["head.classifier.weight"], top["head.classifier.bias"]
    return ops.linear("head/classifier", pooled, *classifier, output=HEADS[dimensions.head].output_names[0])


def _token_labels(ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    flat = ops.linear("head/classifier", x, top["head.classifier.weight"], top["head.classifier.bias"])
    return ops.by_text("head", flat, HEADS[dimensions.head].output_names[0])


def _span(ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    flat = ops.linear("head/classifier", x, top["head.classifier.weight"], top["head.classifier.bias"])
    return ops.columns("head", flat, HEADS[dimensions.head].output_names)


def _token_logits(ops: Ops[T, W], x: T, top: Mapping[str, Weight[W]], dimensions: Dimensions) -> T:
    """Transform, layer norm and the word table as decoder (Devlin et al. 2019; ELECTRA's generator)."""
    dense = ops.linear("head/transform", x, top["head.transform.weight"], top["head.transform.bias"])
    active = ops.activation(dimensions.activation, "head/transform/activation", dense)
    norm = top["head.transform_norm.weight"], top["head.transform_norm.bias"]
    normed = ops.layer_norm("head/transform/norm", active, *norm, dimensions.layer_norm_epsilon)
    flat = ops.linear("head/decoder", normed, top["embeddings.word"], top["head.decoder.bias"])
    return ops.by_text("head", flat, HEADS[dimensions.head].output_names[0])


PASSES: dict[str, HeadPass] = {
    "embedding": _sentence_embedding,
    "classification": _text_logits,
    "regression": _text_logits,
    "token-classification": _token_labels,
    "span": _span,
    "masked-lm": _token_logits,
}
