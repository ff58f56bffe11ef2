"""Which columns of a table make an example: those asked for, those of the task, or those with usual names."""

from __future__ import annotations

import re

from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.data.annotations import ANSWERS_COLUMN, CONTEXT_COLUMN, QUESTION_COLUMN, TAGS_COLUMNS, WORDS_COLUMNS
from ortnas.nas.data.rows import Columns
from ortnas.nas.data.tables import Table
from ortnas.nas.data.tasks import TASKS, Task
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed, shown

_TEXTS = ("sentence", "text")
LABEL_COLUMNS = ("label", "gold_label", "score", "labels", "target", "class", "is_duplicate", "Quality")
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("#1 String", "#2 String"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
_LABELLED = [
    Columns(text, pair, label) for text, pair in (*PAIRS, *((text, "") for text in _TEXTS)) for label in LABEL_COLUMNS
]
QUERY_COLUMNS = ("query", "question", "anchor")
# Nobody calls several labels so.
_OF_ONE_LABEL = ("gold_label", "score", "is_duplicate", "Quality")
# In the order in which they are tried, by the kind of labels.
USUAL_COLUMNS: dict[Labels, list[Columns]] = {
    "none": [Columns(text) for text in (*_TEXTS, *(first for first, _ in PAIRS))],
    "class": _LABELLED,
    "classes": [columns for columns in _LABELLED if columns.label not in _OF_ONE_LABEL],
    "number": _LABELLED,
    "grades": [
        Columns(query, passage, grade)
        for query in QUERY_COLUMNS
        for passage in ("passage", "document", "text")
        for grade in ("grade", "label", "score", "relevance")
    ],
    "tags": [Columns(words, "", tags) for words in WORDS_COLUMNS for tags in TAGS_COLUMNS],
    "answer": [Columns(QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN)],
}
# No name of a column is longer or has more words, and none is a number.
_LONGEST_NAME, _MOST_WORDS = 60, 6


def choose_columns(
    table: Table, head: str, task: Task | None, text: str | None, pair: str | None, label: str | None
) -> Columns:
    """The columns that a head reads. Raises DataError naming what is missing, or in doubt, and what there is."""
    own, usual = _choices(head, task, text, pair, label)
    if own is not None and not _missing(own, table):
        return own
    fitting = [columns for columns in usual if not _missing(columns, table)]
    if not fitting:
        every = usual if own is None else [own, *usual]
        check_header(table)
        missing = min((_missing(columns, table) for columns in every), key=len)
        raise DataError(
            f"{table.name}: no column {listed(map(shown, missing))}; the columns are {listed(table.columns)}. Name the "
            f"right ones as data.text, data.pair and data.label"
        )
    if not HEADS[head].marks_pieces:
        _check_clear(table, fitting)
    return fitting[0]


def has_columns(table: Table, head: str, text: str | None, pair: str | None, label: str | None) -> bool:
    """Whether columns with usual names, or those that are named, are there."""
    return any(not _missing(columns, table) for columns in _choices(head, None, text, pair, label)[1])


def check_header(table: Table) -> None:
    """Raises DataError where the first line of a file looks like a row and not like the names of columns."""
    if table.has_header and any(map(_is_value, table.columns)):
        raise without_header(table)


def without_header(table: Table) -> DataError:
    alike = [task.name for task in TASKS.values() if task.columns and len(task.columns) == len(table.columns)]
    hint = f", or name the task if the file is that of {listed(alike)}" if alike else ""
    return DataError(
        f"{table.name} seems to have no header: its first line reads {listed(map(shown, table.columns))}; add a line "
        f"with the names of its columns{hint}"
    )


def _is_value(name: str) -> bool:
    is_number = re.fullmatch(r"[-+]?[0-9]+([.][0-9]+)?", name) is not None
    return is_number or len(name) > _LONGEST_NAME or len(name.split()) > _MOST_WORDS


def _choices(
    head: str, task: Task | None, text: str | None, pair: str | None, label: str | None
) -> tuple[Columns | None, list[Columns]]:
    """The columns of the task, and others that may stand for them, all with those that are named put in."""
    own, choices = None, USUAL_COLUMNS[HEADS[head].labels]
    if task is not None:
        has_labels = HEADS[head].has_labels
        own = Columns(task.text, task.pair or "", task.label) if has_labels else Columns(task.text)
        # Copies of a task may name their columns otherwise, but they have pairs where the task has.
        choices = [columns for columns in choices if bool(columns.pair) == bool(own.pair)]
    elif text is not None and not HEADS[head].reads_pairs:
        choices = [columns._replace(pair="") for columns in choices]
    asked = {"text": text, "pair": pair, "label": label if HEADS[head].has_labels else None}
    named = {name: column for name, column in asked.items() if column is not None}
    distinct = dict.fromkeys(columns._replace(**named) for columns in choices)
    return None if own is None else own._replace(**named), list(distinct)


def _missing(columns: Columns, table: Table) -> list[str]:
    return [name for name in columns if name and name not in table.columns]


def _check_clear(table: Table, fitting: list[Columns]) -> None:
    """Raises DataError where several columns may be the text or the label. A pair goes before one of its texts."""
    texts = {(columns.text, columns.pair) for columns in fitting}
    in_pairs = {name for text, pair in texts if pair for name in (text, pair)}
    clear = sorted((text, pair) for text, pair in texts if pair or text not in in_pairs)
    if len(clear) > 1:
        ways = listed(" with ".join(map(repr, filter(None, names))) for names in clear)
        raise DataError(f"{table.name}: several columns may be the text ({ways}); name data.text, and data.pair if any")
    labels = sorted({columns.label for columns in fitting})
    if len(labels) > 1:
        raise DataError(
            f"{table.name}: several columns may be the label ({listed(map(repr, labels))}); name data.label"
        )
