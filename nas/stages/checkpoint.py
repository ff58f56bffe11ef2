"""A run's checkpoint, its head matched with the labels of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ortnas.nas.run.run import Run
from ortnas.nas.run.task_data import TaskData

if TYPE_CHECKING:
    from ortnas.nas.training.checkpoint.reading import Checkpoint


def open_run_checkpoint(run: Run, data: TaskData) -> Checkpoint:
    """The checkpoint, with a word on everything about it that a user may not expect.

    Raises CheckpointError.
    """
    from ortnas.nas.stages.label_order import settle_order
    from ortnas.nas.training.checkpoint.reading import read_checkpoint

    configuration = run.configuration
    checkpoint = read_checkpoint(
        run.checkpoint,
        configuration.head,
        data.labels,
        configuration.seed,
        configuration.pooling,
        configuration.data.label_names,
        configuration.training.new_head,
    )
    for note in checkpoint.notes:
        run.console.say(f"warning: {note}")
    if checkpoint.order_is_open:
        checkpoint, sentence = settle_order(checkpoint, data)
        run.console.say(f"warning: {sentence}")
    return checkpoint
