"""The operations of networks carried out by torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.nas.architecture.ops import HeadPart, PoolingMode, RelativeTable, Weight
from ortnas.nas.architecture.positions import bucket_of, frequencies, relative_rows

# A weight product: its name in the exported graph, x [..., in], weight [out, in] and bias [out].
Linear = Callable[[str, Tensor, Tensor, Tensor], Tensor]


def plain_linear(name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 one of many Linear
    """``x @ weight.T + bias``."""
    return F.linear(x, weight, bias)


class TorchOps:
    """Activations are [batch, sequence, width]; ``batch`` has the inputs that the operations need.

    ``linear`` computes all weight products. With ``sparse_table``, the gradient of the word table has on CPUs the rows
    of the batch alone. ``attended`` is what the last attention was computed of: query, key and
    value, [batch, heads, sequence, head_size], not scaled.
    """

    def __init__(self, batch: Mapping[str, Tensor], linear: Linear = plain_linear, sparse_table: bool = False) -> None:
        self._batch, self._linear, self._sparse_table = batch, linear, sparse_table
        self.attended: tuple[Tensor, Tensor, Tensor] | None = None

    def look_up(
        self, word: Weight[Tensor], position: Weight[Tensor] | None, token_type: Weight[Tensor] | None
    ) -> Tensor:
        input_ids = self._batch["input_ids"]
        is_sparse = self._sparse_table and input_ids.device.type == "cpu"
        embedded = F.embedding(input_ids, word.values, sparse=is_sparse)
        if position is not None:
            embedded = embedded + position.values[: input_ids.shape[1]]
        if token_type is not None:
            types = token_type.values
            embedded = embedded + (types[0] if len(types) == 1 else F.embedding(self._batch["token_type_ids"], types))
        return embedded

    def mask(self, reach: int | None = None) -> Tensor:
        """Boolean: what is attended to."""
        shown = self._batch["attention_mask"].bool()[:, None, None, :]
        if reach is None:
            return shown
        distances = _distances(shown.shape[-1], shown.device)
        # Padding far from all tokens sees itself, so that a softmax has something to share out.
        return (distances <= reach) & (shown | (distances == 0))

    def turns(self, theta: float, head_size: int) -> Tensor:
        """Float32 [2, sequence, head_size]: cosines, and sines with the sign of the entry that they go with."""
        mask = self._batch["attention_mask"]
        return turned_at(torch.arange(mask.shape[1], device=mask.device), theta, head_size)

    def relate(self, name: str, mask: Tensor, table: Weight[Tensor]) -> Tensor:
        """Float32 [batch, heads, sequence, sequence]."""
        return related(table.values, mask.shape[-1]).masked_fill(~mask, torch.finfo(torch.float32).min)

    def linear(
        self,
        name: str,
        x: Tensor,
        weight: Weight[Tensor],
        bias: Weight[Tensor],
        output: str | None = None,
    ) -> Tensor:
        return self._linear(name, x, _matrix(weight), bias.values)

    def enter(
        self,
        name: str,
        x: Tensor,
        weight: Weight[Tensor],
        bias: Weight[Tensor],
        output: str,
    ) -> Tensor:
        return self._linear(name, x, weight.values, bias.values)

    def project(
        self,
        name: str,
        x: Tensor,
        weight: Weight[Tensor],
        bias: Weight[Tensor] | None = None,
        output: str | None = None,
    ) -> Tensor:
        return F.linear(x, weight.values, None if bias is None else bias.values)

    def layer_norm(
        self,
        name: str,
        x: Tensor,
        weight: Weight[Tensor],
        bias: Weight[Tensor],
        epsilon: float,
    ) -> Tensor:
        return F.layer_norm(x, weight.values.shape, weight.values, bias.values, epsilon)

    def activation(self, kind: str, name: str, x: Tensor) -> Tensor:
        if kind == "relu":
            return F.relu(x)
        if kind == "log1p":
            return torch.log1p(x)
        if kind in ("tanh", "sigmoid"):
            return torch.tanh(x) if kind == "tanh" else torch.sigmoid(x)
        return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def multiply(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    def heads(
        self,
        name: str,
        x: Tensor,
        weight: Weight[Tensor],
        bias: Weight[Tensor],
        part: HeadPart,
        turns: Tensor | None = None,
        terms: int = 1,
    ) -> Tensor:
        """[batch, heads, sequence, head_size]."""
        flat = self._linear(name, x, _matrix(weight), bias.values.flatten())
        split = flat.view(*flat.shape[:-1], *bias.values.shape).transpose(1, 2)
        return split if turns is None else turn(split, turns)

    def position_heads(
        self,
        name: str,
        table: RelativeTable[Tensor],
        weight: Weight[Tensor],
        bias: Weight[Tensor],
        part: Literal["query", "key"],
    ) -> Tensor:
        """[heads, 2 * sequence, head_size]."""
        return positions_in_heads(table, weight, bias, part, self._batch["attention_mask"].shape[1])

    def attend(
        self,
        name: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        by_position: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        self.attended = query, key, value
        scale = None
        if by_position is not None:
            scale, related = scale_and_relation(query, key, *by_position)
            mask = related.float().masked_fill(~mask, torch.finfo(torch.float32).min)
        # On CPUs, torch's own attention takes several times as long backward in bfloat16 as these products do.
        is_written_out = query.device.type == "cpu" and query.dtype == torch.bfloat16
        attention = written_out_attention if is_written_out else F.scaled_dot_product_attention
        if mask.dtype != torch.bool and not is_written_out:
            mask = mask.to(query.dtype)
        return attention(query, key, value, mask, scale=scale).transpose(1, 2).flatten(2)

    def first_token(self, name: str, x: Tensor) -> Tensor:
        return x[:, 0]

    def pool(self, mode: PoolingMode, name: str, x: Tensor, output: str | None = None) -> Tensor:
        attention_mask = self._batch["attention_mask"]
        if mode == "cls":
            return x[:, 0]
        if mode == "lasttoken":
            return x[torch.arange(len(x), device=x.device), attention_mask.sum(1) - 1]
        if mode == "max":
            return x.masked_fill(attention_mask[..., None] == 0, -torch.inf).amax(1)
        if mode == "weightedmean":
            weights = (attention_mask.cumsum(1) * attention_mask)[..., None].float()
            return (x * weights).sum(1) / weights.sum(1)
        mask = attention_mask[..., None].to(x.dtype)
        count = mask.sum(1)
        return (x * mask).sum(1) / (count if mode == "mean" else count.sqrt())

    def join(self, output: str, vectors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(vectors), -1)

    def unit(self, output: str, x: Tensor) -> Tensor:
        return F.normalize(x.float(), dim=-1)

    def truncate(self, output: str, x: Tensor, size: int) -> Tensor:
        return x[..., :size]

    def by_text(self, name: str, x: Tensor, output: str) -> Tensor:
        return x

    def columns(self, name: str, x: Tensor, outputs: tuple[str, ...]) -> Tensor:
        return x


def written_out_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float | None = None
) -> Tensor:
    """``F.scaled_dot_product_attention``, product by product; the softmax is float32 at any precision."""
    scores = (query / (math.sqrt(query.shape[-1]) if scale is None else 1 / scale)) @ key.transpose(2, 3)
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)
    return (scores.float() + mask).softmax(-1).to(value.dtype) @ value


def positions_in_heads(
    table: RelativeTable[Tensor],
    weight: Weight[Tensor],
    bias: Weight[Tensor],
    part: Literal["query", "key"],
    length: int,
) -> Tensor:
    """``Ops.position_heads`` for so many tokens, [heads, 2 * length, head_size], in the order of ``relative_rows``."""
    rows = relative_rows(length, table.buckets, table.farthest, part)
    # Texts are mostly short, and need a part of the table.
    first, last = int(rows.min()), int(rows.max())
    needed, norm = table.table.values[first : last + 1], (table.norm_weight.values, table.norm_bias.values)
    needed = F.layer_norm(needed, needed.shape[-1:], *norm, table.epsilon)
    flat = F.linear(needed, weight.values.reshape(-1, needed.shape[-1]), bias.values.flatten())
    places = torch.from_numpy(rows - first).to(flat.device)
    return flat.view(-1, *bias.values.shape)[places].transpose(0, 1)


def scale_and_relation(query: Tensor, key: Tensor, by_query: Tensor, by_key: Tensor) -> tuple[float, Tensor]:
    """The scale of attention with queries and keys of positions, and what these add to the scaled scores,
    [batch, heads, sequence, sequence]."""
    scale = 1 / math.sqrt(3 * query.shape[-1])
    to_position = _by_pair(query @ by_key.transpose(-1, -2))
    from_position = _by_pair(key @ by_query.transpose(-1, -2)).transpose(-1, -2)
    return scale, (to_position + from_position) * scale


def _by_pair(products: Tensor) -> Tensor:
    """Of products with positions [..., length, 2 * length], in the order of ``relative_rows``, those of every token's
    distances to all: [..., length, length]. From token to token they lie one place further in front."""
    length = products.shape[-2]
    needed = products.flatten(-2)[..., length - 1 : 2 * length * length - 1]
    return needed.reshape(*products.shape[:-1], 2 * length - 1)[..., :length]


def related(table: Tensor, length: int) -> Tensor:
    """Of a table [bucket, heads] the rows of all pairs of so many tokens, float32 [heads, length, length]."""
    buckets = torch.from_numpy(bucket_of(np.arange(1 - length, length))).to(table.device)
    by_distance = table.float()[buckets].T
    # A window of ``length`` distances for every query; the last query's, of nobody behind it, comes first.
    return by_distance.unfold(1, length, 1).flip(1)


def turned_at(places: Tensor, theta: float, head_size: int) -> Tensor:
    """``TorchOps.turns`` at these positions [n], float32 [2, n, head_size]."""
    angles = places[:, None].float() * torch.from_numpy(frequencies(theta, head_size)).to(places.device)
    sines = angles.sin()
    return torch.stack([angles.cos().repeat(1, 2), torch.cat([-sines, sines], 1)])


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """Heads [..., head_size] turned by ``turns`` [2, ..., head_size], in float32."""
    first, second = x.float().chunk(2, -1)
    return (x.float() * turns[0] + torch.cat([second, first], -1) * turns[1]).to(x.dtype)


def _distances(length: int, device: torch.device) -> Tensor:
    """[length, length], in tokens."""
    places = torch.arange(length, device=device)
    return (places - places[:, None]).abs()


def _matrix(weight: Weight[Tensor]) -> Tensor:
    """A weight as [outputs, inputs], a view where its heads are whole."""
    values = weight.values
    if values.dim() == 2:
        return values
    return values.flatten(0, 1) if weight.axes[0] == "heads" else values.flatten(1)
