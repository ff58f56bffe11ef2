"""Checkpoint -> teacher -> supernet."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.build import check_size
from nas.configuration import Configuration, ConfigurationError
from nas.files import aside, digest
from nas.layout import DESCRIPTION_FILE, Dimensions
from nas.presets import check_fits, preset
from nas.recipes import choose_losses
from nas.run import Run
from nas.space import SearchSpace, Subnet
from nas.stages.checkpoint import open_run_checkpoint
from nas.task_data import TaskData

if TYPE_CHECKING:
    from accelerate import Accelerator

    from nas.batches import Batches
    from nas.checkpoint import Checkpoint
    from nas.engine import StateFiles
    from nas.sampling import Costs
    from nas.supernet import Supernet
    from nas.training import Course

_IMPORTANCE_BATCH = 8
_EQUALITY = 1e-4
# Keys that change neither weights nor what they were made of.
_PRESENTATION = {"checkpoint_every", "probe_every", "probe_texts"}
Probe = Callable[[], dict[str, float]]


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
    from nas.engine import choose_accelerator

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
    from nas.engine import StateFiles
    from nas.objective import Objective
    from nas.probes import choose_probes, held_out_probe
    from nas.sampling import Sampler
    from nas.supernet import save_supernet
    from nas.training import compile_encoder, train_supernet

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


def make_batches(run: Run, data: TaskData, accelerator: Accelerator, steps: int, learning_rate: float) -> Batches:
    """The training part in batches, this process's share of them."""
    from nas.batches import Batches, Schedule

    training = run.configuration.training
    if training.batch_size < accelerator.num_processes:
        raise ConfigurationError(
            f"training.batch_size = {training.batch_size}: less than one text for each of "
            f"{accelerator.num_processes} processes"
        )
    seed, every = run.configuration.seed, training.checkpoint_every
    return Batches(
        data.encoded("training"),
        Schedule(steps, training.batch_size, learning_rate, seed, every),
        data.masking,
        training.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
    )


@contextmanager
def course(
    run: Run,
    name: str,
    accelerator: Accelerator,
    batches: Batches,
    states: StateFiles,
    probe: Probe | None,
    kinds: tuple[str, ...] = ("largest", "smallest"),
) -> Iterator[Course]:
    """A training with its progress bar, its curve in ``curves/`` and its table of probes."""
    from nas.training import Course
    from nas.training_log import TrainingLog

    training = run.configuration.training
    with run.console.progress(name) as report:
        if not accelerator.is_main_process:
            yield Course(accelerator, batches, states, lambda _step, _losses: None)
            return
        log = TrainingLog(
            run.folder / "curves" / f"{name}.jsonl",
            batches.schedule.steps,
            report,
            run.console.say,
            probe,
            training.probe_every,
            batches.schedule.checkpoint_every,
            states.inputs,
        )

        def after_step(step: int, losses: list[tuple[str, float]]) -> None:
            part = len(losses) // max(1, training.accumulation) or 1
            roles = [kinds[index % part] if index % part < len(kinds) else "random" for index in range(len(losses))]
            log(step, losses, roles)

        try:
            yield Course(accelerator, batches, states, after_step)
        finally:
            log.close()


def _costs(run: Run, space: SearchSpace) -> Costs | None:
    """By what random subnets are balanced. Raises PredictorError where latencies are asked for and not known."""
    from nas.sampling import multiply_adds

    balance = run.configuration.training.balance
    if balance == "latency":
        from predictors.latency import PredictorError, find_predictor

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
    from nas.batches import to_tensors
    from nas.engine import StateFiles
    from nas.importance import measure_importance, reorder
    from nas.supernet import Supernet
    from nas.training import fine_tune

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


def load_network(folder: Path) -> Supernet:
    """The network of a supernet folder, its weights copied into memory."""
    import torch

    from export.weights import read_supernet
    from nas.supernet import Supernet

    read = read_supernet(folder)
    return Supernet(
        {name: torch.from_numpy(np.array(tensor)) for name, tensor in read.tensors.items()}, read.dimensions
    )


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

    from nas.training import network_outputs

    if teacher.dimensions.head != "embedding":
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


def prove_equal(supernet: Supernet, subnets: Sequence[Subnet], data: TaskData) -> None:
    """The numpy reference that exports are compared with must itself agree with the trained network."""
    from export.reference import reference_output
    from nas.batches import to_tensors

    examples = data.held_out("calibration")
    rows = list(range(min(4, len(examples))))
    feeds, batch = examples.feeds(rows), to_tensors(examples, rows)
    tensors = {name: tensor.detach().numpy() for name, tensor in supernet.tensors.items()}
    shown = feeds["attention_mask"] == 1
    for subnet in subnets:
        expected = supernet(batch, subnet).detach().numpy()
        found = reference_output(tensors, supernet.dimensions, subnet, feeds)
        if expected.ndim == 3:
            expected, found = expected[shown], found[shown]
        difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
        if not difference <= _EQUALITY:
            raise RuntimeError(f"{subnet.describe()}: the reference and the trained network differ by {difference:.2g}")


def recorded(folder: Path, key: str) -> str | None:
    """What the provenance of a supernet folder says; None where the folder is not complete."""
    try:
        value: str = json.loads((folder / DESCRIPTION_FILE).read_text())["provenance"][key]
    except (OSError, ValueError, KeyError):
        return None
    return value
