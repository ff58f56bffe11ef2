"""The texts of a source, or its pairs of texts, as they are without labels."""

from __future__ import annotations

from pathlib import Path

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.data.annotations import CONTEXT_COLUMN, QUESTION_COLUMN
from ortnas.nas.data.columns import PAIRS, choose_columns
from ortnas.nas.data.guess import Asked, guess_file
from ortnas.nas.data.hub import HUB_PREFIX
from ortnas.nas.data.lines import kind_of
from ortnas.nas.data.packages import PYTHON_TEXTS
from ortnas.nas.data.pairs import OWN_PAIR_COLUMNS
from ortnas.nas.data.rows import Columns, Row, table_rows
from ortnas.nas.data.sentences import open_sentences
from ortnas.nas.data.source import DataSource, hub_training, read_source, training_file
from ortnas.nas.data.tables import TABLE_KINDS, Table, open_table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed

# The head whose texts have no labels.
PLAIN_HEAD = next(name for name, row in HEADS.items() if row.labels == "none")
# Columns of pairs, in the order in which they are tried.
_PAIRS = (*PAIRS, *OWN_PAIR_COLUMNS, (QUESTION_COLUMN, CONTEXT_COLUMN), ("query", "text"))


def plain_rows(source: DataSource, notes: list[str]) -> list[Row]:
    """The texts of a source, or its pairs of texts; of a folder or a data set, those for training. Raises DataError."""
    if source.source in PYTHON_TEXTS:
        return read_source(source, PLAIN_HEAD, notes).training
    path, own_notes = None, list[str]()
    if source.source.startswith(HUB_PREFIX):
        table = hub_training(source)
    else:
        path = Path(source.source).expanduser()
        if path.is_dir():
            path = training_file(path, PLAIN_HEAD)
        table = open_table(path, own_notes) if kind_of(path) in TABLE_KINDS else open_sentences(path)
    rows = table_rows(table, _columns(table, path, source, own_notes), PLAIN_HEAD, own_notes)
    if not rows:
        raise DataError("; ".join([f"{path or source.source}: no rows that can be used", *own_notes]))
    notes += own_notes
    return rows


def _columns(table: Table, path: Path | None, source: DataSource, notes: list[str]) -> Columns:
    if source.text is not None:
        columns = Columns(source.text, source.pair or "")
        if missing := [name for name in columns if name and name not in table.columns]:
            raise DataError(
                f"{table.name}: no column {listed(map(repr, missing))}; the columns are {listed(table.columns)}"
            )
        return columns
    fitting = [columns for columns in _PAIRS if set(columns) <= set(table.columns)]
    if fitting:
        return Columns(*fitting[0])
    text = None
    if path is not None and kind_of(path) in TABLE_KINDS:
        guess = guess_file(path, Asked(PLAIN_HEAD))
        notes += guess.assumed
        text = guess.columns.get("text")
    return choose_columns(table, PLAIN_HEAD, None, text, None, None)
