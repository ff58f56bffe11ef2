"""A subnet's weights fitted to what the full network computes: in closed form, layer after layer, without training.

A slice lacks what its cut inputs contributed. Each weight product is fitted by least squares to the full network's own,
on the inputs that the subnet really has, the layers before it being fitted already (as sparse weights are by Frantar
and Alistarh 2023, "SparseGPT"); a product into the residual stream is fitted to the sum there. The ridge pulls to the
weights that are there. Layer norms follow channel by channel: ``weight = cov(n, y) / var(n)`` for normalised sums n
and the full network's outputs y. Where layers are left out, the one before them is fitted to the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import cut_layers, cut_top, head_of, kept_parts, network_of
from ortnas.nas.architecture.ops import Weight
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.data.mixture import Mixture
from ortnas.nas.training.batches import Batch, EncodedSource, to_tensors
from ortnas.nas.training.supernet import Supernet
from ortnas.nas.training.token_ops import TokenOps

# Of the mean variance of a product's inputs.
DAMPING = 0.1
_TINY = 1e-6
# Ten times as many as products of small networks have inputs; fewer where the signals, so many bytes of a token in
# every layer and channel, would take more than a fifth of the 6 GB that base size may need.
_TOKENS = 16_384
_BYTES_A_CHANNEL, _MOST_SIGNAL_BYTES = 16, 1.2e9
_BATCH = 64


@dataclass(frozen=True)
class FullSignals:
    """What a full network computed of ``batches``: the inputs of products, the sums of the residual stream and what
    comes out of layer norms, by name, [tokens, width] or, in the head, [texts, width]."""

    batches: Sequence[Batch]
    inputs: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, tuple[Tensor, Tensor | None]] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    normed: dict[str, Tensor] = field(default_factory=dict)


def texts_to_fit(
    examples: EncodedSource, dimensions: Dimensions, seed: int, mixture: Mixture | None = None
) -> list[Batch]:
    """Texts in random order or by the shares of the ``mixture``, without their labels, until they have 16,384 tokens,
    8,138 for a network of 12 x 768; those of similar length together."""
    bytes_a_token = _BYTES_A_CHANNEL * dimensions.num_layers * dimensions.hidden_size
    tokens = min(_TOKENS, int(_MOST_SIGNAL_BYTES / bytes_a_token))
    rows = mixture.order(0, seed) if mixture else np.random.default_rng([seed, 7]).permutation(len(examples))
    lengths = examples.lengths[rows]
    enough = int(np.searchsorted(lengths.cumsum(), tokens)) + 1
    rows = rows[:enough][np.argsort(lengths[:enough], kind="stable")]
    parts = (to_tensors(examples, rows[low : low + _BATCH].tolist()) for low in range(0, len(rows), _BATCH))
    return [{name: tensor for name, tensor in part.items() if name != "labels"} for part in parts]


def record_signals(network: Supernet, batches: Sequence[Batch]) -> FullSignals:
    """For ``refit``, on the network's device. They take 16 bytes a token, layer and channel: 0.6 GB for 16,384 tokens
    of 6 layers of 384, and 1.2 GB at most of the texts of ``texts_to_fit``."""
    device = next(network.parameters()).device
    signals = FullSignals([{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches])
    with torch.no_grad():
        _run(_Recorder(signals), network, network.dimensions.full_subnet)
    return signals


def refit(network: Supernet, signals: FullSignals, subnet: Subnet, damping: float = DAMPING) -> Supernet:
    """A network whose slice ``subnet`` computes nearly what the full ``network``, of which the signals are, does.

    What is not the subnet's stays as it is. Raises SpaceError where the subnet does not fit.
    """
    network.dimensions.check(subnet)
    with torch.no_grad():
        fitted = Supernet(network.tensors, network.dimensions)
        _run(_Fitter(signals, _stand_ins(network, subnet), damping), fitted, subnet)
    return fitted


class _Recorder(TokenOps):
    """Computes the full network and keeps its signals."""

    def __init__(self, signals: FullSignals) -> None:
        super().__init__(signals.batches)
        self._signals = signals

    def linear(
        self, name: str, x: Tensor, weight: Weight[Tensor], bias: Weight[Tensor], output: str | None = None
    ) -> Tensor:
        if weight.axes[0] != "hidden":
            self._signals.inputs[name] = x
            self._signals.weights[name] = weight.values, bias.values
        return super().linear(name, x, weight, bias, output)

    def project(
        self,
        name: str,
        x: Tensor,
        weight: Weight[Tensor],
        bias: Weight[Tensor] | None = None,
        output: str | None = None,
    ) -> Tensor:
        if _is_cut(weight):
            self._signals.inputs[name] = x
            self._signals.weights[name] = weight.values, None
        return super().project(name, x, weight, bias, output)

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        self._signals.sums[name] = super().add(name, x, y)
        return self._signals.sums[name]

    def layer_norm(self, name: str, x: Tensor, weight: Weight[Tensor], bias: Weight[Tensor], epsilon: float) -> Tensor:
        if not _is_cut(weight):
            return super().layer_norm(name, x, weight, bias, epsilon)
        self._signals.normed[name] = super().layer_norm(name, x, weight, bias, epsilon)
        return self._signals.normed[name]


@dataclass(frozen=True)
class _Product:
    """Its input [tokens, in], and its weight and bias, views of the network's."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None

    def correct(self, error: Tensor, damping: float) -> Tensor:
        """Fits the weights to what the output lacks, ``error``, and returns what it gains by that, [tokens, out]."""
        x, offset = self.x, torch.zeros_like(error[0])
        variance = x.var(0, correction=0).mean()
        if self.bias is not None:
            x, offset = x - x.mean(0), error.mean(0)
        moments = x.T @ x / len(x)
        moments.diagonal().add_(damping * variance + _TINY)
        gain = torch.linalg.solve(moments, x.T @ (error - offset) / len(x)).T
        self.weight.add_(gain.reshape(self.weight.shape))
        if self.bias is None:
            return F.linear(self.x, gain)
        shift = offset - gain @ self.x.mean(0)
        self.bias.add_(shift.reshape(self.bias.shape))
        return F.linear(self.x, gain, shift)


class _Fitter(TokenOps):
    """Computes a subnet and fits its weights on the way.

    ``stand_ins`` has the names of sums and layer norms for those whose outputs others take on.
    """

    def __init__(self, signals: FullSignals, stand_ins: Mapping[str, str], damping: float) -> None:
        super().__init__(signals.batches)
        self._signals, self._stand_ins, self._damping = signals, stand_ins, damping
        # The one into the residual stream whose sum comes next.
        self._last: _Product | None = None

    def linear(
        self, name: str, x: Tensor, weight: Weight[Tensor], bias: Weight[Tensor], output: str | None = None
    ) -> Tensor:
        computed = super().linear(name, x, weight, bias, output)
        product = _Product(x, weight.values, bias.values)
        if weight.axes[0] == "hidden":
            self._last = product
            return computed
        return self._fitted(name, product, computed)

    def project(
        self,
        name: str,
        x: Tensor,
        weight: Weight[Tensor],
        bias: Weight[Tensor] | None = None,
        output: str | None = None,
    ) -> Tensor:
        computed = super().project(name, x, weight, bias, output)
        return self._fitted(name, _Product(x, weight.values, None), computed) if _is_cut(weight) else computed

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        total = super().add(name, x, y)
        if self._last is not None:
            expected = self._signals.sums[self._stand_ins.get(name, name)][:, : total.shape[-1]]
            total = total + self._last.correct(expected - total, self._damping)
            self._last = None
        return total

    def layer_norm(self, name: str, x: Tensor, weight: Weight[Tensor], bias: Weight[Tensor], epsilon: float) -> Tensor:
        if not _is_cut(weight):
            return super().layer_norm(name, x, weight, bias, epsilon)
        width = x.shape[-1]
        name = self._stand_ins.get(name, name)
        normed = F.layer_norm(x, (width,), eps=epsilon)
        expected = self._signals.normed[name][:, :width]
        mean, expected_mean = normed.mean(0), expected.mean(0)
        variance = normed.var(0, correction=0).clamp(min=_TINY)
        weight.values.copy_(((normed - mean) * (expected - expected_mean)).mean(0) / variance)
        bias.values.copy_(expected_mean - weight.values * mean)
        return normed * weight.values + bias.values

    def _fitted(self, name: str, product: _Product, computed: Tensor) -> Tensor:
        full_weight, full_bias = self._signals.weights[name]
        x = self._signals.inputs[name]
        # Outputs that are left out need no fit.
        rows = tuple(slice(size) for size in (product.weight.shape[:-1]))
        bias = None if full_bias is None else full_bias[rows].flatten()
        # In place: of all tokens, each of these tensors of a wide layer takes 0.2 GB.
        error = F.linear(x, full_weight[rows].flatten(0, -2), bias).sub_(computed)
        return product.correct(error, self._damping).add_(computed)


def _is_cut(weight: Weight[Tensor]) -> bool:
    """Whether it is a part of the full network's, or works on one: not of what follows in the full one's channels."""
    return not {"hidden", "table"}.isdisjoint(weight.axes)


def _run(ops: TokenOps, network: Supernet, subnet: Subnet) -> None:
    dimensions, architecture = network.dimensions, network_of(network.dimensions)
    top = cut_top(network.tensors, subnet, dimensions)
    layers = cut_layers(network.tensors, subnet, dimensions)
    hidden = architecture.encode(ops, architecture.look_up(ops, top), top, layers, dimensions)
    # The decoder is the word table, which the embeddings need as it is.
    if not HEADS[dimensions.head].has_decoder:
        head_of(dimensions).apply(ops, hidden, top, dimensions)


def _stand_ins(network: Supernet, subnet: Subnet) -> dict[str, str]:
    """For the sum and the norm that end each part of the subnet's layers, the last before the subnet's next part."""
    dimensions, parts = network.dimensions, network_of(network.dimensions).layer.parts
    places = [f"layers/{layer}/{part.name}" for layer in range(dimensions.num_layers) for part in parts]
    kept = [
        f"layers/{layer.source}/{part.name}"
        for layer in subnet.layers
        for part in kept_parts(network.dimensions, layer)
    ]
    ends = [*(places.index(place) for place in kept[1:]), len(places)]
    kinds = {"residual", *(part.output.rpartition("/")[2] for part in parts)}
    return {
        f"{place}/{kind}": f"{places[end - 1]}/{kind}" for place, end in zip(kept, ends, strict=True) for kind in kinds
    }
