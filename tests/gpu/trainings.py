"""Trainings on one device, for ``tests.gpu.check``: ``python -m tests.gpu.trainings FOLDER SIZE PRECISION...``.

The device is the one that accelerate picks: a GPU where CUDA_VISIBLE_DEVICES shows one. FOLDER gets ``trainings.json``
and, of the first precision, the network and what a subnet of it answers; with ``--heads`` what every head's trainings
give.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.presets import default_space
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.failures import TrainingError
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.batches import Batches, Schedule, to_tensors
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.engine import StateFiles, choose_accelerator
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.step_subnets import Sampler, multiply_adds
from ortnas.nas.training.steps import Course, train_supernet
from ortnas.nas.training.supernet import Supernet, save_supernet
from tests.nas.training.every_training import train_all
from tests.networks import write_bert

RESULT_FILE, ANSWERS_FILE, HEADS_FILE, SUPERNET = "trainings.json", "answers.npz", "heads.safetensors", "supernet"
LABELS = ("early", "late")
# Texts that answers are compared on.
COMPARED = 8


@dataclass(frozen=True)
class Size:
    """Of the network and of its training."""

    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_size: int
    batch: int
    tokens: int
    steps: int


SIZES = {
    "tiny": Size(32, 2, 4, 64, 8, 16, 24),
    "small": Size(384, 6, 12, 1536, 32, 64, 24),
    "base": Size(768, 12, 12, 3072, 32, 128, 24),
}


@dataclass(frozen=True)
class Training:
    """Mean loss of each step; the median step in ms; bytes that the device's tensors took at most, 0 on a CPU; and the
    loss scale that float16 ended with."""

    device: str
    losses: list[float]
    step_ms: float
    gpu_bytes: int
    loss_scale: float | None


def make_network(folder: Path, size: Size) -> Supernet:
    checkpoint = write_bert(
        folder / "checkpoint",
        hidden_size=size.hidden_size,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        intermediate_size=size.ffn_size,
        max_position_embeddings=512,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: row for row, label in enumerate(LABELS)},
    )
    read = read_checkpoint(str(checkpoint), "classification", LABELS)
    return Supernet(read.tensors, read.dimensions)


def make_examples(vocab_size: int, size: Size) -> EncodedExamples:
    """Texts of many lengths; those of one label have more of the first half of the tokens."""
    rng = np.random.default_rng(0)
    ids, labels = [], []
    for number in range(4 * size.batch):
        length, label = int(rng.integers(size.tokens // 2, size.tokens + 1)), number % 2
        middle = (5 + vocab_size) // 2
        is_late = rng.random(length) < (0.8 if label else 0.2)
        chosen = np.where(is_late, rng.integers(middle, vocab_size, length), rng.integers(5, middle, length))
        ids.append(chosen.tolist())
        labels.append(label)
    return EncodedExamples(ids, [[0] * len(row) for row in ids], labels)


def train(
    folder: Path,
    start: Supernet,
    space: SearchSpace,
    size: Size,
    precision: str,
    batch: int | None = None,
    **shares: int,
) -> tuple[Supernet, Training]:
    """A copy of the network, trained as a supernet with the network as its teacher, for ``size.steps`` or, with another
    ``batch``, for one step."""
    accelerator = choose_accelerator(precision)
    network, teacher = copy.deepcopy(start), copy.deepcopy(start)
    objective = Objective(choose_losses("classification", None), network.dimensions)
    steps = size.steps if batch is None else 1
    schedule = Schedule(steps, batch or size.batch, 3e-4, seed=0, checkpoint_every=10**6)
    batches = Batches(
        make_examples(network.dimensions.vocab_size, replace(size, batch=schedule.batch_size)), schedule, **shares
    )
    sampler = Sampler(space, "sandwich", 2, steps, 0, multiply_adds(space))
    losses: list[float] = []
    times = [time.perf_counter()]

    def after_step(_step: int, by_subnet: list[tuple[str, float]]) -> None:
        losses.append(statistics.mean(value for _, value in by_subnet))
        times.append(time.perf_counter())

    is_gpu = accelerator.device.type == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
    states = StateFiles(folder, f"check-{precision}-{schedule.batch_size}", "x")
    train_supernet(network, teacher, objective, sampler, Course(accelerator, batches, states, after_step))
    states.clear()
    # The last step saved a state, and in the first ones memory is reserved.
    seconds = [later - earlier for earlier, later in pairwise(times)][2:-1] or [0.0]
    gpu_bytes = torch.cuda.max_memory_allocated() if is_gpu else 0
    scale = None if accelerator.scaler is None else float(accelerator.scaler.get_scale())
    return network, Training(accelerator.device.type, losses, 1000 * statistics.median(seconds), gpu_bytes, scale)


def save_answers(folder: Path, network: Supernet, space: SearchSpace, size: Size) -> None:
    """The network, and what the device computes of one of its subnets in float32."""
    subnet = space.decode(space.sample(1, np.random.default_rng(0))[0])
    examples = make_examples(network.dimensions.vocab_size, size)
    batch = to_tensors(examples, list(range(COMPARED)))
    device = next(network.parameters()).device
    with torch.no_grad():
        answers = network({name: tensor.to(device) for name, tensor in batch.items()}, subnet).float().cpu().numpy()
    inputs = {name: batch[name].numpy() for name in ("input_ids", "attention_mask", "token_type_ids")}
    np.savez(folder / ANSWERS_FILE, answers=answers, **inputs)
    (folder / "subnet.json").write_text(json.dumps(subnet.to_json()))
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    save_supernet(folder / SUPERNET, network.cpu(), space, LABELS, tokenizer, {})


def train_heads(folder: Path) -> None:
    """Every kind of training of every head, on tiny networks."""
    device = choose_accelerator("no").device
    tensors = {
        f"{head}:{name}": tensor.cpu().contiguous()
        for head in HEADS
        for name, tensor in train_all(folder / head, device, head, {}).items()
    }
    save_file(tensors, folder / HEADS_FILE)


def exhaust_memory(folder: Path, start: Supernet, space: SearchSpace, size: Size, used_bytes: int) -> None:
    """Too large a batch for the memory that a usual one took, then in the parts that are advised. Raises
    TrainingError where there is no advice or these do not fit."""
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.3 * used_bytes / total_bytes))
    batch = 16 * size.batch
    try:
        train(folder, start, space, size, "no", batch)
    except TrainingError as error:
        advice = re.search(r"training\.accumulation to (\d+)", str(error))
        if advice is None:
            raise TrainingError(f"no advice was given: {error}") from error
    else:
        raise TrainingError(f"a batch of {batch} texts fitted where one of {size.batch} took nearly all memory")
    train(folder, start, space, size, "no", batch, accumulation=int(advice[1]))


def attempted(part: Callable[[], Any]) -> Any:
    """What the part gives, or a sentence as ``error``: one that fails leaves the others their results."""
    try:
        return part()
    except Exception as error:  # whatever a device, its driver or its library says
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("precisions", nargs="+", choices=("no", "bf16", "fp16"))
    parser.add_argument("--heads", action="store_true")
    arguments = parser.parse_args()
    folder, size = arguments.folder, SIZES[arguments.size]
    start = make_network(folder, size)
    space = default_space(start.dimensions)

    def measured(precision: str) -> dict[str, Any]:
        network, training = train(folder, start, space, size, precision)
        if precision == arguments.precisions[0]:
            save_answers(folder, network, space, size)
        return asdict(training)

    document = {precision: attempted(partial(measured, precision)) for precision in arguments.precisions}
    if arguments.heads:
        document["heads"] = attempted(lambda: train_heads(folder))
    used_bytes = document[arguments.precisions[0]].get("gpu_bytes", 0)
    if used_bytes:
        document["memory"] = attempted(lambda: exhaust_memory(folder, start, space, size, used_bytes))
    (folder / RESULT_FILE).write_text(json.dumps(document))


if __name__ == "__main__":
    main()
