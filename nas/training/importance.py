"""Reordering a network by importance, so that the first n heads, neurons and channels are the best n.

Importance is the first-order Taylor term of a gate of 1 on each unit: ``|dL/dgate|`` summed over real batches
(Michel et al. 2019, "Are Sixteen Heads Really Better than One?"; Molchanov et al. 2019). The gate's gradient is read
off the gradient of the weights behind it, so one backward pass serves every unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.nas.architecture.blocks import Gate
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.architecture.layout import head_of, network_of, split_name, tensor_axes
from ortnas.nas.architecture.ops import Axes
from ortnas.nas.text import IGNORED
from ortnas.nas.training.losses import label_targets
from ortnas.nas.training.supernet import Supernet

Batch = Mapping[str, Tensor]


def _gates(tensors: Mapping[str, Tensor], dimensions: Dimensions) -> dict[str, Tensor]:
    """Gradient of the loss with respect to a gate on every unit, from the gradients of the weights."""

    def product(name: str) -> Tensor:
        gradient = tensors[name].grad
        return tensors[name].detach() * gradient if gradient is not None else torch.zeros_like(tensors[name])

    def gradient(gate: Gate, block: Mapping[str, Axes], prefix: str) -> Tensor:
        """Summed over all axes but the gate's."""
        parts = []
        for name in gate.tensors:
            others = [axis for axis, label in enumerate(block[name]) if label not in gate.axes]
            part = product(prefix + name)
            parts.append(part.sum(others) if others else part)
        return torch.stack(parts).sum(0)

    network = network_of(dimensions)
    entry = network.entry_of(dimensions)
    layers = ((f"layers.{index}.", network.layer_at(index)) for index in range(dimensions.num_layers))
    blocks = [("", entry), *layers, ("", network.exit)]
    gates: dict[str, Tensor] = {}
    for prefix, block in blocks:
        for gate in block.gates:
            value = gradient(gate, block.tensors, prefix)
            if gate.is_shared:
                gates[gate.name] = gates.get(gate.name, torch.zeros_like(value)) + value.abs()
            else:
                gates[prefix + gate.name] = value
    for name, axes in head_of(dimensions).tensors.items():
        if axes[1:] == ("pooled",):
            gates["pooled"] = product(name).sum(0)
    return gates


def _loss(supernet: Supernet, batch: Batch, generator: torch.Generator) -> Tensor:
    head, full = HEADS[supernet.dimensions.head], supernet.dimensions.full_subnet
    if head.fills_masks:
        # Nothing is masked yet; the logits of all tokens would be the largest tensor by far.
        embedded = supernet.look_up(batch["input_ids"], batch["token_type_ids"])
        hidden = supernet.encode(embedded, batch["attention_mask"], full).hidden
        return _probe(hidden * batch["attention_mask"][..., None], generator)
    output: Tensor = supernet(batch, full)
    if not head.has_labels:
        return _probe(output, generator)
    return LOSSES[head.labels](output, batch)


def _squared_error(output: Tensor, batch: Batch) -> Tensor:
    return F.mse_loss(output[:, 0], batch["labels"].to(output.dtype))


def _cross_entropy(output: Tensor, batch: Batch) -> Tensor:
    labels = batch["labels"]
    # Not torch's own mean, which is not finite where no token has a label.
    total = F.cross_entropy(output.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def _binary_cross_entropy(output: Tensor, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, label_targets(output, batch["labels"]))


def _answer_cross_entropy(output: Tensor, batch: Batch) -> Tensor:
    labels, padding = batch["labels"], ~batch["attention_mask"].bool()
    start, end = output.masked_fill(padding[..., None], torch.finfo(output.dtype).min).unbind(-1)
    return (F.cross_entropy(start, labels[:, 0]) + F.cross_entropy(end, labels[:, 1])) / 2


def _spread(output: Tensor, _: Batch) -> Tensor:
    """What tells passages apart, relevant or not: a batch may hold too few of a query's to compare them by grades."""
    return output[:, 0].var()


# Of heads whose labels say what is right; others are probed.
LOSSES: dict[Labels, Callable[[Tensor, Batch], Tensor]] = {
    "class": _cross_entropy,
    "classes": _binary_cross_entropy,
    "number": _squared_error,
    "tags": _cross_entropy,
    "answer": _answer_cross_entropy,
    "grades": _spread,
}


def _probe(output: Tensor, generator: torch.Generator) -> Tensor:
    """Without labels, the change of the output itself is what counts: a random direction per vector of the output
    [batch, ..., size] probes the norm of its Jacobian without bias."""
    direction = torch.randn(output.shape, generator=generator).to(output.device)
    return (output * direction).sum() / len(output)


def measure_importance(supernet: Supernet, batches: Iterable[Batch], seed: int) -> dict[str, Tensor]:
    """Importance of every head, FFN neuron, head dimension and residual channel; small batches resolve more.

    Keys are ``hidden``, ``pooled`` (classifiers of texts, regression) and ``layers.N.{heads,value,query,ffn}``; the
    network's device computes it, and the result is on the CPU.
    """
    device = next(supernet.parameters()).device
    # The same directions on every device.
    generator = torch.Generator().manual_seed(seed)
    total: dict[str, Tensor] = {}
    for batch in batches:
        supernet.zero_grad()
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        _loss(supernet, moved, generator).backward()  # type: ignore[no-untyped-call]
        for name, gate in _gates(supernet.tensors, supernet.dimensions).items():
            total[name] = total.get(name, torch.zeros_like(gate)) + gate.abs()
    supernet.zero_grad()
    return {name: gate.cpu() for name, gate in total.items()}


def reorder(supernet: Supernet, importance: Mapping[str, Tensor]) -> Supernet:
    """The same function with every axis in order of importance, most important first.

    Heads, neurons and residual channels are permuted consistently in all tensors that carry them; inside a head,
    query and key share one order, value and output another. The embedding projection keeps its rows, so embeddings
    come out in the checkpoint's channel order.
    """
    order = {name: value.argsort(dim=-1, descending=True, stable=True) for name, value in importance.items()}
    gates = [gate for gate in network_of(supernet.dimensions).layer.gates if gate.is_inside_heads]
    tensors = {}
    for name, axes in tensor_axes(supernet.dimensions).items():
        tensor = supernet.tensors[name].detach()
        layer, within = split_name(name)
        for gate in gates if layer else ():
            if gate.ranks(within) and gate.axes[-1] in axes:
                tensor = _permute_inside_heads(tensor, axes.index(gate.axes[-1]), order[layer + gate.name])
        for axis, label in enumerate(axes):
            chosen = order.get(label, order.get(layer + label))
            if chosen is not None:
                tensor = tensor.index_select(axis, chosen)
        tensors[name] = tensor
    return Supernet(tensors, supernet.dimensions)


def _permute_inside_heads(tensor: Tensor, axis: int, order: Tensor) -> Tensor:
    """Reorders the head dimension at ``axis`` by ``order`` [heads, head_size]; heads are the axis before it."""
    shape = [1] * tensor.ndim
    shape[axis - 1], shape[axis] = order.shape
    return tensor.gather(axis, order.reshape(shape).expand(tensor.shape))
