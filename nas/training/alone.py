"""Training one subnet alone, as a network of its own size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ortnas.nas.architecture.layout import cut_layers, cut_top
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.training.fake_quantization import FakeQuantization
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.steps import Course, train_supernet
from ortnas.nas.training.supernet import Supernet


def train_subnet(
    network: Supernet,
    subnet: Subnet,
    teacher: Supernet | None,
    objective: Objective,
    course: Course,
    quantization: FakeQuantization | None = None,
) -> None:
    """Trains one subnet of the network for all steps of the course; the other weights stay as they are.

    Meanwhile the network holds that subnet alone, and can compute it, for probes. Without a teacher, the subnet learns
    from labels. Raises TrainingError.
    """
    with cut_out(network, subnet):
        steps = course.batches.schedule.steps
        train_supernet(network, teacher, objective, [[subnet]] * steps, course, quantization)


@contextmanager
def cut_out(network: Supernet, subnet: Subnet) -> Iterator[None]:
    """Within the block the network has the subnet's tensors alone, as parameters of their own and in one piece; at its
    end they are written back to where they were cut from. A block that fails leaves the network as it was."""
    whole = network.weights
    network.weights = nn.ParameterDict(
        {
            name: nn.Parameter(part.detach().clone(memory_format=torch.contiguous_format))
            for name, part in _parts(network, subnet).items()
        }
    )
    try:
        yield
        own = network.weights
    finally:
        network.weights = whole
    with torch.no_grad():
        for name, part in _parts(network, subnet).items():
            part.copy_(own[name])


def _parts(network: Supernet, subnet: Subnet) -> dict[str, torch.Tensor]:
    """The subnet's parts of the network's tensors, as views, by the names of its parameters."""
    tensors, dimensions = network.tensors, network.dimensions
    views = {name: weight.values for name, weight in cut_top(tensors, subnet, dimensions).items()}
    for layer, weights in cut_layers(tensors, subnet, dimensions):
        views |= {f"layers.{layer.source}.{name}": weight.values for name, weight in weights.items()}
    return {name.replace(".", "/"): view for name, view in views.items()}
