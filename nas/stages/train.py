"""Checkpoint -> teacher -> supernet."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.configuration import ConfigurationError
from nas.data import Splits
from nas.files import aside
from nas.layout import DESCRIPTION_FILE, Dimensions
from nas.presets import check_fits, preset
from nas.run import Run, digest
from nas.space import SearchSpace
from nas.text import EncodedExamples

if TYPE_CHECKING:
    from nas.checkpoint import Checkpoint
    from nas.supernet import Supernet

_IMPORTANCE_BATCH = 8
_EQUALITY = 1e-4


def train(run: Run) -> dict[str, Any]:
    """Makes ``teacher/`` and ``supernet/``, or recognises that they are made."""
    configuration = run.configuration
    run.console.heading(
        "train: a supernet from the checkpoint",
        "The checkpoint becomes one set of weights whose slices are smaller networks; it teaches them itself.",
    )
    splits = run.splits
    inputs = digest(
        _checkpoint_digest(run.checkpoint),
        splits.digest,
        configuration.training.model_dump(exclude={"checkpoint_every"}),
        configuration.space.model_dump(),
        configuration.head,
        configuration.seed,
        configuration.data.max_length,
    )
    if {_recorded_inputs(folder) for folder in (run.supernet_folder, run.teacher_folder)} != {inputs}:
        _train(run, splits, inputs)
        for name in ("supernet", "teacher", "target", "trained_splits"):
            run.__dict__.pop(name, None)
    space = run.supernet.space
    run.console.say(
        f"supernet ready: {space.count:.3g} subnets, from {space.smallest.describe()} to {space.largest.describe()}"
    )
    return {"subnets": space.count, "supernet": str(run.supernet_folder), **run.supernet.provenance}


def _train(run: Run, splits: Splits, inputs: str) -> None:
    # torch and transformers take seconds to load; finished work needs neither.
    from nas.checkpoint import read_checkpoint
    from nas.supernet import save_supernet
    from nas.training import Batches, Schedule, train_supernet

    configuration = run.configuration
    training, seed = configuration.training, configuration.seed
    checkpoint = read_checkpoint(run.checkpoint, configuration.head, splits.labels, seed)
    if configuration.data.max_length > checkpoint.dimensions.max_positions:
        raise ConfigurationError(
            f"data.max_length = {configuration.data.max_length}: "
            f"the checkpoint has {checkpoint.dimensions.max_positions} positions"
        )
    space = choose_space(run, checkpoint.dimensions)
    provenance: dict[str, Any] = {
        "checkpoint": configuration.checkpoint,
        "seed": seed,
        "splits": splits.digest,
        "max_length": configuration.data.max_length,
        "inputs": inputs,
    }

    run.console.say(
        f"{len(splits.training)} training texts, {len(splits.calibration)} for calibration, {len(splits.search)} for "
        f"the search, {len(splits.report)} for the report; no text is in two parts"
    )
    # The tokenizer's files are needed from here on; the folder is complete only with its description.
    (run.teacher_folder / DESCRIPTION_FILE).unlink(missing_ok=True)
    run.teacher_folder.mkdir(parents=True, exist_ok=True)
    checkpoint.tokenizer.save_pretrained(run.teacher_folder)
    texts = run.encoded(splits.training)
    labels = [example.label for example in splits.training if example.label is not None] or None
    teacher = _make_teacher(run, checkpoint, texts, labels, inputs)
    save_supernet(run.teacher_folder, teacher, space, splits.labels, checkpoint.tokenizer, provenance)
    _save_outputs(run, teacher, splits)

    schedule = Schedule(training.steps, training.batch_size, training.learning_rate, seed, training.checkpoint_every)
    batches = Batches(texts, labels, schedule)
    supernet = copy.deepcopy(teacher)
    run.console.say(
        f"training: {training.steps} steps; each teaches the largest, the smallest and {training.random_subnets} "
        f"random subnets to answer like the checkpoint"
    )
    state_file = run.training_folder / "supernet.safetensors"
    with run.console.progress("supernet") as report:
        train_supernet(supernet, teacher, space, batches, training.random_subnets, state_file, inputs, report)
    if training.steps:
        provenance["steps"] = training.steps
    _prove_equal(run, supernet, space)
    save_supernet(run.supernet_folder, supernet, space, splits.labels, checkpoint.tokenizer, provenance)
    shutil.rmtree(run.training_folder, ignore_errors=True)
    run.event("train", inputs=inputs, steps=training.steps)


def _make_teacher(
    run: Run, checkpoint: Checkpoint, texts: EncodedExamples, labels: list[int] | None, inputs: str
) -> Supernet:
    """The full network, with a trained head, its units in order of importance."""
    from nas.importance import measure_importance, reorder
    from nas.supernet import Supernet
    from nas.training import Batches, Schedule, fine_tune, to_tensors

    training, seed = run.configuration.training, run.configuration.seed
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    if not checkpoint.head_is_trained:
        run.console.say("the checkpoint has no trained head for this task: it is fine-tuned in full first")
        schedule = Schedule(
            training.teacher_steps, training.batch_size, training.teacher_learning_rate, seed, training.checkpoint_every
        )
        with run.console.progress("teacher") as report:
            state_file = run.training_folder / "teacher.safetensors"
            fine_tune(network, Batches(texts, labels, schedule), state_file, inputs, report)
    run.console.say("measuring the importance of heads, neurons and channels, and putting the best first")
    rows = list(range(min(training.importance_texts, len(texts))))
    groups = [rows[start : start + _IMPORTANCE_BATCH] for start in range(0, len(rows), _IMPORTANCE_BATCH)]
    importance = measure_importance(network, [to_tensors(texts, group, labels) for group in groups], seed)
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


def _save_outputs(run: Run, teacher: Supernet, splits: Splits) -> None:
    """The teacher's outputs on the search and report parts: what subnets are compared with."""
    from safetensors.torch import save_file

    from nas.training import outputs

    full = teacher.dimensions.full_subnet
    with aside(run.teacher_folder / "outputs.safetensors") as temporary:
        save_file(
            {name: outputs(teacher, run.encoded(getattr(splits, name)), full) for name in ("search", "report")},
            temporary,
        )


def _prove_equal(run: Run, supernet: Supernet, space: SearchSpace) -> None:
    """The numpy reference that exports are compared with must itself agree with the trained network."""
    from export.reference import reference_output
    from nas.training import to_tensors

    examples = run.encoded(run.splits.calibration[:4])
    rows = list(range(len(examples)))
    tensors = {name: tensor.detach().numpy() for name, tensor in supernet.tensors.items()}
    drawn = space.decode(space.sample(1, np.random.default_rng(run.configuration.seed))[0])
    for subnet in (space.largest, space.smallest, drawn):
        expected = supernet(to_tensors(examples, rows), subnet).detach().numpy()
        found = reference_output(tensors, supernet.dimensions, subnet, examples.feeds(rows))
        difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
        if not difference <= _EQUALITY:
            raise RuntimeError(f"{subnet.describe()}: the reference and the trained network differ by {difference:.2g}")


def _recorded_inputs(folder: Path) -> str | None:
    try:
        recorded: str = json.loads((folder / DESCRIPTION_FILE).read_text())["provenance"]["inputs"]
    except (OSError, ValueError, KeyError):
        return None
    return recorded


def _checkpoint_digest(name: str) -> str:
    """Content of a local checkpoint's files; a hub name stands for itself."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".bin", ".txt"):
            content.update(path.name.encode())
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    content.update(block)
    return content.hexdigest()[:16]
