"""A data source: which files or hub splits hold the examples of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.data.annotations import open_squad
from ortnas.nas.data.beir_groups import is_beir, open_beir_groups
from ortnas.nas.data.columns import check_header, choose_columns
from ortnas.nas.data.conll import open_conll
from ortnas.nas.data.hub import HUB_PREFIX, open_hub
from ortnas.nas.data.label_sets import SEPARATOR, joined, separated
from ortnas.nas.data.lines import check_regular, kind_of
from ortnas.nas.data.packages import PYTHON_TEXTS
from ortnas.nas.data.pairs import own_pair_columns
from ortnas.nas.data.query_groups import in_pairs, is_grouped
from ortnas.nas.data.rows import Columns, Row, table_rows
from ortnas.nas.data.sentences import open_sentences
from ortnas.nas.data.tables import TABLE_KINDS, Table, open_table
from ortnas.nas.data.tasks import Task, find_task
from ortnas.nas.failures import DataError
from ortnas.nas.text import Example
from ortnas.nas.wording import listed, shown

# Formats in which a folder may hold the files, by the kind of labels, and stems of their names, in the order in which
# they are tried.
FORMATS: dict[Labels, tuple[str, ...]] = {
    "none": ("txt", *TABLE_KINDS),
    "class": TABLE_KINDS,
    "classes": TABLE_KINDS,
    "number": TABLE_KINDS,
    "tags": ("txt", "conll", "conllu", "jsonl"),
    "answer": ("json", "jsonl"),
    "grades": ("jsonl", "tsv", "csv"),
}
_TRAIN_STEMS, _REPORT_STEMS = ("train",), ("dev", "validation", "valid")
# Of versions of SQuAD, which are different tasks: a folder with several is none of them until a task or file is named.
_SPAN_VERSIONS = ("v1.1", "v2.0")


@dataclass(frozen=True)
class DataSource:
    """Where a task's data is.

    ``source`` is a folder, a file with a sentence a line, ``python-docstrings``, ``python-packages``, or ``hub:NAME``
    or ``hub:NAME/CONFIG``; for the hub the files are names of splits. Files and columns that are None are those of the
    task, or those with usual names. ``label`` may be several columns where a text may have several labels, one column
    of 0 and 1 for each; where it is one, its texts hold labels with ``separator`` between them.
    """

    source: str
    task: str | None = None
    train_file: str | None = None
    report_file: str | None = None
    text: str | None = None
    pair: str | None = None
    label: str | tuple[str, ...] | None = None
    separator: str = SEPARATOR


class SourceRows(NamedTuple):
    """Rows for training and, by the part's name, for reports. ``labels`` are names that the data itself declares."""

    training: list[Row]
    reports: dict[str, list[Row]]
    labels: tuple[str, ...] = ()


class _Tables(NamedTuple):
    training: Table
    reports: dict[str, Table]


def read_source(source: DataSource, head: str, notes: list[str]) -> SourceRows:
    """All examples of a source. For heads without labels there are reports only where report_file names one.

    Raises DataError for files, columns and values that are missing or wrong.
    """
    served = [name for name, row in HEADS.items() if row.labels in FORMATS]
    if head not in served:
        raise DataError(f"there are no parts for the head {head!r}; heads are {', '.join(served)}")
    has_labels = HEADS[head].has_labels
    task = None if source.task is None else find_task(source.task)
    if task is not None and has_labels and head != task.head:
        raise DataError(f"task {task.name} is for the head {task.head}, not {head}")
    if source.source in PYTHON_TEXTS:
        if has_labels:
            raise DataError(f"{source.source} has no labels, and the head {head} needs them")
        return SourceRows([Row(Example(sentence)) for sentence in PYTHON_TEXTS[source.source]()], {})
    hub = source.source.startswith(HUB_PREFIX)
    tables = _hub_tables(source, head) if hub else _file_tables(source, task, head, notes)
    return _rows_of_tables(tables, source, task, head, notes)


def read_file(path: Path, source: DataSource, head: str, notes: list[str]) -> SourceRows:
    """All examples of one file as those for training; ``source`` says how it is read. Raises DataError."""
    task = None if source.task is None else find_task(source.task)
    return _rows_of_tables(_Tables(_open(path, task, head, notes), {}), source, task, head, notes)


def _rows_of_tables(tables: _Tables, source: DataSource, task: Task | None, head: str, notes: list[str]) -> SourceRows:
    if HEADS[head].ranks:
        tables = _each(tables, lambda table: in_pairs(table) if is_grouped(table.columns) else table)
    tables, label = _one_label_column(tables, source, head)
    named = (source.text, source.pair, label)
    if not HEADS[head].has_labels and (both := _both_texts(tables.training, source, task)):
        tables, named = _stacked_tables(tables, both), (None, None, None)
    columns = choose_columns(tables.training, head, task, *named)
    if HEADS[head].takes_label_sets:
        for table in tables.reports.values():
            _check_same_columns(table, tables.training, columns)
        tables = _each(tables, lambda table: separated(table, columns.label, source.separator))
    has_unanswerable = task is not None and task.has_unanswerable
    training = _rows(tables.training, columns, head, notes, has_unanswerable)
    reports = {}
    for part, table in tables.reports.items():
        if HEADS[head].marks_pieces:
            own = choose_columns(table, head, task, *named)
        else:
            _check_same_columns(table, tables.training, columns)
            own = columns
        reports[part] = _rows(table, own, head, notes, has_unanswerable)
    return SourceRows(training, reports, tables.training.label_names.get(columns.label, ()))


def _one_label_column(tables: _Tables, source: DataSource, head: str) -> tuple[_Tables, str | None]:
    """With several columns of labels as one, and its name."""
    if source.label is None or isinstance(source.label, str):
        return tables, source.label
    columns = source.label
    if not HEADS[head].takes_label_sets:
        raise DataError(f"data.label names {listed(map(shown, columns))}, and {head} has one column of labels")
    _, name = joined(tables.training, columns)
    return _each(tables, lambda table: joined(table, columns)[0]), name


def _each(tables: _Tables, change: Callable[[Table], Table]) -> _Tables:
    return _Tables(change(tables.training), {part: change(table) for part, table in tables.reports.items()})


def _both_texts(table: Table, source: DataSource, task: Task | None) -> Columns | None:
    """The columns of a table whose texts are pairs; None for others, and where one column is named."""
    if task is not None and task.judges_embeddings:
        label = source.label if isinstance(source.label, str) else None
        columns = choose_columns(table, task.head, task, source.text, source.pair, label)
        return columns._replace(label="")
    names = own_pair_columns(table) if (source.text, source.pair) == (None, None) else None
    return None if names is None else Columns(*names)


def _stacked_tables(tables: _Tables, columns: Columns) -> _Tables:
    """With the texts of both columns as one."""
    for table in tables.reports.values():
        _check_same_columns(table, tables.training, columns)
    reports = {part: _stacked(table, columns) for part, table in tables.reports.items()}
    return _Tables(_stacked(tables.training, columns), reports)


def _stacked(table: Table, columns: Columns) -> Table:
    rows = (
        (f"{place}, column {column!r},", {"text": record[column]})
        for place, record in table.rows
        for column in (columns.text, columns.pair)
    )
    return Table(table.name, ("text",), rows)


def table_of_pairs(source: DataSource) -> Table | None:
    """The table that embeddings are trained on, read anew, where its texts are pairs; None for other sources."""
    if source.source in PYTHON_TEXTS or (source.text, source.pair) != (None, None):
        return None
    if source.source.startswith(HUB_PREFIX):
        table = hub_training(source)
    else:
        training = Path(source.source).expanduser()
        if training.is_dir():
            training = _find(training, source.train_file, (), _TRAIN_STEMS, "embedding", "data.train_file")
        if kind_of(training) not in TABLE_KINDS:
            return None
        table = open_table(training, [])
    return None if own_pair_columns(table) is None else table


def _check_same_columns(table: Table, training: Table, columns: Columns) -> None:
    """Raises DataError where a dev set lacks what was learned from."""
    if missing := [name for name in columns if name and name not in table.columns]:
        check_header(table)
        raise DataError(
            f"{table.name}: no column {listed(map(shown, missing))}, which {training.name} has and is trained "
            f"with; the columns are {listed(table.columns)}"
        )


def _rows(table: Table, columns: Columns, head: str, notes: list[str], has_unanswerable: bool) -> list[Row]:
    own_notes: list[str] = []
    rows = table_rows(table, columns, head, own_notes, has_unanswerable)
    if not rows:
        raise DataError("; ".join([f"{table.name}: no rows that can be used", *own_notes]))
    notes += own_notes
    return rows


def hub_training(source: DataSource) -> Table:
    """The split of a hub data set that is learned from, labels or not. Raises DataError."""
    return _hub_tables(source, "embedding").training


def _hub_tables(source: DataSource, head: str) -> _Tables:
    splits = open_hub(source.source)
    train = source.train_file or "train"
    if source.report_file is not None:
        reports = [source.report_file]
    elif not HEADS[head].has_labels:
        reports = []
    else:
        reports = [name for name in splits if name.split("_")[0] in ("validation", "dev")] or ["test"]
    if missing := [name for name in (train, *reports) if name not in splits]:
        raise DataError(
            f"{source.source}: no split {missing[0]!r}; the splits are {listed(splits)}. "
            f"Name the right ones as data.train_file and data.report_file"
        )
    return _Tables(splits[train], {_part(position, name): splits[name] for position, name in enumerate(reports)})


def _file_tables(source: DataSource, task: Task | None, head: str, notes: list[str]) -> _Tables:
    place = Path(source.source).expanduser()
    if HEADS[head].ranks and is_beir(place):
        return _Tables(*open_beir_groups(place, notes))
    if place.is_dir():
        own = (task.train_file,) if task else ()
        training = _find(place, source.train_file, own, _TRAIN_STEMS, head, "data.train_file")
        reports = _report_files(place, source, task, head, notes)
    elif not HEADS[head].has_labels:
        training = place
        reports = {"report": place.parent / source.report_file} if source.report_file else {}
    else:
        hint = "" if HEADS[head].ranks else "; texts without labels come after it, as further entries"
        raise DataError(
            f"data.source = {source.source!r}: {head} needs a folder with a training file and a dev file{hint}"
        )
    return _Tables(
        _open(training, task, head, notes), {part: _open(path, task, head, notes) for part, path in reports.items()}
    )


def _report_files(folder: Path, source: DataSource, task: Task | None, head: str, notes: list[str]) -> dict[str, Path]:
    if not HEADS[head].has_labels and source.report_file is None:
        return {}
    own, *further = task.report_files if task else ("",)
    reports = {"report": _find(folder, source.report_file, (own,), _REPORT_STEMS, head, "data.report_file")}
    for position, name in enumerate(further if source.report_file is None else (), start=1):
        if paths := _existing(folder, (name,)):
            reports[_part(position, name)] = paths[0]
        else:
            notes.append(f"{folder} has no {name}, so that there is no {_part(position, name)} part")
    return reports


def _part(position: int, name: str) -> str:
    """``report`` for the first file or split, and ``report_mismatched`` for a further one named dev_mismatched."""
    return "report" if position == 0 else f"report_{name.partition('.')[0].partition('_')[2] or name}"


def training_file(folder: Path, head: str | None) -> Path:
    """The file that a folder is learned from; without a head in any of the formats. Raises DataError."""
    return _find(folder, None, (), _TRAIN_STEMS, head, "data.train_file")


def _find(
    folder: Path, named: str | None, own: Sequence[str], stems: Sequence[str], head: str | None, key: str
) -> Path:
    """The file that is named, or that of the task, or the only one with a usual name."""
    served = [HEADS[head].labels] if head is not None else list(FORMATS)
    kinds = dict.fromkeys(kind for labels in served for kind in FORMATS[labels])
    usual = [f"{stem}.{kind}" for kind in kinds for stem in stems]
    if "answer" in served and not any(own):
        versions = [f"{stems[0]}-{version}.json" for version in _SPAN_VERSIONS]
        present = [name for name in versions if _existing(folder, (name,))]
        if len(present) > 1 and not named:
            raise DataError(f"{folder} holds {' and '.join(present)}; name the one that is meant as {key}")
        usual[1:1] = versions
    paths = _existing(folder, (named,))[:1] if named else _existing(folder, own) or _existing(folder, usual)
    if not paths:
        expected = named or ", ".join(name for name in (*own, *usual[:3]) if name)
        raise DataError(f"{folder}: no {'such file' if named else 'file like'} {expected}; name the right one as {key}")
    if len(paths) > 1:
        names = listed(path.name for path in paths)
        raise DataError(f"{folder}: {names} may all be meant; name the right one as {key}")
    return paths[0]


def _existing(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of those names, plain or with .gz, that the folder has."""
    paths = (folder / f"{name}{suffix}" for name in names if name for suffix in ("", ".gz"))
    present = [path for path in paths if path.exists() and not path.is_dir()]
    for path in present:
        check_regular(path)
    return present


def _open(path: Path, task: Task | None, head: str, notes: list[str]) -> Table:
    kind, labels = kind_of(path), HEADS[head].labels
    if labels == "answer" and kind == "json":
        return open_squad(path)
    if labels == "tags" and kind not in ("jsonl", "csv"):
        return open_conll(path, notes)
    if labels == "none" and kind not in TABLE_KINDS:
        return open_sentences(path)
    return open_table(path, notes, task.columns if task and kind == "tsv" else None)
