"""Which row of a trained classifier is which of the task's labels: by name, by number, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import is_generic
from ortnas.nas.wording import listed, shown

_NUMBER = re.compile(r"(?:LABEL_)?(\d+)(?:\.0+)?", re.IGNORECASE)


@dataclass(frozen=True)
class LabelRows:
    """``rows`` holds each label's row, in the order of the labels; None where there is no telling from names alone.

    ``names`` are the labels' names in the network that is made: the checkpoint's own where it has some.
    """

    rows: tuple[int, ...] | None
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def match_labels(
    checkpoint: str, own: tuple[str, ...], labels: Sequence[str], label_names: Mapping[str, str]
) -> LabelRows | None:
    """``own`` are the checkpoint's names by row; ``label_names`` says of labels of the data which of those they are.

    None where the checkpoint's classifier is for something else, by how many labels it knows. Raises CheckpointError
    where it may be for these labels and names do not tell how.
    """
    if unknown := [label for label in label_names if label not in labels]:
        raise CheckpointError(
            f"data.label_names names {shown(unknown)}, which the data does not have; its labels are "
            f"{shown(list(labels))}"
        )
    wanted = [label_names.get(label, label) for label in labels]
    rows = _by_name(own, wanted) or _by_number(own, wanted, bool(label_names))
    if rows is not None:
        return LabelRows(rows, _names(own, labels, rows), _notes(own, labels, rows))
    if label_names:
        raise CheckpointError(
            f"checkpoint {checkpoint}: data.label_names leaves open which label is which: the checkpoint has "
            f"{shown(list(own))}, the data's labels stand for {shown(wanted)}"
        )
    if is_generic(own):
        return LabelRows(None, tuple(labels)) if len(own) >= len(labels) else None
    shared = {_plain(name) for name in own} & {_plain(label) for label in labels}
    are_rows = all((value := number(label)) is not None and value < len(own) for label in labels)
    if len(own) != len(labels) and not shared and not are_rows:
        return None
    missing = [label for label in labels if _plain(label) not in {_plain(name) for name in own}] or list(labels)
    raise CheckpointError(
        f"checkpoint {checkpoint}: its labels are {shown(list(own))}, the data's are {shown(list(labels))}; "
        f"say which is which as data.label_names: {{{_quoted(missing[0])}: {own[0]}, ...}}, or train a new head with "
        f"training.new_head: true"
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _by_name(own: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Equal names, or equal ones but for case, blanks, underscores and hyphens."""
    for form in (str, _plain):
        by_name = {form(name): row for row, name in enumerate(own)}
        rows = tuple(by_name.get(form(label), -1) for label in wanted)
        if len(by_name) == len(own) and -1 not in rows and len(set(rows)) == len(rows):
            return rows
    return None


def _by_number(own: tuple[str, ...], wanted: Sequence[str], is_said: bool) -> tuple[int, ...] | None:
    """Numbers 0 to n-1, each once, are the rows' own; ``LABEL_n``, ``n`` and ``n.0`` are one number.

    Fewer numbers than rows are taken only where a user says so: 1 to 4 may be four of the five rows 0 to 4, or the
    first four of stars that begin at 1.
    """
    numbers = [number(label) for label in wanted]
    if any(value is None for value in numbers):
        return None
    stated = [number(name) for name in own]
    # Names that are numbers themselves, such as 1 to 5, say what their rows stand for.
    of_rows = range(len(own)) if any(value is None for value in stated) else stated
    by_number = {value: row for row, value in enumerate(of_rows)}
    rows = tuple(by_number.get(value, -1) for value in numbers)
    is_whole = is_said or len(rows) == len(own)
    return rows if is_whole and -1 not in rows and len(set(rows)) == len(rows) else None


def number(label: str) -> int | None:
    """The number that a label stands for: of ``3``, ``3.0`` and ``LABEL_3`` 3, else None."""
    match = _NUMBER.fullmatch(label.strip())
    return int(match[1]) if match else None


def _names(own: tuple[str, ...], labels: Sequence[str], rows: Sequence[int]) -> tuple[str, ...]:
    is_numbered = all(number(name) is not None for name in own)
    return tuple(labels) if is_numbered else tuple(own[row] for row in rows)


def _notes(own: tuple[str, ...], labels: Sequence[str], rows: Sequence[int]) -> tuple[str, ...]:
    notes = []
    renamed = [f"{label} is {own[row]}" for label, row in zip(labels, rows, strict=True) if label != own[row]]
    if renamed and any(number(name) is None for name in own):
        notes.append(f"labels of the data and of the checkpoint's head: {listed(renamed)}")
    if dropped := [name for row, name in enumerate(own) if row not in rows]:
        notes.append(f"labels of the checkpoint's head that the data lacks are dropped: {listed(dropped)}")
    return tuple(notes)


def _quoted(label: str) -> str:
    return f'"{label}"' if number(label) is not None else label
