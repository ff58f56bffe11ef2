"""Which judged pairs a run has: those that are named, those of its task, or those that its texts bring."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.data.beir import read_beir
from ortnas.nas.data.docstrings import PYTHON_DOCSTRINGS, docstring_pairs
from ortnas.nas.data.judged_parts import DOCUMENTS_PER_QUERY, LEAST_JUDGED, JudgedParts, cut_pairs, scored_parts
from ortnas.nas.data.packages import PYTHON_TEXTS
from ortnas.nas.data.pairs import (
    TextPair,
    TextPairs,
    own_pair_columns,
    plain_pairs,
    read_pair_table,
    scored_pair,
    without_queries_among_documents,
)
from ortnas.nas.data.rows import Columns, table_rows
from ortnas.nas.data.source import DataSource, read_source, table_of_pairs
from ortnas.nas.data.tasks import find_task
from ortnas.nas.failures import DataError

NO_PAIRS = "none"
# Of pairs that are found in the texts, one in so many is asked for in each part: the rest is for training.
_SHARE = 16


def judged_parts(
    sources: Sequence[DataSource],
    head: str,
    pairs: str | None,
    search_size: int,
    report_size: int | None,
    seed: int,
    notes: list[str],
) -> JudgedParts | None:
    """The pairs cut into parts of so many; None where there are none, or the head has no use for them.

    ``pairs`` names a file or a folder; ``none`` wants none, and None those of the first source's task, or those of the
    first source that brings some. ``report_size`` None stands for a task's whole dev set, else for as many as for the
    search. Raises DataError for pairs that cannot be used.
    """
    if pairs == NO_PAIRS or not HEADS[head].judged_metrics:
        return None
    most_reported = search_size if report_size is None else report_size
    if pairs is not None:
        path = Path(pairs).expanduser()
        others = DOCUMENTS_PER_QUERY * max(search_size, most_reported)
        named = read_beir(path, others, seed, notes) if path.is_dir() else read_pair_table(path, notes)
        parts = cut_pairs(_for_head(named, head, notes), search_size, most_reported, seed)
        notes.append(f"pairs of {named.origin}: {parts.sentence}")
        return parts
    task = sources[0].task
    if task is not None and find_task(task).judges_embeddings:
        parts = scored_parts(*_task_pairs(sources[0]), search_size, report_size, seed)
        notes.append(f"pairs of {task}: {parts.sentence}")
        return parts
    text_pairs = next(filter(None, map(find_pairs, sources)), None)
    if text_pairs is None:
        return None
    text_pairs = _for_head(text_pairs, head, notes)
    most = len(text_pairs.pairs) // _SHARE
    if min(most, search_size, most_reported) < LEAST_JUDGED:
        notes.append(
            f"{text_pairs.origin}: {len(text_pairs.pairs):,} pairs of texts, too few to judge by and train on "
            f"the others"
        )
        return None
    parts = cut_pairs(text_pairs, min(most, search_size), min(most, most_reported), seed)
    notes.append(f"pairs found in {text_pairs.origin}: {parts.sentence} (data.pairs: {NO_PAIRS} does without)")
    return parts


def _for_head(pairs: TextPairs, head: str, notes: list[str]) -> TextPairs:
    """Pairs that a head is judged by. Raises DataError."""
    if not HEADS[head].makes_token_vectors:
        return pairs
    if pairs.are_scored:
        raise DataError(
            f"{pairs.origin}: the pairs have scores, and {head} is judged by queries that look for documents; leave "
            f"the column out"
        )
    return without_queries_among_documents(pairs, notes)


def _task_pairs(source: DataSource) -> tuple[TextPairs, TextPairs]:
    """Scored pairs of the training file, and all of the dev set, so that figures are those of the task."""
    assert source.task is not None
    rows = read_source(source, find_task(source.task).head, [])
    training, dev = (tuple(map(scored_pair, part)) for part in (rows.training, rows.reports["report"]))
    return TextPairs(source.task, training, are_scored=True), TextPairs(source.task, dev, are_scored=True)


def find_pairs(source: DataSource) -> TextPairs | None:
    """What a source without labels holds of pairs: docstrings, and tables with columns for both texts."""
    if source.source in PYTHON_TEXTS:
        is_narrow = source.source == PYTHON_DOCSTRINGS
        summaries = docstring_pairs(Path(sysconfig.get_path("stdlib")) if is_narrow else None)
        return plain_pairs("docstrings, a summary and what follows it", (TextPair(*pair) for pair in summaries), [])
    table = table_of_pairs(source)
    columns = None if table is None else own_pair_columns(table)
    if table is None or columns is None:
        return None
    rows = table_rows(table, Columns(*columns), "embedding", [])
    pairs = (TextPair(row.example.text, row.example.pair or "") for row in rows)
    return plain_pairs(f"{table.name}, {columns[0]} and {columns[1]}", pairs, [])
