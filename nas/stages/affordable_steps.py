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
from ortnas.nas.stages.further_training import alone_for, fake_quantization
from ortnas.nas.stages.train import losses_under

if TYPE_CHECKING:
    from ortnas.nas.training.batches import Batches
    from ortnas.nas.training.kept_signals import KeptSignals
    from ortnas.nas.training.steps import Course


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
    quantization_aware: bool = False,
) -> int:
    """How many steps each of the subnets can be trained alone, one after the other, from a few steps of each that
    nothing is kept of.

    The first of them computes the teacher's signals of the texts that no training of the run has seen.
    """
    from ortnas.nas.training.alone import train_subnet
    from ortnas.nas.training.engine import choose_accelerator
    from ortnas.nas.training.kept_signals import KeptSignals
    from ortnas.nas.training.objective import Objective

    losses = losses_under(configuration, run_models.supernet.provenance.get("activation"))
    objective = Objective(losses, run_models.supernet.dimensions)
    accelerator = choose_accelerator(configuration.training.mixed_precision)
    kept = keep_signals(configuration, console, run_folder, run_models.data, accelerator, objective)
    settings = alone_for(configuration, MEASURED_STEPS)
    data, examples = run_models.data, run_models.data.encoded("training")
    network, teacher = load_network(run_folder.supernet), load_network(run_folder.teacher)
    with tempfile.TemporaryDirectory() as folder:
        measured = None
        if kept is not None:
            measured = KeptSignals(Path(folder), "measured", objective, examples, kept.limit_bytes)

        def step_seconds(subnet: Subnet) -> float:
            quantization = fake_quantization(configuration, run_models, subnet) if quantization_aware else None

            def train(course: Course) -> None:
                train_subnet(network, subnet, teacher, objective, course, quantization)

            return mean_step_seconds(configuration, data, accelerator, subnet, settings.batch_size, train, measured)

        # Where signals are kept the first measurement computes them, for itself and for those that follow.
        first_s = step_seconds(subnets[0])
        reading = [first_s] if measured is None else [step_seconds(subnets[0])]
        reading += map(step_seconds, subnets[1:])
    cost = StepSeconds(sum(reading), max(0.0, first_s - reading[0]))
    batches = make_batches(
        configuration, data, accelerator, subnets[0], settings.steps, settings.batch_size, settings.learning_rate
    )
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
