"""A run's checkpoint, its head matched with the labels of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.task_data import TaskData
from ortnas.nas.run.texts import Texts

if TYPE_CHECKING:
    from ortnas.nas.training.checkpoint.reading import Checkpoint


def open_run_checkpoint(configuration: Configuration, console: Console, texts: Texts, data: TaskData) -> Checkpoint:
    """The checkpoint, with a word on everything about it that a user may not expect.

    Raises CheckpointError.
    """
    from ortnas.nas.stages.label_order import settle_order
    from ortnas.nas.training.checkpoint.reading import read_checkpoint

    checkpoint = read_checkpoint(
        texts.checkpoint,
        configuration.head,
        data.labels,
        configuration.seed,
        configuration.pooling,
        configuration.data.label_names,
        configuration.training.new_head,
    )
    for note in checkpoint.notes:
        console.say(f"warning: {note}")
    if checkpoint.order_is_open:
        checkpoint, sentence = settle_order(checkpoint, data)
        console.say(f"warning: {sentence}")
    return checkpoint
