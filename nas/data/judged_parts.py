"""Judged pairs cut into a part for the search and one for reports, neither of which any training sees; and the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ortnas.nas.data.pairs import TextPair, TextPairs
from ortnas.nas.data.prose import SENTENCE_END
from ortnas.nas.failures import DataError
from ortnas.nas.judgements import Judgements

T = TypeVar("T")
# With fewer pairs, or queries, a figure says nothing.
LEAST_JUDGED = 20
# Documents for each query of the larger part: with so many, the first one is not right by chance.
DOCUMENTS_PER_QUERY = 4


class JudgedPart(NamedTuple):
    """Distinct texts, and what is said of pairs of them by their numbers."""

    texts: list[str]
    judgements: Judgements


class JudgedParts(NamedTuple):
    """``search`` and ``report`` share no scored text, and no query; both look among the same documents. ``others`` are
    the pairs that are left."""

    search: JudgedPart
    report: JudgedPart
    others: tuple[TextPair, ...] = ()

    @property
    def sentence(self) -> str:
        search, report = self.search.judgements, self.report.judgements
        return f"{search} for the search, {report} for reports"

    @property
    def held_out(self) -> set[str]:
        """The texts of both parts, and the sentences of those that were judged: none of them is to be trained on."""
        parts = (self.search, self.report)
        texts = {text for part in parts for text in part.texts}
        judged = {part.texts[row] for part in parts for row in (*part.judgements.first, *part.judgements.second)}
        return texts.union(*(SENTENCE_END.split(text) for text in judged))


def cut_pairs(pairs: TextPairs, search_size: int, report_size: int, seed: int) -> JudgedParts:
    """So many scored pairs, or queries, in each part, or half of them where there are fewer. Raises DataError."""
    rng = np.random.default_rng([seed, 6])
    if pairs.are_scored:
        return _cut_scored(pairs, search_size, report_size, rng)
    return _cut_queries(pairs, search_size, report_size, rng)


def scored_parts(
    search: TextPairs, report: TextPairs, search_size: int, report_size: int | None, seed: int
) -> JudgedParts:
    """Of scored pairs that are already apart; those for the search that have a text of the others are left out."""
    rng = np.random.default_rng([seed, 6])
    reported = _shuffled(report.pairs, rng)[:report_size]
    fresh = _without(_shuffled(search.pairs, rng), reported)
    return _scored(search.origin, fresh, search_size, reported)


def _cut_scored(pairs: TextPairs, search_size: int, report_size: int, rng: np.random.Generator) -> JudgedParts:
    """Pairs with a first text in common come one after the other, and so into one part."""
    by_first: dict[str, list[TextPair]] = {}
    for pair in _shuffled(pairs.pairs, rng):
        by_first.setdefault(pair.first, []).append(pair)
    ordered = [pair for group in by_first.values() for pair in group]
    reported = ordered[: min(report_size, len(ordered) // 2)]
    return _scored(pairs.origin, _without(ordered, reported), search_size, reported)


def _scored(origin: str, fresh: Sequence[TextPair], search_size: int, report: Sequence[TextPair]) -> JudgedParts:
    search, others = fresh[:search_size], fresh[search_size:]
    _check_enough(origin, "scored pairs that share no text", len(search), len(report))
    for part in (search, report):
        if len({pair.grade for pair in part}) == 1:
            raise DataError(
                f"{origin}: the scores of {len(part):,} pairs are all {part[0].grade:g}, so that they rank nothing; "
                f"leave the column out for pairs without a score"
            )
    return JudgedParts(_judged_part(search), _judged_part(report), tuple(others))


def _without(pairs: Sequence[TextPair], others: Sequence[TextPair]) -> list[TextPair]:
    """Those that have no text of the others."""
    texts = {text for pair in others for text in (pair.first, pair.second)}
    return [pair for pair in pairs if texts.isdisjoint((pair.first, pair.second))]


def _cut_queries(pairs: TextPairs, search_size: int, report_size: int, rng: np.random.Generator) -> JudgedParts:
    relevant: dict[str, list[TextPair]] = {}
    for pair in pairs.pairs:
        if pair.grade > 0:
            relevant.setdefault(pair.first, []).append(pair)
    queries = _shuffled(list(relevant), rng)
    reported = queries[: min(report_size, len(queries) // 2)]
    searched = queries[len(reported) :][:search_size]
    _check_enough(pairs.origin, "queries with a document", len(searched), len(reported))
    asked = {*searched, *reported}
    # Also those that were judged to be of no use.
    own = dict.fromkeys(pair.second for pair in pairs.pairs if pair.first in asked)
    more = dict.fromkeys((*(pair.second for pair in pairs.pairs), *pairs.others))
    further = _shuffled([text for text in more if text not in own], rng)
    size = max(len(own), DOCUMENTS_PER_QUERY * max(len(searched), len(reported)))
    documents = _shuffled([*own, *further[: size - len(own)]], rng)
    search, report = (
        _judged_part([pair for query in part for pair in relevant[query]], documents) for part in (searched, reported)
    )
    others = [pair for query, own_pairs in relevant.items() if query not in asked for pair in own_pairs]
    return JudgedParts(search, report, tuple(others))


def _judged_part(pairs: Sequence[TextPair], documents: Sequence[str] = ()) -> JudgedPart:
    firsts, seconds, _ = zip(*pairs, strict=True)
    rows = {text: row for row, text in enumerate(dict.fromkeys((*firsts, *(documents or seconds))))}
    return JudgedPart(list(rows), _judgements(pairs, rows, documents))


def _judgements(pairs: Sequence[TextPair], rows: Mapping[str, int], documents: Iterable[str]) -> Judgements:
    return Judgements(
        tuple(rows[pair.first] for pair in pairs),
        tuple(rows[pair.second] for pair in pairs),
        tuple(pair.grade for pair in pairs),
        tuple(rows[text] for text in documents),
    )


def learned_part(training: Sequence[str], judged: JudgedParts, others: Iterable[str]) -> JudgedPart | None:
    """The texts of training, followed by those of the other pairs that are not among them. Pairs with a text that is
    held out, or is one of ``others``, are left out; None where fewer than 20 are left, or all have one score."""
    held_out = judged.held_out.union(others)
    pairs = [pair for pair in judged.others if held_out.isdisjoint((pair.first, pair.second))]
    are_scored = judged.search.judgements.are_scored
    if len(pairs) < LEAST_JUDGED or (are_scored and len({pair.grade for pair in pairs}) == 1):
        return None
    own = dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second))
    there = set(training)
    joined = [*training, *(text for text in own if text not in there)]
    rows = {text: row for row, text in enumerate(joined)}
    documents = () if are_scored else dict.fromkeys(pair.second for pair in pairs)
    return JudgedPart(joined, _judgements(pairs, rows, documents))


def _check_enough(origin: str, kind: str, search: int, report: int) -> None:
    if min(search, report) < LEAST_JUDGED:
        raise DataError(
            f"{origin}: {search} {kind} are there for the search and {report} for reports, and each needs at least "
            f"{LEAST_JUDGED}; name more pairs as data.pairs, larger data.search_size and data.report_size, or none"
        )


def _shuffled(items: Sequence[T], rng: np.random.Generator) -> list[T]:
    return [items[place] for place in rng.permutation(len(items))]
