"""Training a supernet: sandwich rule with distillation from the full pretrained network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas.failures import TrainingError
from nas.files import aside
from nas.losses import classification_loss, embedding_loss, token_loss
from nas.space import SearchSpace, Subnet
from nas.supernet import Supernet
from nas.text import EncodedExamples

Batch = dict[str, Tensor]
Report = Callable[[int, int, str], None]
_BUCKET_BATCHES = 50


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train. The learning rate warms up over a tenth of the steps, then falls linearly."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    checkpoint_every: int = 100

    def rate(self, step: int) -> float:
        warmup = max(1, self.steps // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * max(0.0, (self.steps - step) / max(1, self.steps - warmup))


class Batches:
    """Training batches as a pure function of seed and step, so that a resumed run sees the same ones.

    Batches hold texts of similar length: less padding, the same mix over an epoch.
    """

    def __init__(self, examples: EncodedExamples, labels: Sequence[int] | None, schedule: Schedule) -> None:
        self.examples, self.labels, self.schedule = examples, labels, schedule
        self.per_epoch = max(1, len(examples) // schedule.batch_size)
        self._epoch, self._batches = -1, list[list[int]]()

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan(epoch)
        return to_tensors(self.examples, self._batches[position], self.labels)

    def _plan(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.schedule.seed, epoch])
        order = rng.permutation(len(self.examples)).tolist()
        size = self.schedule.batch_size
        batches = []
        for start in range(0, len(order), size * _BUCKET_BATCHES):
            bucket = sorted(order[start : start + size * _BUCKET_BATCHES], key=lambda row: len(self.examples.ids[row]))
            batches += [bucket[low : low + size] for low in range(0, len(bucket), size)]
        whole = [batch for batch in batches if len(batch) == size] or batches
        return [whole[index] for index in rng.permutation(len(whole))]


def to_tensors(examples: EncodedExamples, rows: Sequence[int], labels: Sequence[int] | None = None) -> Batch:
    batch = {name: torch.from_numpy(array) for name, array in examples.feeds(rows).items()}
    if labels is not None:
        batch["labels"] = torch.tensor([labels[row] for row in rows])
    return batch


def train_supernet(
    supernet: Supernet,
    teacher: Supernet,
    space: SearchSpace,
    batches: Batches,
    random_subnets: int,
    state_file: Path,
    inputs: str,
    report: Report,
) -> None:
    """Sandwich rule (Yu et al. 2020, "BigNAS"): each step trains the largest, the smallest and some random subnets.

    The teacher's output is computed once a batch, embeddings are looked up once a step. Raises TrainingError.
    """
    seed = batches.schedule.seed
    full, largest, smallest = teacher.dimensions.full_subnet, space.largest, space.smallest

    def gradients(step: int) -> float:
        batch = batches[step]
        with torch.no_grad():
            target = _compute(teacher, teacher.look_up(batch["input_ids"], batch["token_type_ids"]), batch, full)
        drawn = space.sample(random_subnets, np.random.default_rng([seed, step, 1]))
        subnets = [largest, smallest, *(space.decode(genome) for genome in drawn)]
        embedded = supernet.look_up(batch["input_ids"], batch["token_type_ids"])
        shared = embedded.detach().requires_grad_()
        total = 0.0
        for subnet in subnets:
            loss = _distillation_loss(_compute(supernet, shared, batch, subnet), target, batch) / len(subnets)
            if not torch.isfinite(loss):
                raise TrainingError(_not_finite(step, subnet, batches.schedule))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        embedded.backward(shared.grad)  # type: ignore[no-untyped-call]
        return total

    optimise(supernet, gradients, batches.schedule, state_file, inputs, report)


def fine_tune(network: Supernet, batches: Batches, state_file: Path, inputs: str, report: Report) -> None:
    """Trains the full network on labels; it becomes the teacher. Raises TrainingError."""
    full = network.dimensions.full_subnet

    def gradients(step: int) -> float:
        batch = batches[step]
        loss = F.cross_entropy(network(batch, full), batch["labels"])
        if not torch.isfinite(loss):
            raise TrainingError(_not_finite(step, full, batches.schedule))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    optimise(network, gradients, batches.schedule, state_file, inputs, report)


@dataclass(frozen=True)
class _Output:
    """What a subnet is compared on: its output, and for embeddings its tokens in the checkpoint's channels."""

    final: Tensor
    tokens: Tensor | None


def _compute(network: Supernet, embedded: Tensor, batch: Batch, subnet: Subnet) -> _Output:
    encoded = network.encode(embedded, batch["attention_mask"], subnet)
    final = network.apply_head(encoded, batch["attention_mask"], subnet)
    tokens = network.project(encoded, subnet) if network.dimensions.head == "embedding" else None
    return _Output(final, tokens)


def _distillation_loss(student: _Output, teacher: _Output, batch: Batch) -> Tensor:
    if student.tokens is None or teacher.tokens is None:
        return classification_loss(student.final, teacher.final, batch["labels"])
    tokens = token_loss(student.tokens, teacher.tokens, batch["attention_mask"])
    return embedding_loss(student.final, teacher.final) + tokens


def optimise(
    network: Supernet,
    gradients: Callable[[int], float],
    schedule: Schedule,
    state_file: Path,
    inputs: str,
    report: Report,
) -> None:
    """AdamW over ``schedule.steps`` steps, resumed from ``state_file`` where that holds a state of the same inputs.

    ``gradients(step)`` fills the gradients and returns the loss.
    """
    parameters = dict(network.weights.items())
    decayed = [tensor for tensor in parameters.values() if tensor.ndim > 1]
    plain = [tensor for tensor in parameters.values() if tensor.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)
    start = _load_state(state_file, parameters, optimizer, inputs)
    smoothed = math.nan
    for step in range(start, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad()
        loss = gradients(step)
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        smoothed = loss if math.isnan(smoothed) else 0.98 * smoothed + 0.02 * loss
        report(step + 1, schedule.steps, f"loss {smoothed:.4f}")
        if (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps:
            _save_state(state_file, parameters, optimizer, inputs, step + 1)


def outputs(network: Supernet, examples: EncodedExamples, subnet: Subnet, batch_size: int = 64) -> Tensor:
    """The subnet's output for every example, in order, without gradients."""
    result: Tensor | None = None
    with torch.no_grad():
        for rows, _ in examples.batches(batch_size):
            output = network(to_tensors(examples, rows), subnet)
            if result is None:
                result = output.new_empty(len(examples), output.shape[1])
            result[rows] = output
    if result is None:
        raise ValueError("no examples")
    return result


def _not_finite(step: int, subnet: Subnet, schedule: Schedule) -> str:
    return (
        f"the loss is not finite at step {step} for the subnet {subnet.describe()}; the last checkpoint is kept. "
        f"Lower training.learning_rate (now {schedule.learning_rate:g}) and run again"
    )


def _save_state(
    path: Path, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, inputs: str, step: int
) -> None:
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"weights:{name}"] = parameter.detach()
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}:{name}"] = optimizer.state[parameter][moment]
    with aside(path) as temporary:
        save_file(tensors, temporary, metadata={"step": str(step), "inputs": inputs})


def _load_state(path: Path, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, inputs: str) -> int:
    """Fills parameters and optimizer from a state file; returns the next step, 0 where there is no usable state."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("inputs") != inputs:
                return 0
            step = int(metadata["step"])
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(file.get_tensor(f"weights:{name}"))
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(step)),
                        "exp_avg": file.get_tensor(f"exp_avg:{name}"),
                        "exp_avg_sq": file.get_tensor(f"exp_avg_sq:{name}"),
                    }
            return step
    except (OSError, SafetensorError):
        return 0
