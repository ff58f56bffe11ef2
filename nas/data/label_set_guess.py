"""Whether the texts of a table have several labels each, and how that is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.data.columns import LABEL_COLUMNS
from ortnas.nas.data.label_sets import SEPARATOR, is_flag, split_labels
from ortnas.nas.data.rows import written_list
from ortnas.nas.data.tables import Table
from ortnas.nas.wording import listed

# Tried in this order: what separates labels least often stands in their names.
_SEPARATORS = ("|", ";", ",")
# A text of more words is no label.
_MOST_WORDS = 6


class LabelSets(NamedTuple):
    """The columns of 0 and 1, or the one column of labels, with what separates them where that is not the usual."""

    head: str
    columns: tuple[str, ...]
    separator: str | None
    reason: str


def guess_label_sets(
    table: Table, records: Sequence[Mapping[str, Any]], head: str | None, label: str | None
) -> LabelSets | None:
    """None where every text seems to have one label, or the ``head`` that is asked for takes one."""
    if head is not None and not HEADS[head].takes_label_sets:
        return None
    serving = next(name for name, row in HEADS.items() if row.takes_label_sets)
    usual = [label] if label is not None else [column for column in table.columns if column in LABEL_COLUMNS]
    for column in usual:
        values = [value for record in records if (value := record.get(column)) not in (None, "")]
        if any(isinstance(value, list) or _is_written_list(value) for value in values):
            return LabelSets(serving, (column,), None, f"column {column!r} has lists, which make it a {serving} task")
        if separator := _separator(values):
            reason = f"labels in column {column!r} are separated by {separator!r}, which makes it a {serving} task"
            return LabelSets(serving, (column,), None if separator == SEPARATOR else separator, reason)
    flags = [column for column in table.columns if records and all(is_flag(record.get(column)) for record in records)]
    if usual or len(flags) < (2 if head is None else 1):
        return None
    return LabelSets(serving, tuple(flags), None, f"columns {listed(map(repr, flags))} of 0 and 1 are taken as labels")


def _is_written_list(value: Any) -> bool:
    return isinstance(value, str) and written_list(value) is not None


def _separator(values: Sequence[Any]) -> str | None:
    """What stands between labels: all that it separates are short texts, most of which are in other rows too."""
    texts = [value for value in values if isinstance(value, str)]
    for separator in _SEPARATORS:
        together = [value for value in texts if separator in value]
        parts = Counter(part for value in texts for part in split_labels(value, separator))
        of_several = {part for value in together for part in split_labels(value, separator)}
        repeated = [part for part in of_several if parts[part] > 1]
        short = all(part and len(part.split()) <= _MOST_WORDS for part in of_several)
        if together and short and 2 * len(repeated) > len(of_several):
            return separator
    return None
