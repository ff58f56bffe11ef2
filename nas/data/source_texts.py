"""The texts of a source for a network that is as it will be: to calibrate on and to score on, with labels or without.

No parts for training are cut, so that a few texts, one file of them, and texts without labels will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.data.columns import USUAL_COLUMNS
from ortnas.nas.data.conll import is_tagged
from ortnas.nas.data.guess import Asked, guess_file
from ortnas.nas.data.hub import HUB_PREFIX
from ortnas.nas.data.judged_pairs import judged_parts
from ortnas.nas.data.lines import kind_of
from ortnas.nas.data.packages import PYTHON_TEXTS
from ortnas.nas.data.plain_rows import PLAIN_HEAD, plain_rows
from ortnas.nas.data.query_groups import by_query, is_judged, number_queries, usable
from ortnas.nas.data.rows import Row
from ortnas.nas.data.source import FORMATS, DataSource, SourceRows, read_file, read_source
from ortnas.nas.data.splits import Sizes, fresh_rows
from ortnas.nas.data.stand_in_texts import STAND_IN_TEXTS
from ortnas.nas.data.tables import TABLE_KINDS
from ortnas.nas.failures import DataError
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import Example

# With fewer texts than this for each of the two uses, both take all of them.
_LEAST_APART = 16
# To each of the texts of our own that stands for a query.
_PASSAGES = 4


class SourceTexts(NamedTuple):
    """Rows of which names are the data's own labels. Where they are not ``are_labelled``, examples have empty targets.

    ``are_shared``: both are the same texts. ``judgements`` are of the ``scored`` texts, where those are judged pairs.
    ``declared`` are label names that the data itself lists.
    """

    calibration: list[Row]
    scored: list[Row]
    are_labelled: bool
    are_shared: bool = False
    declared: tuple[str, ...] = ()
    judgements: Judgements | None = None


def read_source_texts(source: DataSource, head: str, sizes: Sizes, seed: int, notes: list[str]) -> SourceTexts:
    """At most ``sizes.calibration`` and ``sizes.report`` texts of a source, disjoint where there are enough of them.

    A folder or a hub data set has labels where the head has; one file may lack them. Raises DataError.
    """
    row = HEADS[head]
    if not row.has_labels or row.fills_masks:
        return _without_labels(source, head, sizes, seed, notes)
    path = Path(source.source).expanduser()
    if path.is_dir() or source.source.startswith(HUB_PREFIX):
        training, reports, declared = read_source(source, head, notes)
        scored = reports.get("report", [])
        if row.ranks:
            return _cut_queries(training, scored, sizes, seed, notes)
        fresh = fresh_rows(training, [report.example for report in scored])
        rng = np.random.default_rng(seed)
        calibration, scored = (
            [rows[place] for place in rng.permutation(len(rows))[:size]]
            for rows, size in ((fresh or training, sizes.calibration), (scored, sizes.report))
        )
        return SourceTexts(calibration, scored, are_labelled=True, declared=declared)
    if source.source in PYTHON_TEXTS:
        return _cut(_unlabelled(plain_rows(source, notes), head, source.source), False, sizes, seed)
    labelled = _labelled_rows(path, source, head, notes)
    if row.ranks:
        plain = labelled.training if labelled else _unlabelled(plain_rows(source, notes), head, path.name)
        return _cut_queries(plain, [], sizes, seed, notes)
    if labelled is not None:
        return _cut(labelled.training, True, sizes, seed)._replace(declared=labelled.labels)
    return _cut(_unlabelled(plain_rows(source, notes), head, path.name), False, sizes, seed)


def with_columns(source: DataSource, columns: Mapping[str, Any]) -> DataSource:
    """The source with columns as a guess names them; several of labels are a list there."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in columns.items()}
    return replace(source, **values)


def stand_in_texts(head: str) -> SourceTexts:
    """Texts of our own, in place of the user's, without labels."""
    texts = STAND_IN_TEXTS
    examples = [Example(text) for text in texts]
    if HEADS[head].reads_pairs:
        others = range(1, 1 + (_PASSAGES if HEADS[head].ranks else 1))
        examples = [
            Example(text, texts[(place + step) % len(texts)]) for place, text in enumerate(texts) for step in others
        ]
    rows = _unlabelled([Row(example) for example in examples], head, "stand-in texts")
    if HEADS[head].ranks:
        rows, _ = number_queries(rows, {})
    return SourceTexts(rows, rows, are_labelled=False, are_shared=True)


def _without_labels(source: DataSource, head: str, sizes: Sizes, seed: int, notes: list[str]) -> SourceTexts:
    texts = _cut(read_source(source, PLAIN_HEAD, notes).training, False, sizes, seed)
    if not HEADS[head].judged_metrics or source.source in PYTHON_TEXTS:
        return texts
    try:
        judged = judged_parts([source], head, None, sizes.search, sizes.report, seed, notes)
    except DataError as error:
        notes.append(f"there are no judged pairs, since {error}")
        return texts
    if judged is None:
        return texts
    scored = [Row(Example(text)) for text in judged.report.texts]
    calibration = fresh_rows(texts.calibration, [row.example for row in scored]) or texts.calibration
    return SourceTexts(calibration, scored, are_labelled=True, judgements=judged.report.judgements)


def _cut(rows: Sequence[Row], are_labelled: bool, sizes: Sizes, seed: int) -> SourceTexts:
    distinct = fresh_rows(rows, [])
    shuffled = [distinct[place] for place in np.random.default_rng(seed).permutation(len(distinct))]
    if len(shuffled) < 2 * _LEAST_APART:
        return SourceTexts(shuffled, shuffled, are_labelled, are_shared=True)
    first = min(sizes.calibration, len(shuffled) // 2)
    most = len(shuffled) if sizes.report is None else first + sizes.report
    return SourceTexts(shuffled[:first], shuffled[first:most], are_labelled)


def _cut_queries(
    rows: Sequence[Row], report_rows: Sequence[Row], sizes: Sizes, seed: int, notes: list[str]
) -> SourceTexts:
    """Whole queries with their passages; sizes count pairs. Those with grades are scored where there are some."""
    numbered, reported = number_queries(fresh_rows(rows, []), {"report": fresh_rows(report_rows, [])})
    rng = np.random.default_rng(seed)
    first, second = (
        [groups[place] for place in rng.permutation(len(groups))]
        for groups in (
            by_query(usable([row.example for row in part], "texts", notes)) for part in (numbered, reported["report"])
        )
    )
    are_shared = not second and len(first) < 2
    if not second:
        middle = len(first) if are_shared else len(first) // 2
        first, second = first[:middle], first if are_shared else first[middle:]
    if not second:
        raise DataError("no query has several passages, so that there is nothing to rank")
    judged = [group for group in second if is_judged(group)]
    scored = _as_rows(judged or second, sizes.report)
    return SourceTexts(_as_rows(first or second, sizes.calibration), scored, bool(judged), are_shared or not first)


def _as_rows(groups: Sequence[Sequence[Example]], size: int | None) -> list[Row]:
    """Whole groups until there are so many examples."""
    rows: list[Row] = []
    for group in groups:
        if size is not None and len(rows) >= size:
            break
        rows += map(Row, group)
    return rows


def _labelled_rows(path: Path, source: DataSource, head: str, notes: list[str]) -> SourceRows | None:
    """The rows of one file; None where it has no labels. Raises DataError for labels that are in doubt or wrong."""
    kind = kind_of(path)
    if kind not in FORMATS[HEADS[head].labels] or (kind == "txt" and not is_tagged(path)):
        return None
    if kind in TABLE_KINDS and source.task is None:
        label = source.label if isinstance(source.label, str) else None
        try:
            guess = guess_file(path, Asked(head, source.text, source.pair, label))
        except DataError as error:
            if source.label is not None:
                raise
            notes.append(f"{path.name} is read as texts without labels, since {error}")
            return None
        notes += guess.assumed
        source = with_columns(source, guess.columns)
    return read_file(path, source, head, notes)


def _unlabelled(rows: Sequence[Row], head: str, origin: str) -> list[Row]:
    """As the head reads them, with empty targets."""
    form = UNLABELLED[HEADS[head].labels]
    if HEADS[head].reads_pairs and any(row.example.pair is None for row in rows):
        columns = " and ".join(repr(name) for name in USUAL_COLUMNS[HEADS[head].labels][0][:2])
        raise DataError(f"{origin}: {head} reads pairs of texts; give a table with columns {columns}")
    return [Row(form(row.example)) for row in rows]


def _as_it_is(example: Example) -> Example:
    return example


def _in_words(example: Example) -> Example:
    words = tuple(f"{example.text} {example.pair or ''}".split())
    return Example("", words=words, tags=(0,) * len(words))


def _without_answer(example: Example) -> Example:
    return replace(example, answers=((0, ""),))


def _without_grade(example: Example) -> Example:
    return replace(example, label=math.nan)


def _without_classes(example: Example) -> Example:
    return replace(example, classes=())


UNLABELLED: dict[Labels, Callable[[Example], Example]] = {
    "none": _as_it_is,
    "class": _as_it_is,
    "classes": _without_classes,
    "number": _as_it_is,
    "tags": _in_words,
    "answer": _without_answer,
    "masked": _as_it_is,
    "grades": _without_grade,
}
