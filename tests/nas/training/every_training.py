"""Every way in which a run trains, one after the other, on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.judgements import Judgements
from ortnas.nas.training.alone import train_subnet
from ortnas.nas.training.fake_quantization import FakeQuantization
from ortnas.nas.training.importance import measure_importance
from ortnas.nas.training.kept_signals import KeptSignals, can_be_kept
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.refitting import record_signals, refit, texts_to_fit
from ortnas.nas.training.steps import Course, fine_tune, network_outputs, train_supernet
from tests.nas.training.courses import make_batches, make_course, make_examples, make_network
from tests.networks import HOST_RECIPE, random_subnets, space_of

# Where a gradient is nearly 0, AdamW's step has the sign of rounding errors.
_RATE = 1e-5


def train_all(folder: Path, device: torch.device, head: str, changes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Importance; a slice fitted to its teacher; two steps of a supernet, of the subnet alone as the quantizer rounds,
    of it with pairs, and of the full network on labels. Returns all that comes of them by name, on the CPU; ``changes``
    are to the dimensions of a tiny network. The accelerator has to pick the device."""
    network, teacher = (make_network(head, seed, **changes).to(device) for seed in (0, 1))
    space = space_of(network.dimensions)
    subnet = random_subnets(space, 1)[2]
    examples, batches = make_examples(head), make_batches(head, 2)
    sample = [batches[step][0] for step in range(2)]
    results = {f"importance:{name}": value for name, value in measure_importance(network, sample, 0).items()}
    network = refit(network, record_signals(teacher, texts_to_fit(examples, network.dimensions, 0)), subnet)
    objective = Objective(choose_losses(head, None), network.dimensions)
    kept = KeptSignals(folder / "kept", "x", objective, examples, 10**9) if can_be_kept(objective) else None

    def course(name: str, **batches: Any) -> Course:
        return make_course(folder, 2, head=head, name=name, learning_rate=_RATE, **batches)

    together = replace(course("supernet"), kept_signals=kept)
    train_supernet(network, teacher, objective, [[space.largest, space.smallest, subnet]] * 2, together)
    alone = replace(course("subnet"), kept_signals=kept)
    train_subnet(network, subnet, teacher, objective, alone, FakeQuantization(HOST_RECIPE, sample, subnet, 1))
    if HEADS[head].learns_pairs:
        rows = range(0, len(examples), 2)
        pairs = Judgements(tuple(rows), tuple(row + 1 for row in rows), (1.0,) * len(rows), tuple(rows))
        taught = Objective({"embedding": 1.0, "pairs": 1.0}, network.dimensions)
        train_supernet(network, teacher, taught, [[subnet]] * 2, course("pairs", pairs=pairs))
    if HEADS[head].has_labels:
        fine_tune(network, course("labels"))
    assert {tensor.device.type for tensor in network.parameters()} == {device.type}
    if not HEADS[head].fills_masks:
        outputs = network_outputs(network, examples, subnet)
        results["outputs"] = torch.from_numpy(np.concatenate([row.ravel() for row in outputs]))
    return results | {name: tensor.detach() for name, tensor in network.cpu().tensors.items()}
