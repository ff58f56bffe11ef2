"""The optimisation loop: one for CPU, GPU and several processes, at any precision, resumable at any step."""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ortnas.bench.conditions import usable_processors
from ortnas.bench.fingerprint import fingerprint
from ortnas.nas.failures import NotFiniteError, TrainingError
from ortnas.nas.files import aside
from ortnas.nas.training.batches import Batch, Schedule
from ortnas.nas.training.free_memory import HoleWatch, release_free_memory

_KEPT_STATES = 2
_GRADIENT_NORM = 1.0
_WEIGHT_DECAY = 0.01
_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
# What AdamW holds for a parameter that had a gradient; it counts the steps of each.
_ADAM = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Losses:
    """The loss of every subnet that a step computed, by its description; tensors, so that nothing waits for them."""

    by_subnet: list[tuple[str, Tensor]] = field(default_factory=list)

    def add(self, subnet: str, loss: Tensor) -> None:
        self.by_subnet.append((subnet, loss.detach()))

    def values(self, step: int, learning_rate: float) -> list[float]:
        """As numbers. Raises NotFiniteError where one is not finite."""
        values: list[float] = torch.stack([loss.float() for _, loss in self.by_subnet]).tolist()
        for (subnet, _), value in zip(self.by_subnet, values, strict=True):
            if value - value != 0:
                raise NotFiniteError(
                    f"the loss is not finite at step {step} for the subnet {subnet}; the last checkpoint is kept. "
                    f"Lower the learning rate (now {learning_rate:g}) and run again"
                )
        return values


def fast_precision() -> str:
    """``bf16`` where this machine multiplies bfloat16 in hardware, ``no`` elsewhere."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # The processor's own flags: torch computes bfloat16 without them too, but slowly.
    return "bf16" if {"avx512_bf16", "amx_bf16"}.intersection(fingerprint()["isa"]) else "no"


def choose_accelerator(mixed_precision: str) -> Accelerator:
    """Device and processes as `accelerate launch` set them, or this machine's own; ``auto`` is ``fast_precision``.

    Raises TrainingError where the device has no such precision.
    """
    if mixed_precision == "auto":
        mixed_precision = fast_precision()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    _check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    # Without a GPU, accelerate's processes find each other only where they are told to compute on the CPU.
    on_cpu = processes > 1 and not torch.cuda.is_available()
    # It keeps the first precision that a process asked for.
    AcceleratorState._reset_state()
    try:
        # Where nobody chose, torch starts a thread for each core whatever the control group's quota is.
        torch.set_num_threads(min(torch.get_num_threads(), usable_processors()))
        accelerator = Accelerator(mixed_precision=mixed_precision, cpu=on_cpu)
    except ValueError as error:
        raise TrainingError(f"training.mixed_precision = {mixed_precision!r}: {error}") from error
    if accelerator.num_processes != processes:
        raise TrainingError(f"of {processes} processes that were started, {accelerator.num_processes} found each other")
    if mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("training.mixed_precision = 'fp16': needs a GPU; on a CPU there are 'no' and 'bf16'")
    return accelerator


def _check_gpus(processes: int) -> None:
    """So many processes on this machine. Raises TrainingError where two would share a GPU, which NCCL refuses."""
    if not torch.cuda.is_available():
        return
    gpus = torch.cuda.device_count()
    if processes > gpus:
        raise TrainingError(
            f"{processes} processes were started on a machine with {gpus} GPU{'s' * (gpus > 1)}; start one for each "
            f"(accelerate launch --num_processes {gpus}), or set CUDA_VISIBLE_DEVICES='' to compute on the CPU"
        )


@dataclass(frozen=True)
class StateFiles:
    """Numbered states of one training in one folder; the newest few are kept.

    A state holds weights, both moments and the step; batches, subnets, masks and the learning rate are functions of
    seed and step, so the step stands for sampler, scheduler and random numbers. ``inputs`` names what the training is
    of: states of other inputs are left alone.
    """

    folder: Path
    name: str
    inputs: str

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob(f"{self.name}-{self.inputs}-*.safetensors"))

    def save(self, parameters: Mapping[str, Tensor], optimizer: Any, scaler: dict[str, Any], step: int) -> None:
        tensors = {}
        for name, parameter in parameters.items():
            tensors[f"weights:{name}"] = parameter.detach()
            if parameter in optimizer.state:
                tensors |= {f"{key}:{name}": optimizer.state[parameter][key] for key in _ADAM}
        path = self.folder / f"{self.name}-{self.inputs}-{step:08d}.safetensors"
        with aside(path) as temporary:
            save_file(tensors, temporary, metadata={"step": str(step), "scaler": json.dumps(scaler)})
        for old in self.paths()[:-_KEPT_STATES]:
            old.unlink()

    def load(self, parameters: Mapping[str, Tensor], optimizer: Any) -> tuple[int, dict[str, Any]]:
        """Fills parameters and optimizer from the newest readable state; returns its step and loss scaling."""
        for path in reversed(self.paths()):
            try:
                return _read_state(path, parameters, optimizer)
            except (OSError, SafetensorError, KeyError, ValueError):
                continue
        return 0, {}

    def clear(self) -> None:
        for path in self.paths():
            path.unlink()


def _read_state(path: Path, parameters: Mapping[str, Tensor], optimizer: Any) -> tuple[int, dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
        step = int(metadata["step"])
        tensors = {name: file.get_tensor(name) for name in names}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weights:{name}"])
            if f"exp_avg:{name}" in names:
                optimizer.state[parameter] = {key: tensors[f"{key}:{name}"].to(parameter.device) for key in _ADAM}
    return step, json.loads(metadata["scaler"])


Gradients = Callable[[Batch, float, Losses, int], None]


def optimise(
    accelerator: Accelerator,
    modules: Iterable[nn.Module],
    gradients: Gradients,
    batches: Any,
    schedule: Schedule,
    states: StateFiles,
    after_step: Callable[[int, list[tuple[str, float]]], None],
    before_saving: Callable[[], None] | None = None,
) -> None:
    """AdamW over ``schedule.steps`` steps, going on from the newest state of the same inputs.

    ``gradients(batch, weight, losses, step)`` adds the gradients of one part of a batch, scaled by its weight, and
    notes the losses. Gradients are averaged over processes once a step. ``before_saving`` is called in every process
    before a state is written. Raises TrainingError for a loss or gradient that is not finite, and where memory does not
    suffice.
    """
    parameters = {
        f"{index}.{name}": parameter
        for index, module in enumerate(modules)
        for name, parameter in module.to(accelerator.device).named_parameters()
    }
    with _prepared_optimizer(accelerator, parameters.values(), schedule) as optimizer:
        start, scaling = states.load(parameters, optimizer)
        if accelerator.scaler is not None:
            # As any training begins: the accelerator may have served another one before.
            accelerator.scaler.load_state_dict(scaling or torch.amp.GradScaler(accelerator.device.type).state_dict())
        dense_gradients = _DenseGradients(accelerator.num_processes > 1)
        holes = HoleWatch()
        for step in range(start, schedule.steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            parts = [_moved(part, accelerator.device) for part in batches[step]]
            losses = Losses()
            try:
                optimizer.zero_grad()
                for part in parts:
                    gradients(part, 1 / len(parts), losses, step)
            except RuntimeError as error:
                if not _OUT_OF_MEMORY.search(str(error)):
                    raise
                # Its frames hold all that was computed until then.
                traceback.clear_frames(error.__traceback__)
                raise TrainingError(_advice(gradients, parts[0], optimizer, step, schedule)) from error
            values = losses.values(step, schedule.learning_rate)
            dense_gradients.fill(parameters.values())
            _average_over_processes(accelerator, parameters.values())
            norm = accelerator.clip_grad_norm_(list(parameters.values()), _GRADIENT_NORM)
            if accelerator.scaler is None and norm is not None and not torch.isfinite(norm):
                raise NotFiniteError(
                    f"the gradients are not finite at step {step}; the last checkpoint is kept. "
                    f"Lower the learning rate (now {schedule.learning_rate:g}) and run again"
                )
            optimizer.step()
            holes.after_step()
            # Before the state: what a kill in between leaves unsaved is computed again, what is unsaid would stay so.
            names = (name for name, _ in losses.by_subnet)
            after_step(step + 1, list(zip(names, values, strict=True)))
            if (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps:
                if before_saving is not None:
                    before_saving()
                if accelerator.is_main_process:
                    scaling = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
                    states.save(parameters, optimizer, scaling, step + 1)
                accelerator.wait_for_everyone()


@contextmanager
def _prepared_optimizer(accelerator: Accelerator, parameters: Iterable[Tensor], schedule: Schedule) -> Iterator[Any]:
    """AdamW, let go at the end: an accelerator keeps what it prepared, and with it moments, weights and gradients."""
    tensors = list(parameters)
    decayed = [tensor for tensor in tensors if tensor.ndim > 1]
    plain = [tensor for tensor in tensors if tensor.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    # What was computed before, such as a fit to the teacher, leaves holes of up to 2 GB.
    release_free_memory()
    try:
        yield accelerator.prepare_optimizer(torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True))
    finally:
        accelerator.free_memory()
        release_free_memory()


class _DenseGradients:
    """Sparse gradients, such as that of a batch's rows of the word table, made dense in memory that is taken once: on a
    CPU, fresh memory for a table costs as much time as a small network's passes."""

    def __init__(self, is_averaged: bool) -> None:
        # Where gradients are averaged over processes, they have more rows than this one's.
        self._is_averaged = is_averaged
        self._dense: dict[Tensor, Tensor] = {}
        self._rows: dict[Tensor, Tensor] = {}

    def fill(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            sparse = parameter.grad
            if sparse is None or not sparse.is_sparse:
                continue
            dense = self._dense.get(parameter)
            if dense is None:
                dense = self._dense[parameter] = torch.zeros_like(parameter)
            elif self._is_averaged:
                dense.zero_()
            else:
                dense.index_fill_(0, self._rows[parameter], 0)
            self._rows[parameter] = sparse._indices()[0]
            parameter.grad = dense.index_add_(0, self._rows[parameter], sparse._values())


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _average_over_processes(accelerator: Accelerator, parameters: Iterable[Tensor]) -> None:
    """One all-reduce of all gradients, after all subnets; parameters that no subnet used count as zero."""
    if accelerator.num_processes == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat: Tensor = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, averaged in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(averaged.view_as(gradient))


def _advice(gradients: Gradients, part: Batch, optimizer: Any, step: int, schedule: Schedule) -> str:
    """Which part of the batch fits, found by trying smaller ones."""
    rows, length = part["input_ids"].shape
    # The texts of a pair stay together.
    unit = 2 if "grades" in part else 1
    size = rows // 2 // unit * unit
    while size >= unit:
        optimizer.zero_grad()
        try:
            gradients({name: tensor[:size] for name, tensor in part.items()}, 1.0, Losses(), step)
            break
        except RuntimeError as error:
            if not _OUT_OF_MEMORY.search(str(error)):
                raise
        size = size // 2 // unit * unit
    if size < unit:
        least = "one text" if unit == 1 else "a pair of texts"
        return f"out of memory at step {step} even for {least} of {length} tokens; shorten data.max_length"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    accumulation = -(-schedule.batch_size // (size * world))
    return (
        f"out of memory at step {step} for {rows} texts of {length} tokens at a time; {size} fit. "
        f"Set training.accumulation to {accumulation} (the same batch in parts), or training.batch_size to "
        f"{size * world}, and run again"
    )
