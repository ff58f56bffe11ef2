"""Several labels a text, as people write them: a list, one text with separators, or one column of 0 and 1 a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ortnas.nas.data.rows import Row, written_list
from ortnas.nas.data.tables import Table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed, shown

SEPARATOR = ","
_TRUTHS = {"0": False, "1": True, "false": False, "true": True}


def joined(table: Table, columns: Sequence[str]) -> tuple[Table, str]:
    """The table with one column more, and its name: a list of the columns that hold 1 or true, which is all that the
    labels are. Raises DataError for a column that is missing, and in reading for other values than 0 and 1."""
    if missing := [name for name in columns if name not in table.columns]:
        raise DataError(
            f"{table.name}: no column {listed(map(shown, missing))}, which data.label names; the columns are "
            f"{listed(table.columns)}"
        )
    name = " ".join(columns)

    def lists(record: Mapping[str, Any]) -> list[str]:
        return [column for column in columns if _is_set(record[column], column)]

    return _with_column(table, name, lists, tuple(columns)), name


def separated(table: Table, column: str, separator: str) -> Table:
    """The table with texts of a column taken apart: at the separator, or as a list that Python or JSON wrote."""

    def lists(record: Mapping[str, Any]) -> Any:
        return split_labels(record[column], separator)

    return _with_column(table, column, lists, table.label_names.get(column, ()))


def split_labels(value: Any, separator: str) -> Any:
    """The labels of a text, blanks around them removed; anything else as it is."""
    if not isinstance(value, str):
        return value
    if (written := written_list(value)) is not None:
        return written
    return [part.strip() for part in value.split(separator)] if value.strip() else []


def is_flag(value: Any) -> bool:
    """Whether a value says yes or no, as 0 and 1 do."""
    return _plain(value) in _TRUTHS


def note_repeated(rows: Sequence[Row], notes: list[str]) -> None:
    """Says of how many rows a label is named twice."""
    if repeated := sum(len(set(row.names)) < len(row.names) for row in rows):
        notes.append(f"{repeated:,} of {len(rows):,} rows name a label more than once, which counts once")


def _with_column(
    table: Table, name: str, value_of: Callable[[Mapping[str, Any]], Any], label_names: tuple[str, ...]
) -> Table:
    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for place, record in table.rows:
            try:
                value = value_of(record)
            except DataError as error:
                raise DataError(f"{table.name}, {place}: {error}") from None
            yield place, {**record, name: value}

    columns = tuple(dict.fromkeys((*table.columns, name)))
    return table._replace(columns=columns, rows=rows(), label_names={**table.label_names, name: label_names})


def _is_set(value: Any, column: str) -> bool:
    plain = _plain(value)
    if plain not in _TRUTHS:
        raise DataError(f"column {column!r} holds {shown(value)}, which says neither 0 nor 1")
    return _TRUTHS[plain]


def _plain(value: Any) -> str:
    text = str(value).strip().lower()
    return text.removesuffix(".0")
