"""Queries with the passages that are to be ranked for them: the forms in which people keep them, pair by pair."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ortnas.nas.data.columns import QUERY_COLUMNS
from ortnas.nas.data.rows import Columns, Row
from ortnas.nas.data.tables import Table
from ortnas.nas.failures import DataError
from ortnas.nas.text import Example
from ortnas.nas.wording import shown

COLUMNS = Columns("query", "passage", "grade")
_LISTS = ("passages", "documents", "docs")
_GRADES = ("labels", "grades", "scores")
# Several of one kind are a list, or columns with a number at the end.
_POSITIVES = ("positive", "positives", "positive_passages", "pos")
_NEGATIVES = ("negative", "negatives", "negative_passages", "neg")


def is_grouped(columns: Iterable[str]) -> bool:
    """Whether a row is a query with several passages, and not one pair."""
    names = set(columns)
    return bool(names & set(QUERY_COLUMNS)) and any(
        name in (*_LISTS, *_POSITIVES) or _stem(name) in _POSITIVES for name in names
    )


def has_candidates(columns: Iterable[str]) -> bool:
    """Whether a row is a query with passages of which some need not be relevant."""
    names = set(columns)
    lists = any(name in (*_LISTS, *_NEGATIVES) or _stem(name) in _NEGATIVES for name in names)
    return is_grouped(names) and lists


def in_pairs(table: Table) -> Table:
    """A row for each query and passage, in ``COLUMNS``. Raises DataError in reading for rows of another form."""
    query = next(name for name in QUERY_COLUMNS if name in table.columns)

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for place, record in table.rows:
            try:
                passages = _passages(record)
            except DataError as error:
                raise DataError(f"{table.name}, {place}: {error}") from None
            for passage, grade in passages:
                yield place, {COLUMNS.text: record[query], COLUMNS.pair: passage, COLUMNS.label: grade}

    return Table(table.name, COLUMNS, rows())


def _passages(record: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """With their grades, None where they have none."""
    for name in _LISTS:
        if name in record:
            passages = _listed(record[name], name)
            key = next((key for key in _GRADES if record.get(key) is not None), None)
            if key is None:
                return [(passage, None) for passage in passages]
            grades = _listed(record[key], key)
            if len(grades) != len(passages):
                raise DataError(f"{len(passages)} {name}, but {len(grades)} {key}; give one for each")
            return list(zip(passages, grades, strict=True))
    graded = ((names, grade) for names, grade in ((_POSITIVES, 1), (_NEGATIVES, 0)))
    return [
        (passage, grade)
        for names, grade in graded
        for name in record
        if name in names or _stem(name) in names
        for passage in _listed(record[name], name)
    ]


def _stem(name: str) -> str:
    """Of ``negative_3`` the name without its number."""
    stem, _, number = name.rpartition("_")
    return stem if number.isdigit() else ""


def _listed(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, dict):
        raise DataError(f"{name!r} holds {shown(value)}, and texts, or numbers for labels, are needed")
    return value if isinstance(value, list) else [value]


def number_queries(
    training: Sequence[Row], reports: Mapping[str, Sequence[Row]]
) -> tuple[list[Row], dict[str, list[Row]]]:
    """The rows with a number for each query in ``group``, the same in all parts; pairs of a query side by side."""
    numbers: dict[str, int] = {}

    def numbered(rows: Sequence[Row]) -> list[Row]:
        of_query: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            number = numbers.setdefault(row.example.text, len(numbers))
            of_query[number].append(row._replace(example=replace(row.example, group=number)))
        return [row for own in of_query.values() for row in own]

    return numbered(training), {part: numbered(rows) for part, rows in reports.items()}


def by_query(examples: Iterable[Example]) -> list[list[Example]]:
    groups: defaultdict[int | None, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    return list(groups.values())


def is_judged(group: Sequence[Example]) -> bool:
    """Whether every passage has a grade, and one of them more than 0."""
    grades = [float(example.label if example.label is not None else math.nan) for example in group]
    return not any(map(math.isnan, grades)) and max(grades) > 0


def usable(examples: Sequence[Example], part: str, notes: list[str]) -> list[Example]:
    """Without queries of a single passage, which teach nothing; with a note."""
    groups = by_query(examples)
    kept = [group for group in groups if len(group) > 1]
    if len(kept) < len(groups):
        notes.append(
            f"{part}: {len(groups) - len(kept):,} of {len(groups):,} queries have one passage, with nothing to rank, "
            f"and are left out"
        )
    return [example for group in kept for example in group]


def judged_only(examples: Sequence[Example], part: str, notes: list[str]) -> list[Example]:
    """What a part is scored on: queries whose passages have grades, one of them more than 0. Raises DataError."""
    groups = by_query(examples)
    judged = [group for group in groups if is_judged(group)]
    if len(judged) < len(groups):
        notes.append(
            f"{part}: {len(groups) - len(judged):,} of {len(groups):,} queries lack grades or a relevant passage, and "
            f"are left out"
        )
    if not judged:
        raise DataError(f"{part}: no query has a passage with a grade above 0, so that no ranking can be scored")
    return [example for group in judged for example in group]


def cut_queries(
    examples: Sequence[Example], wanted: Mapping[str, int], rng: np.random.Generator, notes: list[str]
) -> dict[str, list[Example]]:
    """Parts out of whole queries: ``calibration`` of so many pairs, the others of so many judged queries, and the rest
    as training. Raises DataError where there are too few queries."""
    groups = by_query(examples)
    shuffled = [groups[place] for place in rng.permutation(len(groups))]
    judged = [group for group in shuffled if is_judged(group)]
    counts = {name: size for name, size in wanted.items() if name != "calibration"}
    if len(judged) < 2 * sum(counts.values()):
        raise DataError(
            f"training has {len(judged):,} judged queries that no dev set has; {sum(counts.values()):,} are set aside "
            f"for {' and '.join(counts)}, and at least as many have to be left. Use more data or smaller data.*_size "
            f"values"
        )
    parts: dict[str, list[Example]] = {}
    for name, size in counts.items():
        parts[name] = [example for group in judged[:size] for example in group]
        judged = judged[size:]
    taken = {example.group for part in parts.values() for example in part}
    left = [group for group in shuffled if group[0].group not in taken]
    calibration: list[Example] = []
    while len(calibration) < wanted["calibration"] and len(left) > 1:
        calibration += left.pop()
    parts["calibration"] = calibration[: wanted["calibration"]]
    parts["training"] = [example for group in left for example in group]
    if unjudged := sum(not is_judged(group) for group in left):
        notes.append(
            f"training: {unjudged:,} of {len(left):,} queries lack grades or a relevant passage; the teacher's scores "
            f"alone teach them"
        )
    return {name: parts[name] for name in ("training", *wanted)}


def fresh_queries(training: Sequence[Row], reports: Mapping[str, Sequence[Row]], notes: list[str]) -> list[Row]:
    """The training rows of queries that no dev set has."""
    queries = {row.example.text for rows in reports.values() for row in rows}
    fresh = [row for row in training if row.example.text not in queries]
    if removed := len(training) - len(fresh):
        notes.append(f"training: {removed:,} of {len(training):,} pairs are of queries of the dev set and are left out")
    return fresh


def describe_groups(examples: Sequence[Example]) -> str:
    """How many queries, passages and relevant ones."""
    sizes = Counter(example.group for example in examples)
    relevant = sum(bool(example.label is not None and example.label > 0) for example in examples)
    return (
        f"{len(sizes):,} queries, {len(examples) / len(sizes):.1f} passages each, {relevant / len(sizes):.1f} relevant"
    )
