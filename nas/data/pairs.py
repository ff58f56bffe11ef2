"""Pairs of texts that say how good embeddings are: of a table, or of a folder as BEIR has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ortnas.nas.data.columns import LABEL_COLUMNS, PAIRS, check_header
from ortnas.nas.data.left_out import note_left_out
from ortnas.nas.data.lines import kind_of
from ortnas.nas.data.rows import Columns, Row, table_rows
from ortnas.nas.data.tables import TABLE_KINDS, Table, open_table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed, shown

# In the order in which they are tried: what a text that looks for the other may be called, and the other.
PAIR_COLUMNS = (
    *PAIRS,
    ("query", "document"),
    ("query", "passage"),
    ("query", "text"),
    ("query", "positive"),
    ("anchor", "positive"),
    ("question", "answer"),
    ("title", "text"),
    ("title", "body"),
    ("text", "pair"),
)
# Tables with these columns are texts of both kinds, and bring their own pairs.
OWN_PAIR_COLUMNS = (("title", "text"), ("question", "answer"), ("query", "passage"), ("query", "document"))
SCORE_COLUMNS = tuple(dict.fromkeys(("score", "similarity", "similarity_score", *LABEL_COLUMNS)))


class TextPair(NamedTuple):
    """Two texts and a grade: a gold score, or how relevant the second is to the first, 0 for not at all."""

    first: str
    second: str
    grade: float = 1.0


@dataclass(frozen=True)
class TextPairs:
    """Pairs of texts from one ``origin``, in words. ``are_scored``: the grades say how alike the texts are.

    Where they are not, each first text is a query for its second ones; ``others`` are further documents to look among.
    """

    origin: str
    pairs: tuple[TextPair, ...]
    are_scored: bool
    others: tuple[str, ...] = ()

    @property
    def texts(self) -> Iterator[str]:
        """Of all pairs, with repeats."""
        return (text for pair in self.pairs for text in (pair.first, pair.second))


def read_pair_table(path: Path, notes: list[str]) -> TextPairs:
    """The pairs of a TSV, CSV or JSON Lines file with columns of usual names, scored where there is a score.

    Raises DataError for columns that are missing or in doubt, and for scores that are no numbers.
    """
    if kind_of(path) not in TABLE_KINDS:
        raise DataError(f"{path}: pairs are read from {listed(TABLE_KINDS)} files, or from a folder as BEIR has them")
    table = open_table(path, notes)
    (first, second), score = _pair_columns(table), _score_column(table)
    rows = table_rows(table, Columns(first, second, score or ""), "regression" if score else "embedding", notes)
    if score is None:
        return plain_pairs(path.name, (TextPair(row.example.text, row.example.pair or "") for row in rows), notes)
    return TextPairs(path.name, _distinct(path.name, [*map(scored_pair, rows)], notes), are_scored=True)


def scored_pair(row: Row) -> TextPair:
    """Of a row of two texts and a number."""
    example = row.example
    assert example.pair is not None
    assert example.label is not None
    return TextPair(example.text, example.pair, float(example.label))


def plain_pairs(origin: str, pairs: Iterable[TextPair], notes: list[str], others: Iterable[str] = ()) -> TextPairs:
    """Pairs whose grades say how relevant the second text is to the first."""
    return TextPairs(origin, _distinct(origin, list(pairs), notes), are_scored=False, others=tuple(others))


def without_queries_among_documents(pairs: TextPairs, notes: list[str]) -> TextPairs:
    """For networks that read queries and documents in two ways: a text that is both is a query only."""
    queries = {pair.first for pair in pairs.pairs}
    documents = dict.fromkeys((*(pair.second for pair in pairs.pairs), *pairs.others))
    note_left_out(
        pairs.origin, len(documents), [f"{shown(text)} is a query too" for text in documents if text in queries], notes
    )
    kept = tuple(pair for pair in pairs.pairs if pair.second not in queries)
    return replace(pairs, pairs=kept, others=tuple(text for text in pairs.others if text not in queries))


def _distinct(origin: str, pairs: list[TextPair], notes: list[str]) -> tuple[TextPair, ...]:
    """Without pairs of one text with itself, which every network gets right, and without repeated ones."""
    distinct: dict[tuple[str, str], TextPair] = {}
    reasons = []
    for number, pair in enumerate(pairs, start=1):
        if pair.first == pair.second:
            reasons.append(f"pair {number} has one text, {shown(pair.first)}, on both sides")
        elif distinct.setdefault((pair.first, pair.second), pair) is not pair:
            reasons.append(f"pair {number} repeats an earlier one")
    note_left_out(origin, len(pairs), reasons, notes)
    return tuple(distinct.values())


def own_pair_columns(table: Table) -> tuple[str, str] | None:
    """The columns of a source whose texts are pairs; None where there are none, or several."""
    fitting = [columns for columns in OWN_PAIR_COLUMNS if set(columns) <= set(table.columns)]
    return fitting[0] if len(fitting) == 1 else None


def _pair_columns(table: Table) -> tuple[str, str]:
    fitting = [columns for columns in PAIR_COLUMNS if set(columns) <= set(table.columns)]
    if not fitting:
        check_header(table)
        raise DataError(
            f"{table.name}: no columns of pairs; the columns are {listed(table.columns)}. Call them query and "
            f"document, or sentence1 and sentence2 where there is a score"
        )
    if len(fitting) > 1:
        ways = listed(f"{first!r} with {second!r}" for first, second in fitting)
        raise DataError(f"{table.name}: several columns may be the pair ({ways}); leave out those that are not meant")
    return fitting[0]


def _score_column(table: Table) -> str | None:
    fitting = [name for name in SCORE_COLUMNS if name in table.columns]
    if len(fitting) > 1:
        raise DataError(
            f"{table.name}: several columns may be the score ({listed(map(repr, fitting))}); leave out those that are "
            f"not meant"
        )
    return fitting[0] if fitting else None
