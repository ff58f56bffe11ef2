"""Texts without labels beside those that have some: training learns what the teacher says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.data.mixture import Mixture
from ortnas.nas.data.plain_rows import plain_rows
from ortnas.nas.data.rows import Row
from ortnas.nas.data.several_sources import source_names
from ortnas.nas.data.source import DataSource
from ortnas.nas.data.splits import LEAST_TRAINING, Splits, fresh_rows
from ortnas.nas.failures import DataError
from ortnas.nas.text import Example
from ortnas.nas.wording import shown

# Kinds of labels that a text may lack; passages without a grade stand among those that have one.
LABELS_THAT_MAY_LACK: tuple[Labels, ...] = ("class", "classes", "number", "tags", "answer")


def add_unlabelled(splits: Splits, sources: Sequence[DataSource], weights: Sequence[float], head: str) -> Splits:
    """The splits of the first source with the texts of the others behind those to train, without targets.

    Texts that any part has are left out. ``weights`` are of all sources, the first included. Raises DataError for texts
    that are not of the form that the head's are, and where a source has too few others.
    """
    notes = list(splits.notes)
    names = source_names(sources)
    training = [Row(example) for example in splits.training]
    held_out = [example for name, part in splits.parts.items() if name != "training" for example in part]
    origins = [0] * len(training)
    is_pair = splits.training[0].pair is not None
    for number, (name, source) in enumerate(zip(names[1:], sources[1:], strict=True), start=1):
        rows = plain_rows(source, notes)
        _check_form(name, rows, head, is_pair)
        unlabelled = [Row(_in_words(row.example)) if HEADS[head].labels == "tags" else row for row in rows]
        earlier = len(training)
        training = fresh_rows([*training, *unlabelled], held_out)
        count = len(training) - earlier
        if removed := len(rows) - count:
            notes.append(
                f"{name}: {removed:,} of {len(rows):,} texts repeat others or are in another part, and are left out"
            )
        if count < LEAST_TRAINING:
            raise DataError(
                f"data.source: {shown(name)} has {count} texts that no other part has, and at least "
                f"{LEAST_TRAINING} are needed"
            )
        origins += [number] * count
    parts = splits.parts | {"training": [row.example for row in training]}
    mixture = Mixture(names, tuple(weights), (), tuple(origins))
    return replace(splits, parts=parts, notes=tuple(notes), mixture=mixture)


def _check_form(name: str, rows: Sequence[Row], head: str, is_pair: bool) -> None:
    if is_pair and any(row.example.pair is None for row in rows):
        raise DataError(
            f"data.source: {shown(name)} has single texts, and this task's are pairs; give a table with both, and name "
            f"their columns in the entry as text and pair where they are no usual ones"
        )
    if not is_pair and any(row.example.pair is not None for row in rows):
        raise DataError(
            f"data.source: {shown(name)} has pairs of texts, and {head} here reads single ones; name the column that "
            f"is meant in the entry as text"
        )


def _in_words(example: Example) -> Example:
    return Example("", words=tuple(example.text.split()))
