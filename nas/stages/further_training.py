"""Training a subnet alone, after the search or as a candidate's fitness."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ortnas.export.build import Exporter
from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration, Refinement
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.courses import course, load_network, make_batches, prove_equal
from ortnas.nas.stages.train import losses_under


def refined_folder(run_folder: RunFolder, subnet: Subnet, quantization_aware: bool) -> Path:
    return run_folder.path / "refined" / f"{subnet.key}{'-quantization-aware' * quantization_aware}"


def _losses(configuration: Configuration, run_models: Models) -> dict[str, float]:
    return losses_under(configuration, run_models.supernet.provenance.get("activation"))


def training_identity(configuration: Configuration, run_models: Models, settings: Refinement) -> list[Any]:
    """What further training depends on beside supernet and subnet, ready for JSON."""
    training = configuration.training
    return [
        settings.model_dump(),
        _losses(configuration, run_models),
        training.batch_size,
        training.mixed_precision,
        run_models.recipe.to_json() if settings.quantization_aware else None,
        configuration.seed,
    ]


def fitness_settings(configuration: Configuration) -> Refinement:
    """How a candidate is trained before it is scored."""
    steps = configuration.search.fitness_steps
    return configuration.refinement.model_copy(update={"steps": steps, "quantization_aware": False})


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
        _train(configuration, console, run_folder, texts, run_models, subnet, folder, inputs, settings)
        exporter = Exporter(read_supernet(folder), run_models.recipe, run_models.calibration)
        part = run_models.part("search", texts.search_metric)
        outputs = model_outputs(exporter.build(subnet, configuration.precision), part.encoded, configuration.head)
        return METRICS[texts.search_metric](outputs, part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    subnet: Subnet,
    folder: Path,
    inputs: str,
    settings: Refinement,
) -> None:
    from ortnas.nas.training.batches import to_tensors
    from ortnas.nas.training.engine import StateFiles, choose_accelerator
    from ortnas.nas.training.fake_quantization import FakeQuantization
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import held_out_probe
    from ortnas.nas.training.steps import train_supernet
    from ortnas.nas.training.supernet import save_supernet

    training = configuration.training
    data = run_models.data
    accelerator = choose_accelerator(training.mixed_precision)
    network, teacher = load_network(run_folder.supernet), load_network(run_folder.teacher)
    quantization = None
    if settings.quantization_aware:
        sample = data.held_out("calibration")
        batches = [to_tensors(sample, rows) for rows, _ in sample.batches(training.batch_size)]
        quantization = FakeQuantization(run_models.recipe, batches, subnet, training.checkpoint_every)
    objective = Objective(_losses(configuration, run_models), network.dimensions)
    states = StateFiles(run_folder.training, "subnet", inputs)
    part = texts.part("search")
    probe = held_out_probe(network, part, texts.text_metric, training.probe_texts, {"subnet": subnet})
    course_batches = make_batches(configuration, data, accelerator, settings.steps, settings.learning_rate)
    with course(
        configuration,
        console,
        run_folder,
        f"subnet-{subnet.key}",
        accelerator,
        course_batches,
        states,
        probe,
        ("subnet",),
    ) as path:
        train_supernet(network, teacher, objective, [[subnet]] * settings.steps, path, quantization)
    network.cpu()
    if accelerator.is_main_process:
        prove_equal(network, [subnet], data)
        provenance = run_models.supernet.provenance | {
            "inputs": inputs,
            "subnet": subnet.to_json(),
            "refinement": settings.model_dump(),
        }
        space, labels = run_models.supernet.space, run_models.supernet.labels
        save_supernet(folder, network, space, labels, texts.tokenizer_folder, provenance)
        states.clear()
        run_folder.event("refine", inputs=inputs, subnet_key=subnet.key, steps=settings.steps)
