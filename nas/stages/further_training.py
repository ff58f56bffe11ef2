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
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Refinement
from ortnas.nas.run.run import Run
from ortnas.nas.stages.courses import course, load_network, make_batches, prove_equal
from ortnas.nas.stages.train import losses_under


def refined_folder(run: Run, subnet: Subnet, quantization_aware: bool) -> Path:
    return run.folder / "refined" / f"{subnet.key}{'-quantization-aware' * quantization_aware}"


def _losses(run: Run) -> dict[str, float]:
    return losses_under(run.configuration, run.supernet.provenance.get("activation"))


def training_identity(run: Run, settings: Refinement) -> list[Any]:
    """What further training depends on beside supernet and subnet, ready for JSON."""
    training = run.configuration.training
    return [
        settings.model_dump(),
        _losses(run),
        training.batch_size,
        training.mixed_precision,
        run.recipe.to_json() if settings.quantization_aware else None,
        run.configuration.seed,
    ]


def fitness_settings(run: Run) -> Refinement:
    """How a candidate is trained before it is scored."""
    steps = run.configuration.search.fitness_steps
    return run.configuration.refinement.model_copy(update={"steps": steps, "quantization_aware": False})


def score_after_training(run: Run, subnet: Subnet) -> float:
    """What the search ranks by, on its part, after ``search.fitness_steps`` of training this subnet alone."""
    settings = fitness_settings(run)
    folder = run.training_folder / f"fitness-{subnet.key}"
    try:
        inputs = digest(run.supernet.digest, subnet.key, *training_identity(run, settings))
        _train(run, subnet, folder, inputs, settings)
        exporter = Exporter(read_supernet(folder), run.recipe, run.calibration)
        part = run.part("search")
        outputs = model_outputs(
            exporter.build(subnet, run.configuration.precision), part.encoded, run.configuration.head
        )
        return METRICS[run.search_metric](outputs, part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(run: Run, subnet: Subnet, folder: Path, inputs: str, settings: Refinement) -> None:
    from ortnas.nas.training.batches import to_tensors
    from ortnas.nas.training.engine import StateFiles, choose_accelerator
    from ortnas.nas.training.fake_quantization import FakeQuantization
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import held_out_probe
    from ortnas.nas.training.steps import train_supernet
    from ortnas.nas.training.supernet import save_supernet

    training = run.configuration.training
    data = run.trained_data
    accelerator = choose_accelerator(training.mixed_precision)
    network, teacher = load_network(run.supernet_folder), load_network(run.teacher_folder)
    quantization = None
    if settings.quantization_aware:
        sample = data.held_out("calibration")
        batches = [to_tensors(sample, rows) for rows, _ in sample.batches(training.batch_size)]
        quantization = FakeQuantization(run.recipe, batches, subnet, training.checkpoint_every)
    objective = Objective(_losses(run), network.dimensions)
    states = StateFiles(run.training_folder, "subnet", inputs)
    part = run.part_of(data, "search")
    probe = held_out_probe(network, part, run.metric, training.probe_texts, {"subnet": subnet})
    course_batches = make_batches(run, data, accelerator, settings.steps, settings.learning_rate)
    with course(run, f"subnet-{subnet.key}", accelerator, course_batches, states, probe, ("subnet",)) as path:
        train_supernet(network, teacher, objective, [[subnet]] * settings.steps, path, quantization)
    network.cpu()
    if accelerator.is_main_process:
        prove_equal(network, [subnet], data)
        provenance = run.supernet.provenance | {
            "inputs": inputs,
            "subnet": subnet.to_json(),
            "refinement": settings.model_dump(),
        }
        space, labels = run.supernet.space, run.supernet.labels
        save_supernet(folder, network, space, labels, run.tokenizer_folder, provenance)
        states.clear()
        run.event("refine", inputs=inputs, subnet_key=subnet.key, steps=settings.steps)
