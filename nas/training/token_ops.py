"""The operations of networks carried out by torch on all tokens of several batches at once, without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.nas.architecture.ops import HeadPart, PoolingMode, Weight
from ortnas.nas.training.batches import Batch
from ortnas.nas.training.torch_ops import TorchOps


class TokenOps(TorchOps):
    """Activations are [tokens, width], those of texts [texts, width]; outputs of heads are one axis."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        super().__init__({})
        self._batches = batches
        self._masks = [batch["attention_mask"].bool() for batch in batches]
        self._counts = [int(mask.sum()) for mask in self._masks]

    def look_up(self, word: Weight[Tensor], position: Weight[Tensor], token_type: Weight[Tensor]) -> Tensor:
        embedded = (TorchOps(batch).look_up(word, position, token_type) for batch in self._batches)
        return torch.cat([values[mask] for values, mask in zip(embedded, self._masks, strict=True)])

    def mask(self) -> Tensor:
        """Nobody's: each batch has its own."""
        return torch.empty(0)

    def linear(
        self, name: str, x: Tensor, weight: Weight[Tensor], bias: Weight[Tensor], output: str | None = None
    ) -> Tensor:
        return F.linear(x, weight.values.reshape(-1, x.shape[-1]), bias.values.flatten())

    def heads(self, name: str, x: Tensor, weight: Weight[Tensor], bias: Weight[Tensor], part: HeadPart) -> Tensor:
        """[tokens, heads, head_size]."""
        return self.linear(name, x, weight, bias).view(-1, *bias.values.shape)

    def attend(self, name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        padded = zip(self._pad(query), self._pad(key), self._pad(value), self._masks, strict=True)
        mixed = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=shown[:, None, None]).transpose(1, 2)[shown]
            for q, k, v, shown in padded
        ]
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
