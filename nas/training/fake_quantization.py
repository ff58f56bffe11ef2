"""Quantization-aware training: the rounding that the exported model will do, inside the forward pass.

Scheme and ranges are those of ``export.int8.quantize``: weights symmetric, one scale per output channel; inputs of
weight products with one scale from the smallest and largest value on the calibration texts; word embeddings with a
scale per row. Gradients pass through the rounding (straight-through estimator; Jacob et al. 2018, "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.export.int8.recipes import Recipe
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.training.batches import Batch
from ortnas.nas.training.losses import chosen_positions
from ortnas.nas.training.supernet import Supernet

_TINY = 1e-12
# Smallest and largest integer by type; a reduced range concerns weights only.
_ACTIVATION_RANGES = {"uint8": (0, 255), "int8": (-128, 127)}


class FakeQuantization:
    """The quantizer's rounding for one subnet. Ranges are measured anew every ``refresh_every`` steps, since weights
    move, and at the same steps in a resumed training."""

    def __init__(self, recipe: Recipe, calibration: Sequence[Batch], subnet: Subnet, refresh_every: int) -> None:
        self.recipe, self.calibration, self.subnet = recipe, calibration, subnet
        self.refresh_every = refresh_every
        self._ranges: dict[str, tuple[Tensor, Tensor]] = {}

    def prepare(self, network: Supernet, step: int) -> None:
        """Measures the ranges where they are missing or due."""
        if self._ranges and step % self.refresh_every:
            return
        self._ranges = {}
        device = next(network.parameters()).device
        with torch.no_grad():
            for batch in self.calibration:
                moved = {name: tensor.to(device) for name, tensor in batch.items()}
                # The quantizer's calibration runs the float network, its word table too.
                embedded = network.look_up(moved["input_ids"], moved["token_type_ids"])
                hidden = network.encode(embedded, moved["attention_mask"], self.subnet, self._observe).hidden
                positions = chosen_positions(network.dimensions.head, moved.get("labels"))
                network.apply_head(hidden, moved["attention_mask"], self.subnet, positions, self._observe)

    def look_up(self, network: Supernet, batch: Batch) -> Tensor:
        """``Supernet.look_up``, its gradient sparse, with the rows of the word table rounded to 8 bits, if the recipe
        stores them so."""
        embedded = network.look_up(batch["input_ids"], batch["token_type_ids"], sparse_gradient=True)
        if not self.recipe.embeddings:
            return embedded
        table = network.tensors["embeddings.word"]
        width = table.shape[1] if network.dimensions.table_size else self.subnet.hidden_size
        rows = F.embedding(batch["input_ids"], table.detach())[..., :width]
        scale = rows.abs().amax(-1, keepdim=True).clamp(min=_TINY) / 127
        rounding = F.pad((rows / scale).round() * scale - rows, (0, table.shape[1] - width))
        return embedded + rounding

    def linear(self, name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A weight product of rounded operands and bias; a float accumulator stands for the integer one."""
        if self.recipe.keeps_float(name):
            return F.linear(x, weight, bias)
        scale, zero_point, smallest, largest = self._input_scale(name)
        x = torch.fake_quantize_per_tensor_affine(x.float(), scale, zero_point, smallest, largest)
        weight_scale, bound = self._weight_scale(weight)
        zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
        weight = torch.fake_quantize_per_channel_affine(weight, weight_scale, zeros, 0, -bound, bound)
        # The integer bias counts products of input and weight steps.
        step = scale * weight_scale
        bias = bias + ((bias / step).round() * step - bias).detach()
        return F.linear(x, weight, bias)

    def _observe(self, name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        low, high = torch.aminmax(x)
        if name in self._ranges:
            low, high = torch.minimum(low, self._ranges[name][0]), torch.maximum(high, self._ranges[name][1])
        self._ranges[name] = low, high
        return F.linear(x, weight, bias)

    def _input_scale(self, name: str) -> tuple[Tensor, Tensor, int, int]:
        """Scale, zero point, smallest and largest integer of a product's input."""
        low, high = self._ranges[name][0].clamp(max=0).float(), self._ranges[name][1].clamp(min=0).float()
        smallest, largest = _ACTIVATION_RANGES[self.recipe.activation_type]
        scale = ((high - low) / (largest - smallest)).clamp(min=_TINY)
        zero_point = (smallest - low / scale).round().clamp(smallest, largest).to(torch.int32)
        return scale, zero_point, smallest, largest

    def _weight_scale(self, weight: Tensor) -> tuple[Tensor, int]:
        """Scale per output channel, and the largest integer."""
        bound = 64 if self.recipe.reduce_range else 127
        sizes = weight.detach().abs()
        largest = sizes.amax(1) if self.recipe.per_channel else sizes.amax().expand(len(weight))
        return largest.clamp(min=_TINY) / bound, bound
