"""Small trainings for the tests of engine and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ortnas.nas.data.masking import Masking
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.batches import Batches, Schedule
from ortnas.nas.training.engine import StateFiles, choose_accelerator
from ortnas.nas.training.steps import Course
from ortnas.nas.training.supernet import Supernet
from tests.networks import make_dimensions, random_tensors


class KilledError(Exception):
    """Stands for a kill between two steps."""


def make_network(head: str = "embedding", seed: int = 0, **changes: Any) -> Supernet:
    dimensions = make_dimensions(head, **changes)
    tensors = {name: torch.from_numpy(value) for name, value in random_tensors(dimensions, seed).items()}
    return Supernet(tensors, dimensions)


def make_examples(head: str = "embedding", n: int = 40) -> EncodedExamples:
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 120, rng.integers(3, 12)).tolist() for _ in range(n)]
    labels: list[Any] | None = {
        "classification": [row % 3 for row in range(n)],
        "multi-label": [[place for place in range(3) if row >> place & 1] for row in range(n)],
        "reranking": [(float(row // 4), float(row % 4 == 0)) for row in range(n)],
        "regression": [float(value) for value in rng.standard_normal(n)],
        "token-classification": [rng.integers(0, 3, len(row)).tolist() for row in ids],
        "span": [(1, 2)] * n,
    }.get(head)
    return EncodedExamples(ids, [[0] * len(row) for row in ids], labels)


def make_batches(
    head: str, steps: int, learning_rate: float = 1e-3, batch_size: int = 8, texts: int = 40, **shares: Any
) -> Batches:
    schedule = Schedule(steps, batch_size, learning_rate, seed=3, checkpoint_every=4)
    masking = Masking(4, (0, 1, 2, 3, 4), 120) if head == "masked-lm" else None
    return Batches(make_examples(head, texts), schedule, masking, **shares)


def make_course(
    folder: Path,
    steps: int,
    stop: int | None = None,
    head: str = "embedding",
    name: str = "supernet",
    mixed_precision: str = "no",
    distributed: bool = False,
    steps_seen: list[int] | None = None,
    **batches: Any,
) -> Course:
    """A training that saves its state every fourth step and is killed after step ``stop``."""

    def after_step(step: int, losses: list[tuple[str, float]]) -> None:
        if steps_seen is not None:
            steps_seen.append(step)
        if step == stop:
            raise KilledError

    accelerator = choose_accelerator(mixed_precision)
    if distributed:
        batches |= {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
    return Course(accelerator, make_batches(head, steps, **batches), StateFiles(folder, name, "inputs"), after_step)
