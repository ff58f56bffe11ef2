"""Checkpoint -> teacher -> supernet."""

from __future__ import annotations

import copy
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from ortnas.export.build import check_size
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import DESCRIPTION_FILE, Dimensions
from ortnas.nas.architecture.presets import check_fits, preset
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.files import aside, digest
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.run import Run
from ortnas.nas.run.task_data import TaskData
from ortnas.nas.stages.checkpoint import open_run_checkpoint
from ortnas.nas.stages.courses import course, load_network, make_batches, prove_equal, recorded
from ortnas.nas.training.loss_names import choose_losses

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ortnas.nas.training.checkpoint.reading import Checkpoint
    from ortnas.nas.training.step_subnets import Costs
    from ortnas.nas.training.supernet import Supernet

_IMPORTANCE_BATCH = 8
# Keys that change neither weights nor what they were made of.
_PRESENTATION = {"checkpoint_every", "probe_every", "probe_texts"}


def train(run: Run) -> dict[str, Any]:
    """Makes ``teacher/`` and ``supernet/``, or recognises that they are made."""
    run.console.heading(
        "train: a supernet from the checkpoint",
        "The checkpoint becomes one set of weights whose slices are smaller networks; it teaches them itself.",
    )
    if run.processes > 1:
        # Processes meet before they look: the first one prepares the data for all.
        _accelerator(run)
    if not _is_trained(run, _inputs(run)):
        accelerator = _accelerator(run)
        _train(run, run.data, accelerator, _inputs(run))
        accelerator.wait_for_everyone()
        for name in ("supernet", "teacher", "target", "trained_data"):
            run.__dict__.pop(name, None)
    space = run.supernet.space
    provenance = run.supernet.provenance
    rows = [
        ("subnets", f"{space.count:.3g}"),
        ("smallest", space.smallest.describe()),
        ("largest", space.largest.describe()),
        ("trained", f"{provenance['steps']} steps, {provenance['sampling']} sampling"),
        ("losses", " + ".join(f"{weight:g} {name}" for name, weight in provenance["losses"].items())),
    ]
    run.console.table("Supernet", ("figure", "value"), rows)
    return {"subnets": space.count, "supernet": str(run.supernet_folder), **provenance}


def _accelerator(run: Run) -> Accelerator:
    from ortnas.nas.training.engine import choose_accelerator

    accelerator = choose_accelerator(run.configuration.training.mixed_precision)
    with accelerator.main_process_first():
        _ = run.data
    return accelerator


def _inputs(run: Run) -> str:
    configuration = run.configuration
    return digest(
        run.checkpoint_digest,
        run.data.digest,
        configuration.training.model_dump(exclude=_PRESENTATION),
        configuration.space.model_dump(),
        configuration.head,
        configuration.pooling,
        configuration.seed,
        configuration.data.label_names,
        run.max_length,
    )


def _is_trained(run: Run, inputs: str) -> bool:
    return {recorded(folder, "inputs") for folder in (run.supernet_folder, run.teacher_folder)} == {inputs}


def losses_under(configuration: Configuration, activation: str | None) -> dict[str, float]:
    """The losses of a training under a checkpoint's activation. Raises ConfigurationError where they do not fit it."""
    try:
        return choose_losses(configuration.head, configuration.training.losses, activation)
    except ValueError as error:
        raise ConfigurationError(f"training.losses: {error}") from None


def _train(run: Run, data: TaskData, accelerator: Accelerator, inputs: str) -> None:
    # torch and transformers take seconds to load; finished work needs neither.
    from ortnas.nas.training.engine import StateFiles
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import choose_probes, held_out_probe
    from ortnas.nas.training.step_subnets import Sampler
    from ortnas.nas.training.steps import compile_encoder, train_supernet
    from ortnas.nas.training.supernet import save_supernet

    configuration = run.configuration
    training, seed = configuration.training, configuration.seed
    metric = run.metric  # before hours are spent, whether it suits the labels
    checkpoint = open_run_checkpoint(run, data)
    dimensions = checkpoint.dimensions
    if run.max_length > dimensions.max_positions:
        raise ConfigurationError(
            f"data.max_length = {run.max_length}: the checkpoint has {dimensions.max_positions} "
            f"positions; longer texts are cut to data.max_length"
        )
    if configuration.precision == "fp32":
        # All timings are taken beside the full model.
        check_size(dimensions, dimensions.full_subnet, None)
    space = choose_space(run, dimensions)
    provenance: dict[str, Any] = {
        "checkpoint": configuration.checkpoint,
        "seed": seed,
        "splits": data.digest,
        "max_length": run.max_length,
        "activation": checkpoint.activation,
        "inputs": inputs,
    }
    main = accelerator.is_main_process
    counts = ", ".join(f"{count} {part.replace('_', ' ')}" for part, count in data.counts.items())
    run.console.say(f"texts: {counts}; no text is in two parts")
    batches = make_batches(run, data, accelerator, training.steps, training.learning_rate)
    teacher_inputs = _teacher_inputs(run, data)
    if recorded(run.teacher_folder, "teacher") == teacher_inputs:
        run.console.say("the teacher is there already")
        teacher = load_network(run.teacher_folder)
    else:
        teacher = _make_teacher(run, checkpoint, data, accelerator, teacher_inputs)
    accelerator.wait_for_everyone()
    if main:
        # The folder is complete only with its description.
        (run.teacher_folder / DESCRIPTION_FILE).unlink(missing_ok=True)
        described = provenance | {"teacher": teacher_inputs}
        save_supernet(run.teacher_folder, teacher, space, checkpoint.labels, run.tokenizer_folder, described)
        _save_outputs(run, teacher, data)
    accelerator.wait_for_everyone()

    supernet = copy.deepcopy(teacher)
    losses = losses_under(configuration, checkpoint.activation)
    objective = Objective(losses, dimensions)
    costs = _costs(run, space)
    sampler = Sampler(space, training.sampling, training.random_subnets, training.steps, seed, costs)
    run.console.say(
        f"training: {training.steps} steps, {training.sampling} sampling; "
        f"loss {' + '.join(f'{weight:g} {name}' for name, weight in losses.items())}; "
        f"taught by {'the checkpoint' if training.teacher == 'checkpoint' else 'the largest subnet'}"
    )
    states = StateFiles(run.training_folder, "supernet", inputs)
    if training.compile:
        # The teacher computes one network; subnets change with every step and would be compiled anew each time.
        compile_encoder(teacher)
    probes = choose_probes(space, seed)
    probe = held_out_probe(supernet, run.part_of(data, "search"), metric, training.probe_texts, probes)
    with course(run, "supernet", accelerator, batches, states, probe) as path:
        train_supernet(
            supernet,
            teacher if training.teacher == "checkpoint" else None,
            objective,
            sampler,
            path,
        )
    supernet.cpu()
    if main:
        provenance |= {"steps": training.steps, "losses": losses, "sampling": training.sampling}
        drawn = space.decode(space.sample(1, np.random.default_rng(seed))[0])
        prove_equal(supernet, [space.largest, space.smallest, drawn], data)
        save_supernet(run.supernet_folder, supernet, space, checkpoint.labels, run.tokenizer_folder, provenance)
        shutil.rmtree(run.training_folder, ignore_errors=True)
        run.event("train", inputs=inputs, steps=training.steps)


def _costs(run: Run, space: SearchSpace) -> Costs | None:
    """By what random subnets are balanced. Raises PredictorError where latencies are asked for and not known."""
    from ortnas.nas.training.step_subnets import multiply_adds

    balance = run.configuration.training.balance
    if balance == "latency":
        from ortnas.predictors.fitting import PredictorError, find_predictor

        predictor = find_predictor(run.predictors_folder, run.configuration.precision, run.target)
        if predictor.space != space:
            raise PredictorError("training.balance = 'latency': the predictor is of another space; fit it again first")
        return lambda genomes: predictor.predict(genomes)[0]
    return multiply_adds(space) if balance == "multiply_adds" else None


def _teacher_inputs(run: Run, data: TaskData) -> str:
    """What the teacher is made of; how the supernet is trained is no part of it."""
    training = run.configuration.training
    return digest(
        run.checkpoint_digest,
        data.digest,
        run.configuration.head,
        run.configuration.pooling,
        run.configuration.seed,
        run.configuration.data.label_names,
        run.max_length,
        training.new_head,
        training.batch_size,
        training.importance_texts,
        training.teacher_steps,
        training.teacher_learning_rate,
        training.mixed_precision,
    )


def _make_teacher(run: Run, checkpoint: Checkpoint, data: TaskData, accelerator: Accelerator, inputs: str) -> Supernet:
    """The full network, with a trained head, its units in order of importance."""
    from ortnas.nas.training.batches import to_tensors
    from ortnas.nas.training.engine import StateFiles
    from ortnas.nas.training.importance import measure_importance, reorder
    from ortnas.nas.training.steps import fine_tune
    from ortnas.nas.training.supernet import Supernet

    training, seed = run.configuration.training, run.configuration.seed
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    if not checkpoint.head_is_trained:
        run.console.say("the checkpoint has no trained head for this task: it is fine-tuned in full first")
        batches = make_batches(run, data, accelerator, training.teacher_steps, training.teacher_learning_rate)
        states = StateFiles(run.training_folder, "teacher", inputs)
        with course(run, "teacher", accelerator, batches, states, None) as path:
            fine_tune(network, path)
    network.cpu()
    run.console.say("measuring the importance of heads, neurons and channels, and putting the best first")
    sample = data.encoded("training")
    rows = list(range(min(training.importance_texts, len(sample))))
    groups = [rows[start : start + _IMPORTANCE_BATCH] for start in range(0, len(rows), _IMPORTANCE_BATCH)]
    importance = measure_importance(network, [to_tensors(sample, group) for group in groups], seed)
    return reorder(network, importance)


def choose_space(run: Run, dimensions: Dimensions) -> SearchSpace:
    """The configured preset with the configured choices in place of its own."""
    configured = run.configuration.space
    space = preset(configured.preset, dimensions)
    changes = {name: value for name, value in configured.model_dump(exclude={"preset"}).items() if value is not None}
    if changes:
        space = space.restrict(**changes)
        check_fits(space, dimensions)
    return space


def _save_outputs(run: Run, teacher: Supernet, data: TaskData) -> None:
    """The teacher's embeddings on the search and report parts: what subnets are compared with, without labels."""
    from safetensors.numpy import save_file

    from ortnas.nas.training.steps import network_outputs

    if HEADS[teacher.dimensions.head].has_labels:
        return
    full = teacher.dimensions.full_subnet
    with aside(run.teacher_folder / "outputs.safetensors") as temporary:
        save_file(
            {
                name: np.stack(network_outputs(teacher, data.held_out(name), full))
                for name in ("search", *data.report_parts)
            },
            temporary,
        )
