from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ortnas.nas.stages.affordable_steps import StepSeconds, count_steps
from ortnas.nas.training.batches import Batch
from ortnas.nas.training.kept_signals import KeptSignals, signal_bytes
from ortnas.nas.training.objective import Objective, Signals
from tests.nas.training.courses import make_batches, make_examples, make_network

COST = StepSeconds(reading=1.0, computing=2.0)


def kept_in(folder: Path, limit_bytes: int | None = None) -> KeptSignals:
    objective = Objective({"embedding": 1.0}, make_network().dimensions)
    examples = make_examples()
    return KeptSignals(folder, "x", objective, examples, limit_bytes or signal_bytes(objective, examples))


def random_signals(batch: Batch) -> Signals:
    return Signals(torch.randn(len(batch["input_ids"]), make_network().dimensions.embedding_size), None, None)


def test_texts_that_no_training_has_seen_cost_the_teacher_too(tmp_path: Path) -> None:
    batches = make_batches("embedding", 1)  # five an epoch
    assert [count_steps(batches, kept_in(tmp_path), COST, seconds) for seconds in (2.9, 3, 15, 16, 25)] == [
        0,
        1,
        5,
        6,
        15,
    ]
    kept = kept_in(tmp_path)
    for step in (0, 1):
        kept.signals(batches[step][0], random_signals)
    assert count_steps(batches, kept, COST, 8.0) == 4
    assert count_steps(batches, kept, COST, 11.0) == 5
    assert np.count_nonzero(kept.seen) == 16


@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_where_they_cannot_be_kept_every_step_costs_it(tmp_path: Path, seconds: float) -> None:
    batches = make_batches("embedding", 1)
    assert count_steps(batches, kept_in(tmp_path, 64), COST, seconds) == seconds // 3
    assert count_steps(batches, None, StepSeconds(3.0, 0.0), seconds) == seconds // 3
