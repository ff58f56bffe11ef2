"""The heads' forward passes: from the last hidden state to a model's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from ortnas.nas.architecture.ops import Ops, PoolingMode, Weight
from ortnas.nas.architecture.sentence_modules import LAYER_NORM_EPSILON, SentenceModule

# Numpy, which sizes need, has no part in telling the heads' names.
if TYPE_CHECKING:
    from ortnas.nas.architecture.dimensions import Dimensions

T = TypeVar("T")
W = TypeVar("W")
# The weights of embeddings and head.
Top = Mapping[str, Weight[W]]
# Names of the exported models' outputs.
Outputs = tuple[str, ...]


class HeadPass(Protocol):
    """From the last hidden state [tokens, hidden] to the outputs."""

    def __call__(self, ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs, /) -> T: ...


def project(ops: Ops[T, W], x: T, top: Top[W]) -> T:
    """Hidden states in the checkpoint's channels: [..., hidden] to [..., embedding]."""
    return ops.project("head/projection", x, top["head.projection.weight"])


def sentence_embedding(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """Tokens in the checkpoint's channels, pooled, and what the modules make of that."""
    (output,), modules = outputs, dimensions.modules
    vector = _pooled(ops, x, top, dimensions.pooling, None if modules else output)
    for number, module in enumerate(modules):
        name = f"head/modules/{number}"
        vector = _through(ops, name, vector, top, module, output if number == len(modules) - 1 else f"{name}/output")
    return vector


def _pooled(ops: Ops[T, W], x: T, top: Top[W], modes: Sequence[PoolingMode], output: str | None) -> T:
    """[batch, modes * channels]."""
    weight = top["head.projection.weight"]
    if len(modes) == 1 and modes[0] != "max":
        # Linear, so that it may come first: then there is one row a text to project.
        return ops.project("head/projection", ops.pool(modes[0], "head", x), weight, None, output)
    tokens = ops.project("head/projection", x, weight)
    if len(modes) == 1:
        return ops.pool(modes[0], "head", tokens, output)
    return ops.join(output or "head/vector", [ops.pool(mode, f"head/{mode}", tokens) for mode in modes])


def _through(ops: Ops[T, W], name: str, x: T, top: Top[W], module: SentenceModule, output: str) -> T:
    """The vectors behind a module; ``name`` is its product's, if it has one."""
    tensor = name.replace("/", ".")
    if module.kind == "dense":
        is_linear = module.activation == "identity"
        weight, bias = top[f"{tensor}.weight"], top[f"{tensor}.bias"] if module.has_bias else None
        x = ops.project(name, x, weight, bias, output if is_linear else None)
        return x if is_linear else ops.activation(module.activation, output, x)
    if module.kind == "layer_norm":
        return ops.layer_norm(output, x, top[f"{tensor}.weight"], top[f"{tensor}.bias"], LAYER_NORM_EPSILON)
    return ops.unit(output, x) if module.kind == "normalize" else ops.truncate(output, x, module.size)


def text_logits(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """A dense layer and the classifier on the first token of each text."""
    first = ops.first_token("head", x)
    dense = ops.linear("head/pooler", first, top["head.pooler.weight"], top["head.pooler.bias"])
    pooled = ops.activation(dimensions.head_activation, "head/pooled", dense)
    classifier = top["head.classifier.weight"], top["head.classifier.bias"]
    return ops.linear("head/classifier", pooled, *classifier, output=outputs[0])


def token_labels(ops: Ops[T, W], x: T, top: Top[W], _: Dimensions, outputs: Outputs) -> T:
    """The classifier on every token."""
    flat = ops.linear("head/classifier", x, top["head.classifier.weight"], top["head.classifier.bias"])
    return ops.by_text("head", flat, outputs[0])


def token_vectors(ops: Ops[T, W], x: T, top: Top[W], _: Dimensions, outputs: Outputs) -> T:
    """A dense layer on every token, its outputs of length one (Khattab & Zaharia 2020, "ColBERT").

    Padding has vectors too: queries are padded with mask tokens whose vectors count though nothing attends to them.
    """
    flat = ops.linear("head/dense", x, top["head.dense.weight"], top["head.dense.bias"])
    return ops.by_text("head", ops.unit("head/unit", flat), outputs[0])


def token_columns(ops: Ops[T, W], x: T, top: Top[W], _: Dimensions, outputs: Outputs) -> T:
    """The classifier on every token, each of its rows an output."""
    flat = ops.linear("head/classifier", x, top["head.classifier.weight"], top["head.classifier.bias"])
    return ops.columns("head", flat, outputs)


def vocabulary_logits(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """Of every token over the vocabulary."""
    return ops.by_text("head", _decoded(ops, x, top, dimensions, dimensions.activation), outputs[0])


def predicted_vocabulary_logits(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """The same with the head's activation."""
    return ops.by_text("head", _decoded(ops, x, top, dimensions, dimensions.head_activation), outputs[0])


def vocabulary_weights(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """log(1 + relu(logits)), the largest of all tokens (Formal et al. 2021, "SPLADE v2")."""
    return _weights(ops, _decoded(ops, x, top, dimensions, dimensions.activation), outputs)


def predicted_vocabulary_weights(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """The same with the head's activation."""
    return _weights(ops, _decoded(ops, x, top, dimensions, dimensions.head_activation), outputs)


def _weights(ops: Ops[T, W], logits: T, outputs: Outputs) -> T:
    """Neither function changes the order, so the largest logit is looked for first: one row a text is left."""
    largest = ops.pool("max", "head", logits)
    return ops.activation("log1p", outputs[0], ops.activation("relu", "head/positive", largest))


def _decoded(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, activation: str) -> T:
    """Transform, layer norm and decoder, mostly the word table (Devlin et al. 2019; ELECTRA's generator)."""
    dense = ops.linear("head/transform", x, top["head.transform.weight"], top["head.transform.bias"])
    active = ops.activation(activation, "head/transform/activation", dense)
    norm = top["head.transform_norm.weight"], top["head.transform_norm.bias"]
    normed = ops.layer_norm("head/transform/norm", active, *norm, dimensions.layer_norm_epsilon)
    decoder = top["head.decoder.weight" if dimensions.has_own_decoder else "embeddings.word"]
    return ops.linear("head/decoder", normed, decoder, top["head.decoder.bias"])


def predicted_text_logits(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """A dense layer with its norm and the classifier, on the first token of each text or the mean of all."""
    pooled = ops.pool("mean", "head", x) if dimensions.classifier_pooling == "mean" else ops.first_token("head", x)
    classifier = top["head.classifier.weight"], top["head.classifier.bias"]
    return ops.linear("head/classifier", _predicted(ops, pooled, top, dimensions), *classifier, output=outputs[0])


def predicted_labels(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """A dense layer with its norm and the classifier, on every token."""
    return token_labels(ops, _predicted(ops, x, top, dimensions), top, dimensions, outputs)


def predicted_columns(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions, outputs: Outputs) -> T:
    """The same, each row of the classifier an output."""
    return token_columns(ops, _predicted(ops, x, top, dimensions), top, dimensions, outputs)


def _predicted(ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions) -> T:
    dense = ops.linear("head/pooler", x, top["head.pooler.weight"], top["head.pooler.bias"])
    active = ops.activation(dimensions.head_activation, "head/pooler/activation", dense)
    norm = top["head.pooler_norm.weight"], top["head.pooler_norm.bias"]
    return ops.layer_norm("head/pooler/norm", active, *norm, dimensions.layer_norm_epsilon)
