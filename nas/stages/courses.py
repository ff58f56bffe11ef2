"""What the trainings of a supernet, a teacher and a subnet share."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ortnas.nas.architecture.layout import DESCRIPTION_FILE
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import digest
from ortnas.nas.judgements import Judgements
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.memory import tokens_at_a_time
from ortnas.nas.run.task_data import TaskData

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ortnas.nas.training.batches import Batches
    from ortnas.nas.training.engine import StateFiles
    from ortnas.nas.training.kept_signals import KeptSignals
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.steps import Course
    from ortnas.nas.training.supernet import Supernet

_EQUALITY = 1e-4
# Measured steps, the first of which is left out, and those that they stand for. The rate matters to nobody.
MEASURED_STEPS, _STOOD_FOR, _MEASURED_RATE = 8, 200, 1e-5
Probe = Callable[[], dict[str, float]]


def make_batches(
    configuration: Configuration,
    data: TaskData,
    accelerator: Accelerator,
    subnet: Subnet,
    steps: int,
    batch_size: int,
    learning_rate: float,
    fine_tunes: bool = False,
) -> Batches:
    """The training part in batches, this process's share of them; ``subnet`` is the largest that is trained with them.

    ``fine_tunes``: texts without labels are left out, where others have some. On a CPU batches are computed in parts
    where memory asks for it; a GPU says by itself what it has no room for.
    """
    from ortnas.nas.training.batches import Batches, Schedule

    training = configuration.training
    if batch_size < accelerator.num_processes:
        raise ConfigurationError(
            f"a batch of {batch_size}: less than one text for each of {accelerator.num_processes} processes; raise "
            f"batch_size"
        )
    seed, every = configuration.seed, training.checkpoint_every
    return Batches(
        data.to_fine_tune if fine_tunes else data.encoded("training"),
        Schedule(steps, batch_size, learning_rate, seed, every),
        data.masking,
        training.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
        None if fine_tunes else data.mixture,
        data.groups("training"),
        pairs_to_learn(configuration, data),
        tokens_at_a_time(subnet) if accelerator.device.type == "cpu" else None,
    )


def pairs_to_learn(configuration: Configuration, data: TaskData) -> Judgements | None:
    """The pairs of training texts; None where there are none, or none are to be learned from.

    Raises ConfigurationError where the losses that are configured want pairs that are not there.
    """
    if not configuration.learns_pairs:
        return None
    pairs = data.judgements.get("training")
    if configuration.training.losses is not None and pairs is None:
        raise ConfigurationError(
            "training.losses: pairs wants pairs of texts to learn from, and none are left beside those of the search "
            "and the report; name more as data.pairs, or set smaller data.search_size and data.report_size"
        )
    return pairs


def keep_signals(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    data: TaskData,
    accelerator: Accelerator,
    objective: Objective,
) -> KeptSignals | None:
    """Where the signals of the run's teacher are kept for all trainings; None where each step computes them."""
    from ortnas.nas.training.kept_signals import KeptSignals, can_be_kept, signal_bytes

    limit_gb = configuration.training.signals_gb
    if not limit_gb or not can_be_kept(objective):
        return None
    examples = data.encoded("training")
    inputs = digest(recorded(run_folder.teacher, "teacher"), data.digest, data.max_length)
    limit_bytes = int(limit_gb * 1e9) // accelerator.num_processes
    kept = KeptSignals(run_folder.signals, inputs, objective, examples, limit_bytes, accelerator.process_index)
    size_gb = signal_bytes(objective, examples) / 1e9
    if size_gb > limit_gb and not kept.kept_bytes:
        console.say(
            f"the teacher's signals of {len(examples)} texts take {size_gb:.1f} GB: {limit_gb:g} GB are kept "
            f"(training.signals_gb), the others are computed at every step"
        )
    return kept


@contextmanager
def course(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    name: str,
    accelerator: Accelerator,
    batches: Batches,
    states: StateFiles,
    probe: Probe | None,
    kinds: tuple[str, ...] = ("largest", "smallest"),
    kept_signals: KeptSignals | None = None,
) -> Iterator[Course]:
    """A training with its progress bar, its curve in ``curves/`` and its table of probes."""
    from ortnas.nas.training.log import TrainingLog
    from ortnas.nas.training.steps import Course

    training = configuration.training
    with console.progress(name) as report:
        if not accelerator.is_main_process:
            yield Course(accelerator, batches, states, lambda _step, _losses: None, kept_signals)
            return
        log = TrainingLog(
            run_folder.path / "curves" / f"{name}.jsonl",
            batches.schedule.steps,
            report,
            console.say,
            probe,
            training.probe_every,
            batches.schedule.checkpoint_every,
            states.inputs,
        )

        def after_step(step: int, losses: list[tuple[str, float]]) -> None:
            trained = len(losses) // batches.part_count(step - 1) or 1
            roles = [kinds[n % trained] if n % trained < len(kinds) else "random" for n in range(len(losses))]
            log(step, losses, roles)

        try:
            yield Course(accelerator, batches, states, after_step, kept_signals)
        finally:
            log.close()


def mean_step_seconds(
    configuration: Configuration,
    data: TaskData,
    accelerator: Accelerator,
    subnet: Subnet,
    batch_size: int,
    train: Callable[[Course], None],
    kept_signals: KeptSignals | None = None,
    fine_tunes: bool = False,
) -> float:
    """How long a step of ``train`` takes, from a few that leave no state, of batches from short to long; one of the
    longest comes first, in which memory is reserved, and is left out."""
    from ortnas.nas.training.engine import StateFiles
    from ortnas.nas.training.steps import Course

    times: list[float] = []
    batches = make_batches(
        configuration, data, accelerator, subnet, MEASURED_STEPS, batch_size, _MEASURED_RATE, fine_tunes
    )
    steps = batches.steps_by_tokens(MEASURED_STEPS - 1, _STOOD_FOR)
    batches = batches.at([steps[-1], *steps])
    with tempfile.TemporaryDirectory() as folder:
        states = StateFiles(Path(folder), "measured", "")
        train(
            Course(accelerator, batches, states, lambda _step, _losses: times.append(time.perf_counter()), kept_signals)
        )
    return (times[-1] - times[0]) / (len(times) - 1)


def load_network(folder: Path) -> Supernet:
    """The network of a supernet folder, its weights copied into memory."""
    import torch

    from ortnas.export.weights import read_supernet
    from ortnas.nas.training.supernet import Supernet

    read = read_supernet(folder)
    return Supernet(
        {name: torch.from_numpy(np.array(tensor)) for name, tensor in read.tensors.items()}, read.dimensions
    )


def prove_equal(supernet: Supernet, subnets: Sequence[Subnet], data: TaskData) -> None:
    """The numpy reference that exports are compared with must itself agree with the trained network."""
    from ortnas.export.graph.reference import reference_output
    from ortnas.nas.training.batches import to_tensors

    examples = data.held_out("calibration")
    rows = list(range(min(4, len(examples))))
    feeds, batch = examples.feeds(rows), to_tensors(examples, rows)
    tensors = {name: tensor.detach().numpy() for name, tensor in supernet.tensors.items()}
    shown = feeds["attention_mask"] == 1
    for subnet in subnets:
        expected = supernet(batch, subnet).detach().numpy()
        computed = reference_output(tensors, supernet.dimensions, subnet, feeds)
        if expected.ndim == 3:
            expected, computed = expected[shown], computed[shown]
        difference = float(np.abs(computed - expected).max()) / max(1.0, float(np.abs(expected).max()))
        if not difference <= _EQUALITY:
            raise RuntimeError(f"{subnet.describe()}: the reference and the trained network differ by {difference:.2g}")


def recorded(folder: Path, key: str) -> str | None:
    """What the provenance of a supernet folder says; None where the folder is not complete."""
    try:
        value: str = json.loads((folder / DESCRIPTION_FILE).read_text())["provenance"][key]
    except (OSError, ValueError, KeyError):
        return None
    return value
