"""Checkpoint -> teacher -> supernet."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ortnas.export.build import check_size
from ortnas.export.metrics import all_scores
from ortnas.export.vectors import stack_rows
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import DESCRIPTION_FILE
from ortnas.nas.architecture.presets import check_fits, preset
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.console import Console
from ortnas.nas.files import aside, digest
from ortnas.nas.judgements import pairs_of
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.fitting_texts import check_lengths
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.memory import check_attention
from ortnas.nas.run.plan import Steps
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.task_data import TaskData
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.checkpoint import open_run_checkpoint
from ortnas.nas.stages.courses import course, keep_signals, load_network, make_batches, prove_equal, recorded
from ortnas.nas.stages.learned import judge_teacher
from ortnas.nas.training.loss_names import choose_losses

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ortnas.nas.training.step_subnets import Costs
    from ortnas.nas.training.supernet import Supernet

_IMPORTANCE_BATCH = 8
# Keys that change neither weights nor what they were made of.
_PRESENTATION = {"checkpoint_every", "probe_every", "probe_texts", "signals_gb"}
_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
# What became of these is in the planned steps.
_PLANNED = {"minutes", "steps", "teacher_steps"}


def train(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    steps: Steps,
) -> dict[str, Any]:
    """Makes ``teacher/`` and ``supernet/``, or recognises that they are made."""
    console.heading(
        "train: a supernet from the checkpoint",
        "The checkpoint becomes one set of weights whose slices are smaller networks; it teaches them itself.",
    )
    if run_folder.processes > 1:
        # Processes meet before they look: the first one prepares the data for all.
        _accelerator(configuration, texts)
    if not is_trained(configuration, run_folder, texts, steps):
        accelerator = _accelerator(configuration, texts)
        check_lengths(configuration, texts)
        _train(
            configuration,
            console,
            run_folder,
            texts,
            run_target,
            texts.data,
            accelerator,
            steps,
            _inputs(configuration, texts, steps),
        )
        accelerator.wait_for_everyone()
    supernet = read_supernet(run_folder.supernet)
    space, provenance = supernet.space, supernet.provenance
    rows = [
        ("subnets", f"{space.count:.3g}"),
        ("smallest", space.smallest.describe()),
        ("largest", space.largest.describe()),
        ("trained", f"{provenance['steps']} steps, {provenance['sampling']} sampling"),
        ("losses", " + ".join(f"{weight:g} {name}" for name, weight in provenance["losses"].items())),
    ]
    console.table("Supernet", ("figure", "value"), rows)
    return {"subnets": space.count, "supernet": str(run_folder.supernet), **provenance}


def _accelerator(configuration: Configuration, texts: Texts) -> Accelerator:
    from ortnas.nas.training.engine import choose_accelerator

    accelerator = choose_accelerator(configuration.training.mixed_precision)
    with accelerator.main_process_first():
        _ = texts.data
    return accelerator


def _inputs(configuration: Configuration, texts: Texts, steps: Steps) -> str:
    return digest(
        texts.checkpoint_digest,
        texts.data.digest,
        configuration.training.model_dump(exclude=_PRESENTATION | _PLANNED),
        [steps.teacher, steps.supernet],
        configuration.space.trained,
        configuration.head,
        configuration.pooling,
        configuration.seed,
        configuration.data.label_names,
        texts.max_length,
    )


def is_trained(configuration: Configuration, run_folder: RunFolder, texts: Texts, steps: Steps) -> bool:
    """Whether teacher and supernet are there, trained for so many steps."""
    inputs = _inputs(configuration, texts, steps)
    return {recorded(folder, "inputs") for folder in (run_folder.supernet, run_folder.teacher)} == {inputs}


def losses_under(configuration: Configuration, activation: str | None) -> dict[str, float]:
    """The losses of a training under a checkpoint's activation. Raises ConfigurationError where they do not fit it."""
    try:
        losses = choose_losses(configuration.head, configuration.training.losses, activation)
    except ValueError as error:
        raise ConfigurationError(f"training.losses: {error}") from None
    return (
        losses if configuration.learns_pairs else {name: weight for name, weight in losses.items() if name != "pairs"}
    )


def _train(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    data: TaskData,
    accelerator: Accelerator,
    steps: Steps,
    inputs: str,
) -> None:
    # torch and transformers take seconds to load; finished work needs neither.
    from ortnas.nas.stages.ready_made import open_ready_made
    from ortnas.nas.training.engine import StateFiles
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import choose_probes, held_out_probe
    from ortnas.nas.training.step_subnets import Sampler
    from ortnas.nas.training.steps import compile_encoder, train_supernet
    from ortnas.nas.training.supernet import Supernet, save_supernet

    training, seed = configuration.training, configuration.seed
    # Before hours are spent: whether the metric suits the labels, and whether what winners will be compared with fits.
    metric = texts.text_metric
    if accelerator.is_main_process:
        open_ready_made(configuration, console, run_folder, texts)
    checkpoint = open_run_checkpoint(configuration, console, texts, data)
    dimensions = checkpoint.dimensions
    if texts.max_length > dimensions.max_positions:
        raise ConfigurationError(
            f"data.max_length = {texts.max_length}: the checkpoint has {dimensions.max_positions} "
            f"positions; longer texts are cut to data.max_length"
        )
    check_attention(dimensions, 1, texts.max_length, f"data.max_length = {texts.max_length}")
    if configuration.precision == "fp32":
        # All timings are taken beside the full model.
        check_size(dimensions, dimensions.full_subnet, None)
    space = choose_space(configuration, dimensions)
    provenance: dict[str, Any] = {
        "checkpoint": configuration.checkpoint,
        "seed": seed,
        "splits": data.digest,
        "max_length": texts.max_length,
        **checkpoint.usage,
        "vocabulary": configuration.vocabulary,
        "inputs": inputs,
    }
    main = accelerator.is_main_process
    counts = ", ".join(f"{count} {part.replace('_', ' ')}" for part, count in data.counts.items())
    console.say(f"texts: {counts}; {data.apart}")
    batches = make_batches(
        configuration,
        data,
        accelerator,
        dimensions.full_subnet,
        steps.supernet,
        training.batch_size,
        training.learning_rate,
    )
    teacher_inputs = _teacher_inputs(configuration, texts, data, steps)
    is_there = recorded(run_folder.teacher, "teacher") == teacher_inputs
    teacher = load_network(run_folder.teacher) if is_there else Supernet(checkpoint.tensors, dimensions)
    # The network has copies; two of a large checkpoint would be one too many.
    checkpoint = replace(checkpoint, tensors={})
    if is_there:
        console.say("the teacher is there already")
    else:
        is_trained = checkpoint.head_is_trained
        teacher = _make_teacher(
            configuration, console, run_folder, teacher, is_trained, data, accelerator, steps, teacher_inputs
        )
    accelerator.wait_for_everyone()
    if main:
        teacher.to(accelerator.device)
        # The folder is complete only with its description.
        (run_folder.teacher / DESCRIPTION_FILE).unlink(missing_ok=True)
        described = provenance | {"teacher": teacher_inputs}
        save_supernet(run_folder.teacher, teacher, space, checkpoint.labels, texts.tokenizer_folder, described)
        _save_outputs(run_folder, teacher, data)
        _say_judged(configuration, console, texts)
        judge_teacher(console, texts, teacher)
    accelerator.wait_for_everyone()
    if not main:
        # On another device importance may have put units that are nearly alike in another order.
        teacher = load_network(run_folder.teacher)

    supernet = copy.deepcopy(teacher)
    losses = losses_under(configuration, checkpoint.activation)
    objective = Objective(losses, dimensions)
    costs = _costs(configuration, run_folder, run_target, space)
    sampler = Sampler(space, training.sampling, training.random_subnets, steps.supernet, seed, costs)
    console.say(
        f"training: {steps.supernet} steps, {training.sampling} sampling; "
        f"loss {' + '.join(f'{weight:g} {name}' for name, weight in losses.items())}; "
        f"taught by {'the checkpoint' if training.teacher == 'checkpoint' else 'the largest subnet'}; "
        f"{_PRECISIONS[accelerator.mixed_precision]} on {accelerator.device.type}"
    )
    states = StateFiles(run_folder.training, "supernet", inputs)
    if training.compile:
        # The teacher computes one network; subnets change with every step and would be compiled anew each time.
        compile_encoder(teacher)
    probes = choose_probes(space)
    probe = held_out_probe(supernet, texts.part("search"), metric, training.probe_texts, probes)
    kept = None
    if training.teacher == "checkpoint":
        kept = keep_signals(configuration, console, run_folder, data, accelerator, objective)
    with course(
        configuration,
        console,
        run_folder,
        "supernet",
        accelerator,
        batches,
        states,
        probe,
        kept_signals=kept,
    ) as path:
        train_supernet(
            supernet,
            teacher if training.teacher == "checkpoint" else None,
            objective,
            sampler,
            path,
        )
    supernet.cpu()
    if main:
        provenance |= {"steps": steps.supernet, "losses": losses, "sampling": training.sampling}
        drawn = space.decode(space.sample(1, np.random.default_rng(seed))[0])
        prove_equal(supernet, [space.largest, space.smallest, drawn], data)
        save_supernet(run_folder.supernet, supernet, space, checkpoint.labels, texts.tokenizer_folder, provenance)
        shutil.rmtree(run_folder.training, ignore_errors=True)
        run_folder.event("train", inputs=inputs, steps=steps.supernet)


def _costs(
    configuration: Configuration, run_folder: RunFolder, run_target: RunTarget, space: SearchSpace
) -> Costs | None:
    """By what random subnets are balanced. Raises PredictorError where latencies are asked for and not known."""
    from ortnas.nas.training.step_subnets import multiply_adds

    balance = configuration.training.balance
    if balance == "latency":
        from ortnas.predictors.fitting import PredictorError, find_predictor

        target = run_target.of(read_supernet(run_folder.teacher).dimensions)
        predictor = find_predictor(run_folder.predictors, configuration.precision, target)
        if predictor.space != space:
            raise PredictorError("training.balance = 'latency': the predictor is of another space; fit it again first")
        return lambda genomes: predictor.predict(genomes)[0]
    return multiply_adds(space) if balance == "multiply_adds" else None


def _teacher_inputs(configuration: Configuration, texts: Texts, data: TaskData, steps: Steps) -> str:
    """What the teacher is made of; how the supernet is trained is no part of it."""
    training = configuration.training
    return digest(
        texts.checkpoint_digest,
        data.digest,
        configuration.head,
        configuration.pooling,
        configuration.seed,
        configuration.data.label_names,
        texts.max_length,
        training.new_head,
        training.batch_size,
        training.importance_texts,
        steps.teacher,
        training.teacher_learning_rate,
        training.mixed_precision,
    )


def _make_teacher(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    network: Supernet,
    head_is_trained: bool,
    data: TaskData,
    accelerator: Accelerator,
    steps: Steps,
    inputs: str,
) -> Supernet:
    """The full network of the checkpoint, with a trained head, its units in order of importance."""
    from ortnas.nas.training.batches import to_tensors
    from ortnas.nas.training.engine import StateFiles
    from ortnas.nas.training.importance import measure_importance, reorder
    from ortnas.nas.training.steps import fine_tune

    training, seed = configuration.training, configuration.seed
    if not head_is_trained:
        console.say("the checkpoint has no trained head for this task: it is fine-tuned in full first")
        full, rate = network.dimensions.full_subnet, training.teacher_learning_rate
        batches = make_batches(
            configuration, data, accelerator, full, steps.teacher, training.batch_size, rate, fine_tunes=True
        )
        states = StateFiles(run_folder.training, "teacher", inputs)
        with course(configuration, console, run_folder, "teacher", accelerator, batches, states, None) as path:
            fine_tune(network, path)
    console.say("measuring the importance of heads, neurons and channels, and putting the best first")
    sample = data.to_fine_tune
    rows = list(range(min(training.importance_texts, len(sample))))
    groups = [rows[start : start + _IMPORTANCE_BATCH] for start in range(0, len(rows), _IMPORTANCE_BATCH)]
    network.to(accelerator.device)
    importance = measure_importance(network, [to_tensors(sample, group) for group in groups], seed)
    return reorder(network.cpu(), importance)


def choose_space(configuration: Configuration, dimensions: Dimensions) -> SearchSpace:
    """The configured preset with the configured choices in place of its own."""
    configured = configuration.space
    space = preset(configured.preset, dimensions)
    chosen = configured.model_dump(exclude={"preset", "drop_parts", "keep_float"})
    changes = {name: value for name, value in chosen.items() if value is not None}
    if changes:
        space = space.restrict(**changes)
    if configured.drop_parts:
        space = space.of_absent_parts
    check_fits(space, dimensions)
    return space


def _save_outputs(run_folder: RunFolder, teacher: Supernet, data: TaskData) -> None:
    """The teacher's embeddings on the search and report parts, and on those of judged pairs: what subnets are compared
    with, without labels."""
    from safetensors.numpy import save_file

    from ortnas.nas.training.steps import network_outputs

    if HEADS[teacher.dimensions.head].has_labels:
        return
    full = teacher.dimensions.full_subnet
    with aside(run_folder.teacher / "outputs.safetensors") as temporary:
        save_file(
            {
                name: stack_rows(network_outputs(teacher, data.held_out(name), full))
                for name in dict.fromkeys(("search", *data.report_parts, pairs_of("search")))
                if name in data.counts
            },
            temporary,
        )


def _say_judged(configuration: Configuration, console: Console, texts: Texts) -> None:
    """The teacher's scores on the judged pairs that the search may use."""
    name = pairs_of("search")
    if (judgements := texts.data.judgements.get(name)) is None:
        return
    part = texts.part(name)
    assert part.teacher is not None
    outputs = list(part.teacher)
    if part.encoded.compared is not None:
        # What is behind a text's tokens is padding.
        outputs = [rows[: len(places)] for rows, places in zip(outputs, part.encoded.compared, strict=True)]
    scores = all_scores(configuration.head, outputs, part)
    figures = ", ".join(f"{metric.replace('_', ' ')} {score:.4f}" for metric, score in scores.items())
    console.say(f"the full model on the search part's pairs ({judgements}): {figures}")
