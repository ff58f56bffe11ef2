"""The network computed in numpy from the same weights: what every export is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.special import erf, expit

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import cut_layers, cut_top, head_of, network_of
from ortnas.nas.architecture.ops import HeadPart, PoolingMode, RelativeTable, Weight
from ortnas.nas.architecture.positions import bucket_of, frequencies, relative_rows
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Array, Feeds

_MASKED_SCORE = np.float32(-1e9)


class NumpyOps:
    """The operations in numpy, on int64 feeds [batch, sequence]. Activations are [batch, sequence, width]."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self._mask: Array = feeds["attention_mask"].astype(np.float32)

    def look_up(self, word: Weight[Array], position: Weight[Array] | None, token_type: Weight[Array] | None) -> Array:
        input_ids = self._feeds["input_ids"]
        x: Array = word.values[input_ids]
        if position is not None:
            x = x + position.values[: input_ids.shape[1]]
        if token_type is not None:
            x = x + token_type.values[self._feeds["token_type_ids"] if len(token_type.values) > 1 else 0]
        return x

    def mask(self, reach: int | None = None) -> Array:
        mask = (1 - self._mask)[:, None, None, :] * _MASKED_SCORE
        if reach is None:
            return mask
        places = np.arange(mask.shape[-1])
        return mask + np.where(np.abs(places - places[:, None]) > reach, _MASKED_SCORE, np.float32(0))

    def turns(self, theta: float, head_size: int) -> Array:
        """[2, sequence, head_size]: cosines, and sines with the sign of the entry that they go with."""
        angles = np.arange(self._mask.shape[1], dtype=np.float32)[:, None] * frequencies(theta, head_size)
        cosines, sines = np.cos(angles), np.sin(angles)
        return np.stack([np.concatenate([cosines, cosines], 1), np.concatenate([-sines, sines], 1)])

    def relate(self, name: str, mask: Array, table: Weight[Array]) -> Array:
        places = np.arange(mask.shape[-1])
        related: Array = table.values[bucket_of(places - places[:, None])].transpose(2, 0, 1)
        return mask + related

    def linear(
        self, name: str, x: Array, weight: Weight[Array], bias: Weight[Array], output: str | None = None
    ) -> Array:
        return x @ matrix(weight).T + matrix(bias)

    def enter(self, name: str, x: Array, weight: Weight[Array], bias: Weight[Array], output: str) -> Array:
        return self.linear(name, x, weight, bias)

    def project(
        self, name: str, x: Array, weight: Weight[Array], bias: Weight[Array] | None = None, output: str | None = None
    ) -> Array:
        product: Array = x @ weight.values.T
        return product if bias is None else product + bias.values

    def layer_norm(self, name: str, x: Array, weight: Weight[Array], bias: Weight[Array], epsilon: float) -> Array:
        return _layer_norm(x, weight, bias, epsilon)

    def activation(self, kind: str, name: str, x: Array) -> Array:
        if kind == "gelu":
            return np.asarray(0.5 * x * (1 + erf(x / np.float32(math.sqrt(2)))), np.float32)
        if kind == "gelu_tanh":
            inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)), np.float32)
        if kind == "log1p":
            return np.asarray(np.log1p(x), np.float32)
        if kind == "sigmoid":
            return np.asarray(expit(x), np.float32)
        return np.tanh(x) if kind == "tanh" else np.maximum(x, 0)

    def add(self, name: str, x: Array, y: Array) -> Array:
        return x + y

    def multiply(self, name: str, x: Array, y: Array) -> Array:
        return x * y

    def heads(
        self,
        name: str,
        x: Array,
        weight: Weight[Array],
        bias: Weight[Array],
        part: HeadPart,
        turns: Array | None = None,
        terms: int = 1,
    ) -> Array:
        """[batch, heads, sequence, head_size]."""
        flat = self.linear(name, x, weight, bias)
        split = flat.reshape(*flat.shape[:-1], *bias.values.shape).transpose(0, 2, 1, 3)
        return split if turns is None else split * turns[0] + np.roll(split, split.shape[-1] // 2, -1) * turns[1]

    def position_heads(
        self,
        name: str,
        table: RelativeTable[Array],
        weight: Weight[Array],
        bias: Weight[Array],
        part: Literal["query", "key"],
    ) -> Array:
        """[heads, 2 * sequence, head_size]."""
        rows = relative_rows(self._mask.shape[1], table.buckets, table.farthest, part)
        return positions_in_heads(table, weight, bias)[:, rows]

    def attend(
        self,
        name: str,
        query: Array,
        key: Array,
        value: Array,
        mask: Array,
        by_position: tuple[Array, Array] | None = None,
    ) -> Array:
        scores, terms = query @ key.transpose(0, 1, 3, 2), 1
        if by_position is not None:
            by_query, by_key = by_position
            terms, places = 3, np.arange(query.shape[2])
            behind = (places - places[:, None] + len(places) - 1)[None, None]
            scores = scores + np.take_along_axis(query @ by_key.transpose(0, 2, 1), behind, -1)
            from_position = np.take_along_axis(key @ by_query.transpose(0, 2, 1), behind, -1)
            scores = scores + from_position.transpose(0, 1, 3, 2)
        scores = scores / np.float32(math.sqrt(terms * query.shape[-1])) + mask
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed: Array = (scores / scores.sum(-1, keepdims=True)) @ value
        return mixed.transpose(0, 2, 1, 3).reshape(*self._mask.shape, -1)

    def first_token(self, name: str, x: Array) -> Array:
        return x[:, 0]

    def pool(self, mode: PoolingMode, name: str, x: Array, output: str | None = None) -> Array:
        mask = self._mask
        if mode == "max":
            largest: Array = np.where(mask[..., None] > 0, x, -np.inf).max(1).astype(np.float32)
            return largest
        positions, count = mask.cumsum(1) * mask, mask.sum(1, keepdims=True)
        weights: Array = {
            "cls": positions == 1,
            "lasttoken": positions == count,
            "mean": mask / count,
            "mean_sqrt_len_tokens": mask / np.sqrt(count),
            "weightedmean": positions / positions.sum(1, keepdims=True),
        }[mode].astype(np.float32)
        pooled: Array = (x * weights[..., None]).sum(1)
        return pooled

    def join(self, output: str, vectors: Sequence[Array]) -> Array:
        return np.concatenate(list(vectors), -1)

    def unit(self, output: str, x: Array) -> Array:
        # What has no direction stays zero.
        unit: Array = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), np.float32(1e-12))
        return unit

    def truncate(self, output: str, x: Array, size: int) -> Array:
        return x[..., :size]

    def by_text(self, name: str, x: Array, output: str) -> Array:
        return x

    def columns(self, name: str, x: Array, outputs: tuple[str, ...]) -> Array:
        return x


def _layer_norm(x: Array, weight: Weight[Array], bias: Weight[Array], epsilon: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + np.float32(epsilon)) * weight.values + bias.values
    return normed


def positions_in_heads(table: RelativeTable[Array], weight: Weight[Array], bias: Weight[Array]) -> Array:
    """All rows of a table, normalised, projected and split: [heads, relative, head_size]."""
    rows = _layer_norm(table.table.values, table.norm_weight, table.norm_bias, table.epsilon)
    flat = rows @ matrix(weight).T + matrix(bias)
    split: Array = flat.reshape(len(rows), *bias.values.shape).transpose(1, 0, 2)
    return split


def matrix(weight: Weight[Array]) -> Array:
    """A weight as products compute with it, one axis for every group of axes."""
    sizes = iter(weight.values.shape)
    return weight.values.reshape([math.prod(next(sizes) for _ in group) for group in weight.groups])


def reference_output(tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet, feeds: Feeds) -> Array:
    """The network's output, float32, for int64 feeds [batch, sequence], as ``Head.apply`` describes it."""
    ops = NumpyOps(feeds)
    network, top = network_of(dimensions), cut_top(tensors, subnet, dimensions)
    hidden = network.encode(ops, network.look_up(ops, top), top, cut_layers(tensors, subnet, dimensions), dimensions)
    return np.asarray(head_of(dimensions).apply(ops, hidden, top, dimensions), np.float32)
