"""What a new configuration says about a data source: head and columns, as the source itself tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.data.annotations import ANSWERS_COLUMN, CONTEXT_COLUMN, TAGS_COLUMNS, WORDS_COLUMNS
from ortnas.nas.data.beir_groups import is_beir
from ortnas.nas.data.columns import LABEL_COLUMNS, check_header, choose_columns, has_columns, without_header
from ortnas.nas.data.conll import is_tagged
from ortnas.nas.data.hub import HUB_PREFIX
from ortnas.nas.data.label_set_guess import LabelSets, guess_label_sets
from ortnas.nas.data.lines import kind_of
from ortnas.nas.data.packages import PYTHON_TEXTS
from ortnas.nas.data.pairs import own_pair_columns
from ortnas.nas.data.query_groups import has_candidates, is_grouped
from ortnas.nas.data.rows import Columns
from ortnas.nas.data.source import training_file
from ortnas.nas.data.tables import TABLE_KINDS, Table, open_table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed, shown

_SAMPLE_ROWS = 500
_ASK = "say which are meant by --text, --pair and --label, or name a task with --task"


class Asked(NamedTuple):
    """What is known beforehand."""

    head: str | None = None
    text: str | None = None
    pair: str | None = None
    label: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """Those that are named, by key."""
        named = {"text": self.text, "pair": self.pair, "label": self.label}
        return {key: column for key, column in named.items() if column is not None}


class Guess(NamedTuple):
    """Head, and columns and the like by key; ``assumed`` are sentences about what the source does not say itself."""

    head: str
    columns: Mapping[str, Any]
    assumed: tuple[str, ...] = ()


def guess_source(source: str, asked: Asked) -> Guess:
    """Raises DataError for an unknown head, and where a source may be read in several ways, or cannot be read."""
    if asked.head is not None and asked.head not in HEADS:
        raise DataError(f"there is no head {shown(asked.head)}; heads are {', '.join(HEADS)}")
    if source in PYTHON_TEXTS:
        return Guess(asked.head or "embedding", asked.columns)
    if source.startswith(HUB_PREFIX):
        if asked.head is None:
            raise DataError(f"--head is missing: what {source} is for is not known before it is loaded")
        return Guess(asked.head, asked.columns)
    path = Path(source).expanduser()
    if not path.exists():
        head = asked.head or "embedding"
        return Guess(head, asked.columns, (f"{source} is not there yet; head {head} is assumed",))
    if asked.head is not None and HEADS[asked.head].fills_masks:
        return Guess(asked.head, asked.columns)
    if asked.head is not None and HEADS[asked.head].ranks and is_beir(path):
        return Guess(asked.head, {}, (f"{source} has documents, queries and judgements in the layout of BEIR",))
    if path.is_dir():
        return guess_file(training_file(path, asked.head), asked)
    if asked.head is not None and HEADS[asked.head].has_labels:
        raise DataError(f"{source}: {asked.head} needs a folder with a training file and a dev file")
    guess = guess_file(path, asked._replace(head="embedding"))
    return guess if asked.head else guess._replace(assumed=(*guess.assumed, "one file: head embedding is assumed"))


def guess_file(path: Path, asked: Asked) -> Guess:
    """As ``guess_source``, of one file, also for heads with labels."""
    kind = kind_of(path)
    if kind in TABLE_KINDS:
        return _guess_table(open_table(path, []), asked)
    if kind == "json":
        return Guess(asked.head or "span", asked.columns)
    if asked.head is not None:
        return Guess(asked.head, asked.columns)
    if kind != "txt" or is_tagged(path):
        return Guess("token-classification", asked.columns, (f"{path.name} has a word a line: token-classification",))
    return Guess("embedding", asked.columns, (f"{path.name} has a text a line: head embedding is assumed",))


def _guess_table(table: Table, asked: Asked) -> Guess:
    records = [record for _, record in islice(table.rows, _SAMPLE_ROWS)]
    if not set(asked.columns.values()) & set(table.columns):
        _check_header(table, records)
    head = asked.head or _head_by_columns(table)
    if head is not None and HEADS[head].ranks:
        if is_grouped(table.columns):
            return Guess(head, {}, (f"every row is a query with its passages, which make it a {head} task",))
        columns = choose_columns(table, head, None, asked.text, asked.pair, asked.label)
        return Guess(head, {"text": columns.text, "pair": columns.pair, "label": columns.label})
    if head is not None and HEADS[head].marks_pieces:
        choose_columns(table, head, None, asked.text, asked.pair, asked.label)
        return Guess(head, asked.columns)
    if head is not None and HEADS[head].judged_metrics and not asked.columns and (own := own_pair_columns(table)):
        return Guess(
            head, {}, (f"texts are those of {own[0]!r} and {own[1]!r}, and as pairs they judge the embeddings",)
        )
    if label_sets := guess_label_sets(table, records, head, asked.label):
        return _with_label_sets(table, records, asked, label_sets)
    columns, assumed = _guess_columns(table, records, head or "classification", asked)
    if head is None:
        head = "regression" if _are_scores([record.get(columns.label) for record in records]) else "classification"
        assumed += (f"the values in column {columns.label!r} make it a {head}",)
    keys = {"text": columns.text, "pair": columns.pair, "label": columns.label}
    return Guess(head, {key: column for key, column in keys.items() if column}, assumed)


def _with_label_sets(table: Table, records: Sequence[Mapping[str, Any]], asked: Asked, label_sets: LabelSets) -> Guess:
    head = asked.head or label_sets.head
    keys: dict[str, Any] = {"label": list(label_sets.columns)}
    without = [column for column in table.columns if column not in label_sets.columns]
    stand_in = " ".join(label_sets.columns)
    if len(label_sets.columns) == 1:
        keys = {"label": stand_in} | ({"separator": label_sets.separator} if label_sets.separator else {})
    of_texts = table._replace(columns=(*without, stand_in))
    columns, assumed = _guess_columns(of_texts, records, head, asked._replace(label=stand_in))
    texts = {key: column for key, column in (("text", columns.text), ("pair", columns.pair)) if column}
    return Guess(head, texts | keys, (*assumed, label_sets.reason))


def _check_header(table: Table, records: Sequence[Mapping[str, Any]]) -> None:
    """Raises DataError where the first line is a row."""
    check_header(table)
    if not table.has_header:
        return
    for column in table.columns:
        values = {record[column] for record in records}
        if column in values and len(values) <= max(2, len(records) // 4):
            raise without_header(table)


def _head_by_columns(table: Table) -> str | None:
    names = set(table.columns)
    if names & set(WORDS_COLUMNS) and names & set(TAGS_COLUMNS):
        return "token-classification"
    if has_candidates(names):
        return next(name for name, head in HEADS.items() if head.ranks)
    return "span" if {CONTEXT_COLUMN, ANSWERS_COLUMN} <= names else None


def _guess_columns(
    table: Table, records: Sequence[Mapping[str, Any]], head: str, asked: Asked
) -> tuple[Columns, tuple[str, ...]]:
    """Those with usual names, where no other column may be meant as well; else the only ones that may be meant."""
    has_labels = HEADS[head].has_labels
    usual = has_columns(table, head, asked.text, asked.pair, asked.label)
    chosen = choose_columns(table, head, None, asked.text, asked.pair, asked.label) if usual else Columns("")
    texts = [
        column for column in table.columns if _is_text(column, records) and column not in (chosen.label, asked.label)
    ]
    if usual and (chosen.pair or asked.text or not has_labels or set(texts) <= {chosen.text}):
        others = [] if has_labels else [column for column in texts if column not in (chosen.text, chosen.pair)]
        return chosen, tuple(f"texts are those of {chosen.text!r}, not of {other!r}" for other in others)
    if missing := [column for column in asked.columns.values() if column not in table.columns]:
        raise DataError(
            f"{table.name}: no column {listed(map(repr, missing))}; the columns are {listed(table.columns)}"
        )
    labels = _label_columns(table, records, texts, asked)
    wanted = int(has_labels)
    if usual or len(texts) not in (1, 1 + wanted) or (wanted and len(labels) != 1) or asked.text or asked.pair:
        raise DataError(
            f"{table.name}: it is not clear which columns are text and label; texts may be in "
            f"{listed(map(repr, texts)) or 'none'}, labels in {listed(map(repr, labels)) or 'none'}, of the columns "
            f"{listed(table.columns)}; {_ASK}"
        )
    columns = (
        Columns(texts[0], texts[1], labels[0]) if wanted and texts[1:] else Columns(texts[0], "", *labels[:wanted])
    )
    taken = [f"{key} is taken from column {name!r}" for key, name in zip(columns._fields, columns, strict=True) if name]
    return columns, (", ".join(taken),)


def _label_columns(table: Table, records: Sequence[Mapping[str, Any]], texts: Sequence[str], asked: Asked) -> list[str]:
    """Columns that may hold the labels: the one asked for, those with usual names, or all whose values repeat."""
    if asked.label is not None:
        return [asked.label]
    if usual := [column for column in table.columns if column in LABEL_COLUMNS]:
        return usual
    others = [column for column in table.columns if column not in texts]
    return [column for column in others if len({shown(record.get(column)) for record in records}) <= len(records) // 2]


def _is_text(column: str, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether most values have several words."""
    values = [value for record in records if (value := record.get(column)) not in (None, "")]
    texts = [value for value in values if isinstance(value, str) and len(value.split()) > 1]
    return len(texts) * 2 > len(values)


def _are_scores(values: Sequence[Any]) -> bool:
    """Whether all are numbers, and some not whole."""
    try:
        numbers = [float(value) for value in values if value not in (None, "") and not isinstance(value, bool)]
    except (TypeError, ValueError):
        return False
    return any(not number.is_integer() for number in numbers)
