"""Fine-tuning a ready-made checkpoint on the run's task, so that it is compared with winners that were trained too."""

from __future__ import annotations

from pathlib import Path

from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.courses import course, load_network, make_batches, pairs_to_learn, prove_equal, recorded

# What a network of other sizes and another space of vectors than its teacher can learn from.
_LOSSES = ("labels", "soft_labels", "similarity", "pairs")


def train_ready_made(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    network: SupernetFolder,
    steps: int,
) -> SupernetFolder:
    """Trains the full network for so many steps on the run's labels and its teacher's soft labels, or on its pairs and
    the teacher's similarities, in batches as winners are trained in, at the rate at which full networks are.

    Finished work is recognised, killed work goes on. Raises ConfigurationError where there is nothing of the kind, and
    TrainingError.
    """
    if not HEADS[configuration.head].has_labels and pairs_to_learn(configuration, run_models.data) is None:
        raise ConfigurationError(f"compare: with head {configuration.head!r} ready-made checkpoints are not trained")
    folder, losses = network.path.with_name(f"{network.path.name}-trained"), _losses(configuration, run_models)
    training = configuration.training
    inputs = digest(
        network.digest,
        run_models.teacher.digest,
        run_models.data.digest,
        losses,
        steps,
        training.teacher_learning_rate,
        configuration.refinement.batch_size,
        training.mixed_precision,
        configuration.seed,
    )
    if recorded(folder, "inputs") != inputs:
        _train(configuration, console, run_folder, texts, run_models, network, folder, inputs, losses, steps)
    return read_supernet(folder)


def _losses(configuration: Configuration, run_models: Models) -> dict[str, float]:
    from ortnas.nas.training.loss_names import choose_losses

    usual = choose_losses(configuration.head, None, run_models.teacher.provenance.get("activation"))
    return {name: usual[name] for name in _LOSSES if name in usual}


def _train(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    network: SupernetFolder,
    folder: Path,
    inputs: str,
    losses: dict[str, float],
    steps: int,
) -> None:
    from ortnas.nas.training.engine import StateFiles, choose_accelerator
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import held_out_probe
    from ortnas.nas.training.steps import train_supernet
    from ortnas.nas.training.supernet import save_supernet

    training, data = configuration.training, run_models.data
    name = f"ready-made-{network.path.name}"
    console.say(f"fine-tuning {network.provenance['checkpoint']} for {steps} steps, to compare the winners with it")
    accelerator = choose_accelerator(training.mixed_precision)
    rival, teacher = load_network(network.path), load_network(run_folder.teacher)
    full = rival.dimensions.full_subnet
    objective = Objective(losses, rival.dimensions)
    states = StateFiles(run_folder.training, name, inputs)
    batch_size, rate = configuration.refinement.batch_size, training.teacher_learning_rate
    batches = make_batches(configuration, data, accelerator, full, steps, batch_size, rate)
    probe = held_out_probe(rival, texts.part("search"), texts.text_metric, training.probe_texts, {"full": full})
    with course(configuration, console, run_folder, name, accelerator, batches, states, probe, ("full",)) as path:
        train_supernet(rival, teacher, objective, [[full]] * steps, path)
    rival.cpu()
    if accelerator.is_main_process:
        prove_equal(rival, [full], data)
        provenance = network.provenance | {"inputs": inputs, "head_is_trained": True, "steps": steps, "losses": losses}
        save_supernet(folder, rival, network.space, network.labels, texts.tokenizer_folder, provenance)
        states.clear()
        run_folder.event("ready-made", inputs=inputs, checkpoint=network.provenance["checkpoint"], steps=steps)
    accelerator.wait_for_everyone()
