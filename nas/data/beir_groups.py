"""Query groups out of a folder in the layout of BEIR, whose queries have judged documents but no list of candidates."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ortnas.nas.data.beir import beir_file, check_known, read_qrels, read_texts
from ortnas.nas.data.query_groups import COLUMNS
from ortnas.nas.data.tables import Table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed

DOCUMENTS, QUERIES = "corpus.jsonl", "queries.jsonl"
# Of the judgements of a folder the first ones are learned from, the last ones reported.
_QRELS = ("train", "dev", "test")
# Documents that are ranked for a query, and those that are kept in memory to draw from.
CANDIDATES, _POOL = 20, 20_000
_SEED = 0


class _Texts(NamedTuple):
    queries: Mapping[str, str]
    judged: Mapping[str, str]
    others: list[str]


def is_beir(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (DOCUMENTS, f"{DOCUMENTS}.gz"))


def open_beir_groups(folder: Path, notes: list[str]) -> tuple[Table, dict[str, Table]]:
    """Tables of pairs for training and, where the folder has several files of judgements, for reports.

    A query's candidates are its judged documents, filled up to 20 with documents of the corpus that are drawn at random
    and count as not relevant. Raises DataError.
    """
    present = [name for name in _QRELS if any((folder / f"qrels/{name}.tsv{end}").is_file() for end in ("", ".gz"))]
    if not present:
        raise DataError(f"{folder}: no qrels/{listed(f'{name}.tsv' for name in _QRELS)}, which say what is relevant")
    qrels = {name: read_qrels(beir_file(folder, f"qrels/{name}.tsv"), notes) for name in {present[0], present[-1]}}
    texts = _read_texts(folder, [row for rows in qrels.values() for row in rows])
    for name, rows in qrels.items():
        path = folder / f"qrels/{name}.tsv"
        check_known(path, [query for query, _, _ in rows], texts.queries, folder / QUERIES)
        check_known(path, [document for _, document, _ in rows], texts.judged, folder / DOCUMENTS)
    notes.append(
        f"{folder.name}: each query's judged documents are filled up to {CANDIDATES} with documents drawn at random, "
        f"which count as not relevant; among all documents of the corpus scores would be lower"
    )
    tables = {name: Table(f"qrels/{name}.tsv", COLUMNS, _pairs(rows, texts)) for name, rows in qrels.items()}
    return tables[present[0]], {"report": tables[present[-1]]} if len(present) > 1 else {}


def _read_texts(folder: Path, rows: list[tuple[str, str, float]]) -> _Texts:
    query_keys, judged_keys = {query for query, _, _ in rows}, {document for _, document, _ in rows}
    queries = {key: text for key, text in read_texts(beir_file(folder, QUERIES)) if key in query_keys}
    judged: dict[str, str] = {}
    rng = random.Random(_SEED)

    def unjudged() -> Iterator[tuple[float, str]]:
        for key, text in read_texts(beir_file(folder, DOCUMENTS)):
            if key in judged_keys:
                judged[key] = text
            elif text:
                yield rng.random(), text

    return _Texts(queries, judged, [text for _, text in heapq.nsmallest(_POOL, unjudged())])


def _pairs(rows: list[tuple[str, str, float]], texts: _Texts) -> Iterator[tuple[str, dict[str, Any]]]:
    by_query: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for query, document, grade in rows:
        by_query[query][document] = grade
    pool = sorted({*texts.others, *texts.judged.values()} - {""})
    for query, grades in by_query.items():
        own = {texts.judged[document]: grade for document, grade in grades.items()}
        # Of the query's own, so that what is drawn for it does not hang on other queries.
        rng = random.Random(f"{_SEED} {query}")
        drawn = [text for text in rng.sample(pool, min(2 * CANDIDATES, len(pool))) if text not in own]
        for passage, grade in (own | dict.fromkeys(drawn[: max(0, CANDIDATES - len(own))], 0.0)).items():
            yield f"query {query}", {COLUMNS.text: texts.queries[query], COLUMNS.pair: passage, COLUMNS.label: grade}
