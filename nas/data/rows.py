"""Rows of tables to examples with label names, for each head."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.data.annotations import IMPOSSIBLE_COLUMN
from ortnas.nas.data.left_out import note_left_out
from ortnas.nas.data.tables import Table
from ortnas.nas.failures import DataError
from ortnas.nas.text import Example
from ortnas.nas.wording import shown


class Row(NamedTuple):
    """An example whose label ids are still names: one for classification, those that apply for multi-label
    classification, one a word for token classification."""

    example: Example
    names: tuple[str, ...] = ()


class Columns(NamedTuple):
    """Which columns an example is made of. ``label`` holds tags for token classification and answers for spans."""

    text: str
    pair: str = ""
    label: str = ""


class _UnusableRowError(Exception):
    """Why one row is left out."""


def table_rows(
    table: Table, columns: Columns, head: str, notes: list[str], has_unanswerable: bool = False
) -> list[Row]:
    """The rows of a table as a head needs them; rows without text, label or answer are left out with a note.

    ``has_unanswerable``: a question without an answer is one that its context does not answer, also where no column
    says so. Raises DataError for values of the wrong type.
    """
    labels = HEADS[head].labels
    read = READERS[labels]
    if labels == "answer":
        read = partial(_answer_row, has_unanswerable=has_unanswerable)
    rows: list[Row] = []
    reasons: list[str] = []
    for place, record in table.rows:
        try:
            row = read(record, columns)
            _check_characters(row)
            rows.append(row)
        except _UnusableRowError as reason:
            reasons.append(f"{place} {reason}")
        except DataError as error:
            raise DataError(f"{table.name}, {place}: {error}") from None
    note_left_out(table.name, len(rows) + len(reasons), reasons, notes)
    return rows


def _check_characters(row: Row) -> None:
    """Half of a pair of surrogates, which JSON may escape, is no character that any file or model takes."""
    example = row.example
    answers = [text for _, text in example.answers or ()]
    try:
        for text in (example.text, example.pair or "", *example.words, *row.names, *answers):
            text.encode()
    except UnicodeEncodeError as error:
        raise _UnusableRowError(f"has half a character ({error.object[error.start]!a})") from None


def _plain_row(record: Mapping[str, Any], columns: Columns) -> Row:
    return Row(Example(_text(record, columns.text), _text(record, columns.pair) if columns.pair else None))


def _class_row(record: Mapping[str, Any], columns: Columns) -> Row:
    return Row(_plain_row(record, columns).example, (_label(record, columns.label),))


def _classes_row(record: Mapping[str, Any], columns: Columns) -> Row:
    """An empty list says that no label applies; nothing at all says nothing."""
    example, labels = _plain_row(record, columns).example, record[columns.label]
    if labels is None:
        raise _UnusableRowError(f"has nothing in column {columns.label!r}")
    if not isinstance(labels, list):
        raise DataError(f"column {columns.label!r} holds {shown(labels)}, and a list of labels is needed")
    return Row(example, tuple(_name(label, columns.label) for label in labels))


def _number_row(record: Mapping[str, Any], columns: Columns) -> Row:
    example, value = _plain_row(record, columns).example, _label(record, columns.label)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in value:
        raise DataError(f"{shown(value)} in column {columns.label!r} is no number, and one is needed")
    return Row(Example(example.text, example.pair, number))


def _grade_row(record: Mapping[str, Any], columns: Columns) -> Row:
    """A query and a passage; without a grade the teacher alone says how relevant it is."""
    grade = read_grade(record[columns.label], columns.label)
    return Row(Example(_text(record, columns.text), _text(record, columns.pair), grade))


def read_grade(value: Any, column: str) -> float:
    """How relevant a passage is, NaN where nobody says. Raises DataError for what is no number of at least 0."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    try:
        grade = float(value)
    except (TypeError, ValueError):
        grade = -1.0
    if not math.isfinite(grade) or grade < 0 or "_" in str(value):
        raise DataError(f"{shown(value)} in column {column!r} is no grade, which is a number of 0 or more")
    return grade


def _word_row(record: Mapping[str, Any], columns: Columns) -> Row:
    words, tags = record[columns.text], record[columns.label]
    for name, value in ((columns.text, words), (columns.label, tags)):
        if value is None:
            raise _UnusableRowError(f"has nothing in column {name!r}")
        if not isinstance(value, list):
            raise DataError(f"column {name!r} holds no list, and token classification needs one value a word")
    if len(words) != len(tags):
        raise DataError(f"{len(words)} words but {len(tags)} tags")
    if not words:
        raise _UnusableRowError("has no words")
    names = tuple(_name(tag, columns.label) for tag in tags)
    return Row(Example("", words=tuple(_word(word, columns.text) for word in words)), names)


def _word(value: Any, column: str) -> str:
    """Words may be numbers in JSON."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is None or value == "":
        raise _UnusableRowError(f"has an empty word in column {column!r}")
    if not isinstance(value, str):
        raise DataError(f"column {column!r} holds {shown(value)} among its words, and texts are needed")
    return value


def _answer_row(record: Mapping[str, Any], columns: Columns, has_unanswerable: bool = False) -> Row:
    """With the answers that are where they are said to be; with none for a question that has no answer by SQuAD 2.0."""
    # Answers count characters of the context, so that it is not stripped.
    question, context = _text(record, columns.text), record[columns.pair]
    if not isinstance(context, str):
        raise DataError(f"column {columns.pair!r} holds {shown(context)}, and text is needed")
    if not context.strip():
        raise _UnusableRowError(f"has no text in column {columns.pair!r}")
    claimed = _claimed_answers(record[columns.label], columns.label)
    for text in (question, context, *(text for _, text in claimed)):
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(f"{shown(text)} holds half of a surrogate pair, which is no character")
    if not claimed and _is_impossible(record, has_unanswerable):
        return Row(Example(question, context, answers=()))
    if claimed and _is_impossible(record, False):
        raise _UnusableRowError(f"has an answer, though {IMPOSSIBLE_COLUMN} says that there is none")
    if not claimed:
        raise _UnusableRowError("has no answer")
    answers = tuple((start, text) for start, text in claimed if text and start >= 0 and context.startswith(text, start))
    if not answers:
        start, text = claimed[0]
        raise _UnusableRowError(
            f"has an answer {shown(text)} that its context does not have at character {shown(start)}"
        )
    return Row(Example(question, context, answers=answers))


def _claimed_answers(answers: Any, column: str) -> list[tuple[int, str]]:
    """First characters and texts, each pair once."""
    try:
        starts, texts = answers["answer_start"], answers["text"]
        fits = isinstance(starts, list) and isinstance(texts, list) and len(starts) == len(texts)
    except (TypeError, KeyError):
        fits = False
    if not fits:
        raise DataError(f"column {column!r} does not hold the lists answer_start and text, one entry an answer each")
    for start, text in zip(starts, texts, strict=True):
        if type(start) is not int:
            raise DataError(f"answer_start in column {column!r} holds {shown(start)}, and a whole number is needed")
        if not isinstance(text, str):
            raise DataError(f"text in column {column!r} holds {shown(text)}, and text is needed")
    return list(dict.fromkeys(zip(starts, texts, strict=True)))


def _is_impossible(record: Mapping[str, Any], unless_said: bool) -> bool:
    value = record.get(IMPOSSIBLE_COLUMN, unless_said)
    if not isinstance(value, bool):
        raise DataError(f"{IMPOSSIBLE_COLUMN} is {shown(value)}, and true or false is needed")
    return value


def _text(record: Mapping[str, Any], column: str) -> str:
    value = record[column]
    if isinstance(value, float) and math.isnan(value):
        value = None
    if value is not None and not isinstance(value, str):
        raise DataError(f"column {column!r} holds {shown(value)}, and text is needed")
    if not value or not (text := value.strip()):
        raise _UnusableRowError(f"has no text in column {column!r}")
    return text


def _label(record: Mapping[str, Any], column: str) -> str:
    label = _name(record[column], column)
    # SNLI and MNLI write a hyphen as gold_label where their annotators did not agree.
    if column == "gold_label" and label == "-":
        raise _UnusableRowError(f"has no label in column {column!r}")
    return label


def _name(value: Any, column: str) -> str:
    """The name of a label that is a text, a number or a truth value."""
    if isinstance(value, list | dict) or (isinstance(value, str) and written_list(value) is not None):
        raise DataError(
            f"column {column!r} holds {shown(value)} as a label; write one, or use head: multi-label, which takes "
            f"several labels for one input"
        )
    if isinstance(value, float) and math.isinf(value):
        raise DataError(f"column {column!r} holds an infinite number, which is no label")
    if value is None or (isinstance(value, float) and math.isnan(value)) or not (name := str(value).strip()):
        raise _UnusableRowError(f"has no label in column {column!r}")
    return name


def written_list(text: str) -> list[Any] | None:
    """The list that a text is, as Python or JSON writes it; None for other texts."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, list) else None


READERS: dict[Labels, Callable[[Mapping[str, Any], Columns], Row]] = {
    "none": _plain_row,
    "class": _class_row,
    "classes": _classes_row,
    "number": _number_row,
    "tags": _word_row,
    "answer": _answer_row,
    "grades": _grade_row,
}
