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
    from ortnas.nas.training.checkpoint.vocabulary import prune_checkpoint

    checkpoint = read_checkpoint(
        texts.checkpoint,
        configuration.head,
        data.labels,
        configuration.seed,
        configuration.pooling,
        configuration.data.label_names,
        configuration.training.new_head,
    )
    if texts.vocabulary is not None:
        whole, checkpoint = checkpoint, prune_checkpoint(checkpoint, texts.vocabulary)
        rows, kept = whole.dimensions.vocab_size, checkpoint.dimensions.vocab_size
        before_mb, after_mb = (each.tensors["embeddings.word"].nbytes / 1e6 for each in (whole, checkpoint))
        console.say(
            f"vocabulary: {kept:,} of {rows:,} tokens are kept, the others are in no text to learn from; the word "
            f"table has {after_mb:.1f} MB in float32 in place of {before_mb:.1f}"
        )
    for note in checkpoint.notes:
        console.say(f"warning: {note}")
    if checkpoint.order_is_open:
        checkpoint, sentence = settle_order(checkpoint, data)
        console.say(f"warning: {sentence}")
    return checkpoint
