"""Training a supernet, a teacher, or one subnet: what a step computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from ortnas.export.inference import split_rows
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Array
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.batches import Batch, Batches, to_tensors
from ortnas.nas.training.engine import Losses, StateFiles, optimise
from ortnas.nas.training.fake_quantization import FakeQuantization
from ortnas.nas.training.kept_signals import KeptSignals
from ortnas.nas.training.losses import chosen_positions, label_loss
from ortnas.nas.training.objective import Objective, Signals
from ortnas.nas.training.supernet import Supernet
from ortnas.nas.training.torch_ops import plain_linear

AfterStep = Callable[[int, list[tuple[str, float]]], None]


class Subnets(Protocol):
    """The subnets of every step, the largest first where there is one."""

    def __getitem__(self, step: int) -> Sequence[Subnet]: ...


@dataclass(frozen=True)
class Course:
    """What every training needs beside networks: device, batches, states, who listens, and where the teacher's signals
    are kept (None: computed at every step)."""

    accelerator: Accelerator
    batches: Batches
    states: StateFiles
    after_step: AfterStep
    kept_signals: KeptSignals | None = None


def train_supernet(
    supernet: Supernet,
    teacher: Supernet | None,
    objective: Objective,
    subnets: Subnets,
    course: Course,
    quantization: FakeQuantization | None = None,
) -> None:
    """Trains the step's subnets on one batch, each by the objective, with one optimizer step for all.

    The teacher's signals are read or computed once a batch, embeddings are looked up once a batch. Without a teacher
    the first subnet of a step learns from labels and teaches the others (in-place distillation, Yu et al. 2020,
    "BigNAS"). ``quantization`` puts the rounding of the one subnet that is trained into its forward pass. Raises
    TrainingError.
    """
    accelerator, kept = course.accelerator, course.kept_signals
    linear = quantization.linear if quantization else plain_linear
    if teacher is not None:
        teacher.to(accelerator.device).requires_grad_(False)

    def taught(batch: Batch) -> Signals:
        assert teacher is not None
        with torch.no_grad(), accelerator.autocast():
            embedded = teacher.look_up(batch["input_ids"], batch["token_type_ids"])
            return objective.signals(teacher, embedded, batch, teacher.dimensions.full_subnet, is_teacher=True)

    def gradients(batch: Batch, weight: float, losses: Losses, step: int) -> None:
        chosen = subnets[step]
        target: Signals | None = None
        if teacher is not None and objective.needs_teacher:
            target = kept.signals(batch, taught) if kept else taught(batch)
        if quantization:
            quantization.prepare(supernet, step)
            embedded = quantization.look_up(supernet, batch)
        else:
            embedded = supernet.look_up(batch["input_ids"], batch["token_type_ids"], sparse_gradient=True)
        # The embedding's gradient is added up over subnets and sent into the table once.
        shared = embedded.detach().requires_grad_()
        for subnet in chosen:
            leads = target is None and objective.needs_teacher
            with accelerator.autocast():
                student = objective.signals(supernet, shared, batch, subnet, linear, learns_labels=leads)
            if leads:
                assert student.output is not None
                output, head = student.output.float(), supernet.dimensions.head
                loss = label_loss(head, output, batch["labels"], batch["attention_mask"], batch.get("labelled"))
                target = student.detach()
            else:
                loss = objective(student, target, batch)
            losses.add(subnet.describe(), loss)
            accelerator.backward(loss * (weight / len(chosen)))
        embedded.backward(shared.grad)  # type: ignore[no-untyped-call]

    optimise(
        accelerator,
        (supernet, objective),
        gradients,
        course.batches,
        course.batches.schedule,
        course.states,
        course.after_step,
        kept.flush if kept else None,
    )


def fine_tune(network: Supernet, course: Course) -> None:
    """Trains the full network on labels; it becomes the teacher. Raises TrainingError."""
    full = network.dimensions.full_subnet
    objective = Objective({"labels": 1.0}, network.dimensions)

    def gradients(batch: Batch, weight: float, losses: Losses, _step: int) -> None:
        with course.accelerator.autocast():
            embedded = network.look_up(batch["input_ids"], batch["token_type_ids"], sparse_gradient=True)
            student = objective.signals(network, embedded, batch, full)
        loss = objective(student, None, batch)
        losses.add(full.describe(), loss)
        course.accelerator.backward(loss * weight)

    schedule = course.batches.schedule
    optimise(course.accelerator, (network,), gradients, course.batches, schedule, course.states, course.after_step)


def compile_encoder(network: Supernet) -> None:
    """Has torch compile the network's encoder, for any batch; pays where one subnet is computed over and over."""
    network.encode = torch.compile(network.encode, dynamic=True)  # type: ignore[method-assign]


def network_outputs(network: Supernet, examples: EncodedExamples, subnet: Subnet, batch_size: int = 64) -> list[Array]:
    """The subnet's outputs row by row, in order, as ``export.inference.split_rows`` gives them."""
    device = next(network.parameters()).device
    head = network.dimensions.head
    result: list[Array] = [None] * len(examples)  # type: ignore[list-item]
    with torch.no_grad():
        for rows, _ in examples.batches(batch_size):
            batch = {name: tensor.to(device) for name, tensor in to_tensors(examples, rows).items()}
            output = _output(network, batch, subnet).float().cpu().numpy()
            for row, value in zip(rows, split_rows(head, output, examples, rows), strict=True):
                result[row] = value
    return result


def _output(network: Supernet, batch: Batch, subnet: Subnet) -> Tensor:
    embedded = network.look_up(batch["input_ids"], batch["token_type_ids"])
    hidden = network.encode(embedded, batch["attention_mask"], subnet).hidden
    positions = chosen_positions(network.dimensions.head, batch.get("labels"))
    return network.apply_head(hidden, batch["attention_mask"], subnet, positions)
