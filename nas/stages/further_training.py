"""Training a subnet alone, after the search or as a candidate's fitness."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ortnas.export.build import Exporter
from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS
from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.plan import usual_steps
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.courses import (
    course,
    keep_signals,
    load_network,
    make_batches,
    prove_equal,
    recorded,
)
from ortnas.nas.stages.train import losses_under

if TYPE_CHECKING:
    from ortnas.nas.training.fake_quantization import FakeQuantization


@dataclass(frozen=True)
class Alone:
    """How a subnet is trained alone."""

    steps: int
    batch_size: int
    learning_rate: float
    quantization_aware: bool = False


def refined_folder(run_folder: RunFolder, subnet: Subnet, quantization_aware: bool) -> Path:
    return run_folder.path / "refined" / f"{subnet.key}{'-quantization-aware' * quantization_aware}"


def trained_weights(run_folder: RunFolder, subnet: Subnet) -> Path | None:
    """Where a subnet's weights lie after training alone, by itself or as a winner; None where it was not trained so.

    Those made for the quantizer's rounding are left out.
    """
    folders = [refined_folder(run_folder, subnet, False), *sorted(run_folder.path.glob(f"refined/*/{subnet.key}"))]
    for folder in folders:
        if recorded(folder, "inputs") is None:
            continue
        settings = read_supernet(folder).provenance.get("refinement", {})
        if not settings.get("quantization_aware", False):
            return folder
    return None


def _losses(configuration: Configuration, run_models: Models) -> dict[str, float]:
    return losses_under(configuration, run_models.supernet.provenance.get("activation"))


def training_identity(configuration: Configuration, run_models: Models, settings: Alone) -> list[Any]:
    """What further training depends on beside supernet and subnet, ready for JSON."""
    return [
        asdict(settings),
        _losses(configuration, run_models),
        configuration.training.mixed_precision,
        run_models.recipe.to_json() if settings.quantization_aware else None,
        configuration.seed,
    ]


def alone_for(configuration: Configuration, steps: int, quantization_aware: bool = False) -> Alone:
    """So many steps, otherwise as ``refinement`` says, or as is usual for the head."""
    settings = configuration.refinement
    learning_rate = settings.learning_rate or HEADS[configuration.head].learning_rate
    return Alone(steps, settings.batch_size, learning_rate, quantization_aware)


def configured_alone(configuration: Configuration) -> Alone:
    """For the steps that are configured or usual."""
    steps = usual_steps(configuration).refinement
    assert steps is not None
    return alone_for(configuration, steps, configuration.refinement.quantization_aware)


def fitness_settings(configuration: Configuration) -> Alone:
    """How a candidate is trained before it is scored."""
    return alone_for(configuration, configuration.search.fitness_steps)


def score_after_training(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    subnet: Subnet,
) -> float:
    """What the search ranks by, on its part, after ``search.fitness_steps`` of training this subnet alone."""
    settings = fitness_settings(configuration)
    folder = run_folder.training / f"fitness-{subnet.key}"
    try:
        inputs = digest(run_models.supernet.digest, subnet.key, *training_identity(configuration, run_models, settings))
        train_alone(
            configuration, console, run_folder, texts, run_models, subnet, run_folder.supernet, folder, inputs, settings
        )
        return score_trained(configuration, texts, run_models, read_supernet(folder), subnet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def score_trained(
    configuration: Configuration, texts: Texts, run_models: Models, trained: SupernetFolder, subnet: Subnet
) -> float:
    """What the search ranks by, of the model that would be shipped of these weights."""
    return score_by(texts.search_metric, configuration, run_models, run_models.exporter_of(trained), subnet)


def score_by(
    metric: str, configuration: Configuration, run_models: Models, exporter: Exporter, subnet: Subnet
) -> float:
    """On the search part, of the model that would be shipped."""
    part = run_models.part("search", metric)
    outputs = model_outputs(exporter.build(subnet, configuration.precision), part.encoded, configuration.head)
    return METRICS[metric](outputs, part)


def fake_quantization(configuration: Configuration, run_models: Models, subnet: Subnet) -> FakeQuantization:
    """The rounding of the model that would be shipped, with the ranges of the calibration part."""
    from ortnas.nas.training.batches import to_tensors
    from ortnas.nas.training.fake_quantization import FakeQuantization

    calibration = run_models.data.held_out("calibration")
    batches = [to_tensors(calibration, rows) for rows, _ in calibration.batches(configuration.refinement.batch_size)]
    recipe = run_models.recipe.keeping(subnet.keep_float)
    return FakeQuantization(recipe, batches, subnet, configuration.training.checkpoint_every)


def train_alone(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    subnet: Subnet,
    start: Path,
    folder: Path,
    inputs: str,
    settings: Alone,
) -> float:
    """Trains one subnet by the run's losses and teacher, from the weights of the supernet folder ``start``.

    A slice of the run's supernet is fitted to the teacher first, which is worth a hundred steps or more.
    ``folder``, which may be the same, becomes a supernet folder whose slice the subnet is. ``inputs`` names all that
    this depends on. Returns how many seconds its steps took. Raises TrainingError.
    """
    from ortnas.nas.training.alone import train_subnet
    from ortnas.nas.training.engine import StateFiles, choose_accelerator
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import held_out_probe
    from ortnas.nas.training.refitting import record_signals, refit, texts_to_fit
    from ortnas.nas.training.supernet import save_supernet

    training = configuration.training
    data = run_models.data
    accelerator = choose_accelerator(training.mixed_precision)
    network, teacher = (load_network(path).to(accelerator.device) for path in (start, run_folder.teacher))
    if start == run_folder.supernet:
        sample = texts_to_fit(data.encoded("training"), network.dimensions, configuration.seed, data.mixture)
        network = refit(network, record_signals(teacher, sample), subnet)
    quantization = fake_quantization(configuration, run_models, subnet) if settings.quantization_aware else None
    objective = Objective(_losses(configuration, run_models), network.dimensions)
    states = StateFiles(run_folder.training, "subnet", inputs)
    part = texts.part("search")
    probe = held_out_probe(network, part, texts.text_metric, training.probe_texts, {"subnet": subnet})
    batches = make_batches(
        configuration, data, accelerator, subnet, settings.steps, settings.batch_size, settings.learning_rate
    )
    with course(
        configuration,
        console,
        run_folder,
        f"subnet-{subnet.key}",
        accelerator,
        batches,
        states,
        probe,
        ("subnet",),
        keep_signals(configuration, console, run_folder, data, accelerator, objective),
    ) as path:
        started = time.perf_counter()
        train_subnet(network, subnet, teacher, objective, path, quantization)
        steps_s = time.perf_counter() - started
    network.cpu()
    if accelerator.is_main_process:
        prove_equal(network, [subnet], data)
        provenance = run_models.supernet.provenance | {
            "inputs": inputs,
            "subnet": subnet.to_json(),
            "refinement": asdict(settings),
        }
        space, labels = run_models.supernet.space, run_models.supernet.labels
        save_supernet(folder, network, space, labels, texts.tokenizer_folder, provenance)
        states.clear()
        run_folder.event("refine", inputs=inputs, subnet_key=subnet.key, steps=settings.steps)
    return steps_s
