"""How many steps of training subnets alone fit into a time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.stages.courses import MEASURED_STEPS, keep_signals, load_network, make_batches, mean_step_seconds
from ortnas.nas.stages.further_training import alone_for
from ortnas.nas.stages.train import losses_under

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ortnas.nas.training.batches import Batches
    from ortnas.nas.training.kept_signals import KeptSignals
    from ortnas.nas.training.objective import Objective


@dataclass(frozen=True)
class StepSeconds:
    """Of a training step that reads the teacher's signals, and of computing those of a batch."""

    reading: float
    computing: float


def affordable_steps(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    run_models: Models,
    subnets: Sequence[Subnet],
    allowed_s: float,
) -> int:
    """How many steps each of the subnets can be trained alone, one after the other, from a few steps of each that
    nothing is kept of.

    The first of them computes the teacher's signals of the texts that no training of the run has seen.
    """
    from ortnas.nas.training.engine import choose_accelerator
    from ortnas.nas.training.objective import Objective

    losses = losses_under(configuration, run_models.supernet.provenance.get("activation"))
    objective = Objective(losses, run_models.supernet.dimensions)
    accelerator = choose_accelerator(configuration.training.mixed_precision)
    kept = keep_signals(configuration, console, run_folder, run_models.data, accelerator, objective)
    each = [_measure(configuration, run_folder, run_models, accelerator, objective, kept, subnet) for subnet in subnets]
    settings = alone_for(configuration, MEASURED_STEPS)
    data, rate = run_models.data, settings.learning_rate
    batches = make_batches(configuration, data, accelerator, subnets[0], settings.steps, settings.batch_size, rate)
    cost = StepSeconds(sum(item.reading for item in each), sum(item.computing for item in each) / len(each))
    return count_steps(batches, kept, cost, allowed_s)


def count_steps(batches: Batches, kept: KeptSignals | None, cost: StepSeconds, allowed_s: float) -> int:
    """The steps of ``cost`` that fit; texts whose signals are not kept cost what computing them does."""
    if kept is None:
        return int(allowed_s / cost.reading)
    seen, has_room = kept.seen.copy(), kept.has_room
    steps, spent_s = 0, 0.0
    while True:
        rows = batches.rows(steps)
        spent_s += cost.reading + cost.computing * float(1 - seen[rows].mean())
        if spent_s > allowed_s:
            return steps
        if has_room:
            seen[rows] = True
        steps += 1


def _measure(
    configuration: Configuration,
    run_folder: RunFolder,
    run_models: Models,
    accelerator: Accelerator,
    objective: Objective,
    kept: KeptSignals | None,
    subnet: Subnet,
) -> StepSeconds:
    from ortnas.nas.training.alone import train_subnet
    from ortnas.nas.training.kept_signals import KeptSignals
    from ortnas.nas.training.steps import Course

    network, teacher = load_network(run_folder.supernet), load_network(run_folder.teacher)
    data, batch_size = run_models.data, configuration.refinement.batch_size

    def train(course: Course) -> None:
        train_subnet(network, subnet, teacher, objective, course)

    with tempfile.TemporaryDirectory() as folder:
        measured = None
        if kept is not None:
            measured = KeptSignals(Path(folder), "measured", objective, data.encoded("training"), kept.limit_bytes)
        first_s = mean_step_seconds(configuration, data, accelerator, subnet, batch_size, train, measured)
        if measured is None:
            return StepSeconds(first_s, 0.0)
        again_s = mean_step_seconds(configuration, data, accelerator, subnet, batch_size, train, measured)
    return StepSeconds(again_s, max(0.0, first_s - again_s))
