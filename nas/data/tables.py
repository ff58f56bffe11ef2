"""Tables with named columns: TSV, CSV and JSON Lines."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ortnas.nas.data.left_out import note_left_out
from ortnas.nas.data.lines import kind_of, numbered_lines
from ortnas.nas.failures import DataError
from ortnas.nas.files import parse_json
from ortnas.nas.wording import listed

TABLE_KINDS = ("tsv", "csv", "jsonl")


class Table(NamedTuple):
    """Rows are read as they are asked for, each with its place in words, such as ``line 7``.

    ``label_names`` holds, by column, the names of class labels that the data itself declares. ``has_header``: the
    columns are what the first line of a file reads.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterator[tuple[str, Mapping[str, Any]]]
    label_names: Mapping[str, tuple[str, ...]] = {}
    has_header: bool = False


def open_table(path: Path, notes: list[str], columns: tuple[str, ...] | None = None) -> Table:
    """A table of a file; ``columns`` names those of a file without a header.

    TSV is read without quoting, as GLUE writes it. Rows that do not fit the header are left out with a note at the
    end of the reading. Raises DataError for a file that cannot be read and for too many such rows.
    """
    kind = kind_of(path)
    if kind == "jsonl":
        return _json_table(path, notes)
    fields = _comma_fields(path) if kind == "csv" else _tab_fields(path)
    number, header = next(fields, (0, []))
    if not header:
        raise DataError(f"{path}: the file is empty")
    names = tuple(name.strip() for name in header)
    if columns is not None and not {"sentence", "label"} <= set(names):
        return Table(
            path.name, columns, _fitting_rows(path, columns, chain([(number, header)], fields), "the task", notes)
        )
    if twice := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
        raise DataError(f"{path}: several columns are called {listed(map(repr, twice))}; give each its own name")
    return Table(path.name, names, _fitting_rows(path, names, fields, "the header", notes), has_header=True)


def _tab_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in numbered_lines(path):
        if line.strip():
            yield number, line.split("\t")


def _comma_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for _, line in numbered_lines(path)), strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None


def _fitting_rows(
    path: Path, columns: tuple[str, ...], rows: Iterator[tuple[int, list[str]]], standard: str, notes: list[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    total, ragged = 0, []
    for number, fields in rows:
        total += 1
        if len(fields) == len(columns):
            yield f"line {number}", dict(zip(columns, fields, strict=True))
        else:
            ragged.append(f"line {number} has {len(fields)} fields where {standard} has {len(columns)}")
    note_left_out(path.name, total, ragged, notes, limited=True)


def _json_table(path: Path, notes: list[str]) -> Table:
    documents = json_lines(path)
    number, first = next(documents, (0, None))
    if first is None:
        raise DataError(f"{path}: the file is empty")
    columns = tuple(first)

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield f"line {number}", first
        total, ragged = 1, []
        for place, document in documents:
            total += 1
            if missing := [name for name in columns if name not in document]:
                ragged.append(f"line {place} lacks {missing[0]!r}")
            else:
                yield f"line {place}", document
        note_left_out(path.name, total, ragged, notes, limited=True)

    return Table(path.name, columns, rows())


def json_lines(path: Path, position: Callable[[int], None] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers; ``position`` as for numbered_lines.

    Raises DataError for anything else in the file.
    """
    for number, line in numbered_lines(path, position):
        if line.strip():
            try:
                document = parse_json(line, takes_nan=True)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: no JSON: {error}") from None
            if not isinstance(document, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object, not {type(document).__name__}")
            yield number, document
