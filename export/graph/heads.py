"""The head graphs: from the last hidden state [tokens, hidden] to a model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.heads import HEADS, Output
from ortnas.nas.architecture.layout import Dimensions

if TYPE_CHECKING:
    from ortnas.export.graph.builder import Graph

Array = npt.NDArray[np.float32]

# The embedding once more, as a sequence of one token: what loaders of hidden states ask packages for.
ALIAS = "last_hidden_state"
FLOAT_PRODUCTS = tuple(name for head in HEADS.values() for name in head.float_products)


def output_shape(output: Output, dimensions: Dimensions) -> tuple[int | str, ...]:
    """Lengths of an output's axes, or names of those that are dynamic."""
    return tuple(dimensions.sizes.get(label, label) for label in output.axes)


def add_head(graph: Graph, x: str, top: Mapping[str, Array], dimensions: Dimensions, shape: str) -> None:
    """Adds the nodes between x and the outputs; ``shape`` names a tensor that holds (batch, sequence)."""
    _HEADS[dimensions.head](graph, x, top, dimensions, shape)


def _sentence_embedding(graph: Graph, x: str, top: Mapping[str, Array], dimensions: Dimensions, shape: str) -> None:
    """Mean of the unmasked tokens or the first token, projected to the checkpoint's width and scaled to length one."""
    size, hidden = top["head.projection.weight"].shape
    if dimensions.pooling == "cls":
        pooled = _first_token(graph, x, hidden, shape)
    else:
        tokens = _hidden_by_text(graph, x, hidden, shape)
        mask = graph.node("Unsqueeze", ["mask", graph.integers(1)], "head/mask")
        total = graph.node("MatMul", [mask, tokens], "head/sum")
        count = graph.node("ReduceSum", [mask, graph.integers(2)], "head/count", keepdims=1)
        mean = graph.node("Div", [total, count], "head/mean")
        pooled = graph.node("Squeeze", [mean, graph.integers(1)], "head/pooled", ("batch", hidden))
    weight = graph.constant("head/projection.weight", top["head.projection.weight"].T, ("hidden", size))
    projected = graph.node("MatMul", [pooled, weight], "head/projection", ("batch", size))
    graph.node("LpNormalization", [projected], _output(dimensions), axis=-1, p=2)


def _text_logits(graph: Graph, x: str, top: Mapping[str, Array], dimensions: Dimensions, shape: str) -> None:
    """A dense layer and the classifier on the first token of each text."""
    labels, hidden = top["head.classifier.weight"].shape
    first = _first_token(graph, x, hidden, shape)
    pooler = top["head.pooler.weight"], top["head.pooler.bias"]
    dense = graph.linear("head/pooler", first, *pooler, ("pooled", "hidden"), rows="batch")
    pooled = graph.activation(dimensions.head_activation, "head/pooled", dense, ("batch", hidden))
    weight = graph.constant("head/classifier.weight", top["head.classifier.weight"].T, ("pooled", labels))
    bias = graph.constant("head/classifier.bias", top["head.classifier.bias"])
    graph.node("Gemm", [pooled, weight, bias], _output(dimensions), name="head/classifier")


def _token_labels(graph: Graph, x: str, top: Mapping[str, Array], dimensions: Dimensions, shape: str) -> None:
    classifier = top["head.classifier.weight"], top["head.classifier.bias"]
    flat = graph.linear("head/classifier", x, *classifier, (len(classifier[1]), "hidden"))
    _by_text(graph, flat, dimensions.num_labels, shape, _output(dimensions))


def _span(graph: Graph, x: str, top: Mapping[str, Array], dimensions: Dimensions, shape: str) -> None:
    classifier = top["head.classifier.weight"], top["head.classifier.bias"]
    flat = graph.linear("head/classifier", x, *classifier, (len(classifier[1]), "hidden"))
    for column, output in enumerate(output.name for output in HEADS[dimensions.head].outputs):
        index = graph.constant(f"head/{output}.column", np.array(column, np.int64))
        scores = graph.node("Gather", [flat, index], f"head/{output}", ("tokens",), axis=1)
        graph.node("Reshape", [scores, shape], output)


def _token_logits(graph: Graph, x: str, top: Mapping[str, Array], dimensions: Dimensions, shape: str) -> None:
    """Transform, layer norm and the word table as decoder (Devlin et al. 2019; ELECTRA's generator)."""
    size = len(top["head.transform.bias"])
    axis = "table" if dimensions.table_size else "hidden"
    transform = top["head.transform.weight"], top["head.transform.bias"]
    dense = graph.linear("head/transform", x, *transform, (axis, "hidden"))
    active = graph.activation(dimensions.activation, "head/transform/activation", dense, ("tokens", size))
    weight, bias = top["head.transform_norm.weight"], top["head.transform_norm.bias"]
    normed = graph.layer_norm("head/transform/norm", active, weight, bias, dimensions.layer_norm_epsilon, axis)
    # A copy of the word table under a name of its own: that of the look-up is quantized by rows.
    decoder = top["embeddings.word"], top["head.decoder.bias"]
    flat = graph.linear("head/decoder", normed, *decoder, (dimensions.vocab_size, axis))
    _by_text(graph, flat, dimensions.vocab_size, shape, _output(dimensions))


def _output(dimensions: Dimensions) -> str:
    """The name of a head's only output."""
    (output,) = HEADS[dimensions.head].outputs
    return output.name


def _by_text(graph: Graph, x: str, width: int, shape: str, output: str) -> str:
    """x [tokens, width] as [batch, sequence, width]."""
    target = graph.node("Concat", [shape, graph.integers(width)], "head/token_shape", axis=0)
    return graph.node("Reshape", [x, target], output)


def _hidden_by_text(graph: Graph, x: str, hidden: int, shape: str) -> str:
    """x [tokens, hidden] as [batch, sequence, hidden]."""
    width = graph.sizes_of("head/hidden_size", ("hidden",), {"hidden": hidden})
    target = graph.node("Concat", [shape, width], "head/token_shape", axis=0)
    return graph.node("Reshape", [x, target], "head/tokens")


def _first_token(graph: Graph, x: str, hidden: int, shape: str) -> str:
    """The first token of each text, [batch, hidden]."""
    tokens = _hidden_by_text(graph, x, hidden, shape)
    zero = graph.constant("zero", np.array(0, np.int64))
    return graph.node("Gather", [tokens, zero], "head/first_token", ("batch", hidden), axis=1)


_HEADS: dict[str, Callable[[Graph, str, Mapping[str, Array], Dimensions, str], None]] = {
    "embedding": _sentence_embedding,
    "classification": _text_logits,
    "regression": _text_logits,
    "token-classification": _token_labels,
    "span": _span,
    "masked-lm": _token_logits,
}
