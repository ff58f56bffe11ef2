"""The operations of networks carried out by torch on all tokens of several batches at once, without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.nas.architecture.ops import HeadPart, PoolingMode, RelativeTable, Weight
from ortnas.nas.training.batches import Batch
from ortnas.nas.training.torch_ops import (
    TorchOps,
    positions_in_heads,
    related,
    scale_and_relation,
    turn,
    turned_at,
)


class TokenOps(TorchOps):
    """Activations are [tokens, width], those of texts [texts, width]; outputs of heads are one axis."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        super().__init__({})
        self._batches = batches
        self._masks = [batch["attention_mask"].bool() for batch in batches]
        self._counts = [int(mask.sum()) for mask in self._masks]
        self._longest = max(mask.shape[1] for mask in self._masks)
        self._places = torch.cat([mask.nonzero()[:, 1] for mask in self._masks])

    def look_up(
        self, word: Weight[Tensor], position: Weight[Tensor] | None, token_type: Weight[Tensor] | None
    ) -> Tensor:
        embedded = (TorchOps(batch).look_up(word, position, token_type) for batch in self._batches)
        return torch.cat([values[mask] for values, mask in zip(embedded, self._masks, strict=True)])

    def mask(self, reach: int | None = None) -> Tensor:
        """Added to the scores of all texts, [1 or heads, 1 or longest, longest]: padding is each batch's own."""
        device = self._places.device
        if reach is None:
            return torch.zeros(1, 1, self._longest, device=device)
        places = torch.arange(self._longest, device=device)
        distances = places - places[:, None]
        return torch.zeros(1, *distances.shape, device=device).masked_fill(distances.abs() > reach, float("-inf"))

    def turns(self, theta: float, head_size: int) -> Tensor:
        return turned_at(self._places, theta, head_size)[:, :, None]

    def relate(self, name: str, mask: Tensor, table: Weight[Tensor]) -> Tensor:
        return mask + related(table.values, self._longest)

    def linear(
        self, name: str, x: Tensor, weight: Weight[Tensor], bias: Weight[Tensor], output: str | None = None
    ) -> Tensor:
        return F.linear(x, weight.values.reshape(-1, x.shape[-1]), bias.values.flatten())

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
        """[tokens, heads, head_size]."""
        split = self.linear(name, x, weight, bias).view(-1, *bias.values.shape)
        return split if turns is None else turn(split, turns)

    def position_heads(
        self,
        name: str,
        table: RelativeTable[Tensor],
        weight: Weight[Tensor],
        bias: Weight[Tensor],
        part: Literal["query", "key"],
    ) -> Tensor:
        """[heads, 2 * longest, head_size]."""
        return positions_in_heads(table, weight, bias, part, self._longest)

    def attend(
        self,
        name: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        by_position: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        padded = zip(self._pad(query), self._pad(key), self._pad(value), self._masks, strict=True)
        mixed, scale = [], None
        for q, k, v, shown in padded:
            length = q.shape[2]
            added = mask[:, :length, :length]
            if by_position is not None:
                needed = slice(self._longest - length, self._longest + length)
                scale, relation = scale_and_relation(q, k, *(heads[:, needed] for heads in by_position))
                added = added + relation
            added = added.masked_fill(~shown[:, None, None], float("-inf"))
            mixed.append(F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale).transpose(1, 2)[shown])
        return torch.cat(mixed).flatten(1)

    def first_token(self, name: str, x: Tensor) -> Tensor:
        return torch.cat([padded[:, 0, 0] for padded in self._pad(x[:, None])])

    def pool(self, mode: PoolingMode, name: str, x: Tensor, output: str | None = None) -> Tensor:
        padded = zip(self._pad(x[:, None]), self._batches, strict=True)
        return torch.cat([TorchOps(batch).pool(mode, name, values[:, 0]) for values, batch in padded])

    def _pad(self, x: Tensor) -> Iterator[Tensor]:
        """[batch, heads, sequence, head_size] of [tokens, heads, head_size], zeros at padding, batch by batch."""
        for values, mask in zip(torch.split(x, self._counts), self._masks, strict=True):
            padded = x.new_zeros(*mask.shape, *x.shape[1:])
            padded[mask] = values
            yield padded.transpose(1, 2)
