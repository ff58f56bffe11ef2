"""Which columns of a table make an example: those asked for, those of the task, or those with usual names."""

from __future__ import annotations

from nas.data.annotations import ANSWERS_COLUMN, CONTEXT_COLUMN, QUESTION_COLUMN, TAGS_COLUMNS, WORDS_COLUMNS
from nas.data.failures import DataError
from nas.data.rows import Columns
from nas.data.tables import Table
from nas.data.tasks import Task

_TEXTS, _LABELS = ("sentence", "text"), ("label", "gold_label", "score", "labels")
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
)


def choose_columns(
    table: Table, head: str, task: Task | None, text: str | None, pair: str | None, label: str | None
) -> Columns:
    """The columns that a head reads. Raises DataError naming what is missing and what there is."""
    choices = _usual(head)
    if task is not None:
        own = Columns(task.text) if head == "embedding" else Columns(task.text, task.pair or "", task.label)
        # Copies of a task may name their columns otherwise, but they have pairs where the task has.
        choices = [own, *(columns for columns in choices if bool(columns.pair) == bool(own.pair))]
    elif text is not None and head != "span":
        choices = [columns._replace(pair="") for columns in choices]
    asked = {"text": text, "pair": pair, "label": None if head == "embedding" else label}
    named = {name: column for name, column in asked.items() if column is not None}
    choices = [columns._replace(**named) for columns in choices]
    missing = [[name for name in columns if name and name not in table.columns] for columns in choices]
    best = min(range(len(choices)), key=lambda choice: len(missing[choice]))
    if missing[best]:
        raise DataError(
            f"{table.name}: no column {', '.join(map(repr, missing[best]))}; the columns are "
            f"{', '.join(table.columns)}. Name the right ones as data.text, data.pair and data.label"
        )
    return choices[best]


def _usual(head: str) -> list[Columns]:
    if head == "embedding":
        return [Columns(text) for text in (*_TEXTS, *(first for first, _ in _PAIRS))]
    if head == "token-classification":
        return [Columns(words, "", tags) for words in WORDS_COLUMNS for tags in TAGS_COLUMNS]
    if head == "span":
        return [Columns(QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN)]
    texts = (*_PAIRS, *((text, "") for text in _TEXTS))
    return [Columns(text, pair, label) for text, pair in texts for label in _LABELS]
