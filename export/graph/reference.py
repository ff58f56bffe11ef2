"""The network computed in numpy from the same weights: what every export is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from ortnas.nas.architecture.layout import Dimensions, cut_layers, cut_top
from ortnas.nas.architecture.subnet import Subnet

Array = npt.NDArray[np.float32]


def _layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + np.float32(epsilon)) * weight + bias
    return normed


def _activate(kind: str, x: Array) -> Array:
    if kind == "gelu":
        return np.asarray(0.5 * x * (1 + erf(x / np.float32(math.sqrt(2)))), np.float32)
    if kind == "gelu_tanh":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)), np.float32)
    return np.tanh(x) if kind == "tanh" else np.maximum(x, 0)


def reference_output(
    tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet, feeds: Mapping[str, npt.NDArray[np.int64]]
) -> Array:
    """The network's output, float32, for int64 feeds [batch, sequence].

    Unit embeddings [batch, embedding_size]; logits [batch, labels] (regression: 1), [batch, sequence, labels],
    [batch, sequence, 2] (span: start, end) or [batch, sequence, vocab].
    """
    top = cut_top(tensors, subnet, dimensions)
    epsilon = dimensions.layer_norm_epsilon
    batch, sequence = feeds["input_ids"].shape
    x = top["embeddings.word"][feeds["input_ids"]] + top["embeddings.position"][:sequence]
    x = x + top["embeddings.token_type"][feeds["token_type_ids"] if dimensions.token_types > 1 else 0]
    x = _layer_norm(x, top["embeddings.norm.weight"], top["embeddings.norm.bias"], epsilon)
    if dimensions.table_size:
        x = x @ top["embeddings.projection.weight"].T + top["embeddings.projection.bias"]
    mask = feeds["attention_mask"].astype(np.float32)
    padding = (1 - mask)[:, None, None, :] * np.float32(-1e9)
    for layer, weights in cut_layers(tensors, subnet):
        split = (batch, sequence, layer.num_heads, layer.head_size)
        query, key, value = (
            (x @ weights[f"{part}.weight"].reshape(-1, subnet.hidden_size).T + weights[f"{part}.bias"].reshape(-1))
            .reshape(split)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(layer.head_size)) + padding
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, sequence, -1)
        x = x + mixed @ weights["output.weight"].reshape(subnet.hidden_size, -1).T + weights["output.bias"]
        x = _layer_norm(x, weights["attention_norm.weight"], weights["attention_norm.bias"], epsilon)
        inner = _activate(dimensions.activation, x @ weights["ffn_in.weight"].T + weights["ffn_in.bias"])
        x = x + inner @ weights["ffn_out.weight"].T + weights["ffn_out.bias"]
        x = _layer_norm(x, weights["ffn_norm.weight"], weights["ffn_norm.bias"], epsilon)
    return np.asarray(_head_output(x, mask, top, dimensions), np.float32)


def _head_output(x: Array, mask: Array, top: Mapping[str, Array], dimensions: Dimensions) -> Array:
    if dimensions.head == "embedding":
        pooled = x[:, 0] if dimensions.pooling == "cls" else (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        projected = pooled @ top["head.projection.weight"].T
        unit: Array = projected / np.linalg.norm(projected, axis=-1, keepdims=True)
        return unit
    if dimensions.head == "masked-lm":
        x = _activate(dimensions.activation, x @ top["head.transform.weight"].T + top["head.transform.bias"])
        weight, bias = top["head.transform_norm.weight"], top["head.transform_norm.bias"]
        x = _layer_norm(x, weight, bias, dimensions.layer_norm_epsilon)
        return x @ top["embeddings.word"].T + top["head.decoder.bias"]
    if "head.pooler.weight" in top:
        x = _activate(dimensions.head_activation, x[:, 0] @ top["head.pooler.weight"].T + top["head.pooler.bias"])
    return x @ top["head.classifier.weight"].T + top["head.classifier.bias"]
