"""Folders in the layout of BEIR (Thakur et al. 2021): documents, queries, and which of them belong together."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ortnas.nas.data.left_out import note_left_out
from ortnas.nas.data.lines import check_regular
from ortnas.nas.data.pairs import TextPair, TextPairs, plain_pairs
from ortnas.nas.data.tables import json_lines, open_table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed, shown

_DOCUMENTS, _QUERIES, _QRELS = "corpus.jsonl", "queries.jsonl", "qrels/test.tsv"
_QREL_COLUMNS = ("query-id", "corpus-id", "score")


def read_beir(folder: Path, others: int, seed: int, notes: list[str]) -> TextPairs:
    """The judged queries with their documents, and ``others`` more documents, drawn by the seed.

    Raises DataError where a file is missing, and where what was judged is not there.
    """
    documents_file, queries_file, qrels_file = (beir_file(folder, name) for name in (_DOCUMENTS, _QUERIES, _QRELS))
    qrels = read_qrels(qrels_file, notes)
    query_keys, judged_keys = {query for query, _, _ in qrels}, {document for _, document, _ in qrels}
    queries = {key: text for key, text in read_texts(queries_file) if key in query_keys}
    judged: dict[str, str] = {}
    rng = random.Random(seed)

    def unjudged() -> Iterator[tuple[float, str]]:
        for key, text in read_texts(documents_file):
            if key in judged_keys:
                judged[key] = text
            elif text:
                yield rng.random(), text

    drawn = [text for _, text in heapq.nsmallest(others, unjudged())]
    check_known(qrels_file, [query for query, _, _ in qrels], queries, queries_file)
    check_known(qrels_file, [document for _, document, _ in qrels], judged, documents_file)
    pairs, reasons = [], []
    for query, document, grade in qrels:
        first, second = queries[query], judged[document]
        if first and second:
            pairs.append(TextPair(first, second, grade))
        else:
            reasons.append(f"{shown(document if first else query)} has no text")
    note_left_out(qrels_file.name, len(qrels), reasons, notes)
    return plain_pairs(folder.name, pairs, notes, drawn)


def beir_file(folder: Path, name: str) -> Path:
    """Plain or with .gz."""
    present = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
    if not present:
        raise DataError(f"{folder}: no {name}; a folder of pairs holds {listed((_DOCUMENTS, _QUERIES, _QRELS))}")
    if len(present) > 1:
        raise DataError(f"{folder}: {name} is there plain and as .gz; leave one")
    check_regular(present[0])
    return present[0]


def read_qrels(path: Path, notes: list[str]) -> list[tuple[str, str, float]]:
    """Ids of query and document, and the grade."""
    table = open_table(path, notes)
    if missing := [name for name in _QREL_COLUMNS if name not in table.columns]:
        raise DataError(
            f"{path}: no column {listed(map(repr, missing))}; its first line has to read {', '.join(_QREL_COLUMNS)}, "
            f"parted by tabs"
        )
    qrels = []
    for place, record in table.rows:
        query, document, score = (str(record[name]).strip() for name in _QREL_COLUMNS)
        try:
            grade = float(score)
        except ValueError:
            grade = math.nan
        if not math.isfinite(grade):
            raise DataError(f"{path}, {place}: the score {shown(score)} is no number")
        qrels.append((query, document, max(grade, 0.0)))
    return qrels


def read_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Ids and texts; a document's title is the beginning of its text."""
    for number, record in json_lines(path):
        if missing := [name for name in ("_id", "text") if name not in record]:
            raise DataError(f"{path}, line {number}: lacks {missing[0]!r}")
        pieces = [record.get("title") or "", record["text"] or ""]
        if not all(isinstance(piece, str) for piece in pieces):
            raise DataError(f"{path}, line {number}: {shown(_first_other(pieces))} is no text")
        yield str(record["_id"]), " ".join(" ".join(pieces).split())


def _first_other(pieces: list[Any]) -> Any:
    return next(piece for piece in pieces if not isinstance(piece, str))


def check_known(path: Path, named: list[str], present: Mapping[str, str], file: Path) -> None:
    """Raises DataError for ids that a file lacks."""
    if unknown := [key for key in named if key not in present]:
        raise DataError(
            f"{path}: {len(unknown):,} of {len(named):,} rows name an id that {file.name} has not, the first "
            f"{shown(unknown[0])}; leave them out, or add what they name"
        )
