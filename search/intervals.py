"""How sure scores and their differences are: paired bootstrap over the texts of a part, or over its queries or judged
pairs (Efron & Tibshirani 1993)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ortnas.export import query_ranks
from ortnas.export.intervals import Interval, ScoreIntervals
from ortnas.export.metrics import METRICS
from ortnas.export.part import Outputs, Part, Thresholds
from ortnas.export.ranks import rank_correlation
from ortnas.export.retrieval import QUERY_VALUES, pair_cosines
from ortnas.nas.arrays import Rows, Vector
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import EncodedExamples, Window
from ortnas.search.racing import text_values

SAMPLES = 1000
# Metrics that compare texts with each other take halves without repetition, since a text drawn twice is a pair that
# every model gets right; a half varies about the whole as a bootstrap sample does (Shao & Tu 1995, section 5.2).
_OF_PAIRS = ("similarity_spearman", "neighbour_likelihood")
_COSTLY_SAMPLES = 200


@dataclass(frozen=True)
class SampledScores:
    """By model: its score on the whole part, and on samples of the texts, which are the same for all models, so that
    what makes texts hard falls on all alike."""

    whole: Mapping[str, float]
    samples: Mapping[str, Vector]

    def score(self, name: str) -> Interval:
        return _interval(self.whole[name], self.samples[name])

    def difference(self, name: str, against: str) -> Interval:
        """How far a model's score lies above that of another."""
        return _interval(self.whole[name] - self.whole[against], self.samples[name] - self.samples[against])

    def intervals(self, name: str, against: str) -> ScoreIntervals:
        return ScoreIntervals(self.score(name), self.difference(name, against))


def sample_scores(
    metric: str,
    outputs: Mapping[str, Outputs],
    part: Part,
    seed: int = 0,
    thresholds: Mapping[str, Thresholds] | None = None,
) -> SampledScores:
    """``thresholds``: each model's own, on any sample; the part's by default."""
    parts = {name: part if thresholds is None else replace(part, **thresholds[name]._asdict()) for name in outputs}
    whole = {name: METRICS[metric](rows, parts[name]) for name, rows in outputs.items()}
    return SampledScores(whole, _sampled(metric, outputs, parts, np.random.default_rng(seed)))


def score_intervals(
    metric: str,
    outputs: Mapping[str, Outputs],
    part: Part,
    against: str,
    seed: int = 0,
    thresholds: Mapping[str, Thresholds] | None = None,
) -> dict[str, ScoreIntervals]:
    """For each named model its score, and the difference to the one called ``against``, as of ``sample_scores``."""
    sampled = sample_scores(metric, outputs, part, seed, thresholds)
    return {name: sampled.intervals(name, against) for name in outputs}


def _interval(value: float, samples: Vector) -> Interval:
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _sampled(
    metric: str, outputs: Mapping[str, Outputs], parts: Mapping[str, Part], rng: np.random.Generator
) -> dict[str, Vector]:
    """Scores of each model on samples of the texts, which are the same in all parts."""
    part = next(iter(parts.values()))
    if part.judgements is not None:
        return _sampled_judgements(metric, outputs, part.judgements, rng)
    if metric in query_ranks.QUERY_VALUES and part.has_groups:
        by_query = query_ranks.QUERY_VALUES[metric]
        return _sampled_means({name: by_query(rows, part.labels) for name, rows in outputs.items()}, rng)
    everything = np.arange(len(part.encoded))
    values = {name: text_values(metric, rows, part, everything) for name, rows in outputs.items()}
    if all(rows is not None for rows in values.values()):
        return _sampled_means({name: rows for name, rows in values.items() if rows is not None}, rng)
    groups = _texts(part)
    scores: dict[str, list[float]] = {name: [] for name in outputs}
    for _ in range(_COSTLY_SAMPLES):
        if metric in _OF_PAIRS:
            drawn = np.sort(rng.permutation(len(groups))[: len(groups) // 2])
        else:
            drawn = rng.integers(0, len(groups), len(groups))
        rows = np.concatenate([groups[text] for text in drawn])
        drawn_part = _part_of(part, drawn, groups)
        for name, whole in outputs.items():
            own, sample = parts[name], drawn_part
            if (own.null_threshold, own.label_thresholds) != (sample.null_threshold, sample.label_thresholds):
                sample = replace(sample, null_threshold=own.null_threshold, label_thresholds=own.label_thresholds)
            scores[name].append(METRICS[metric]([whole[row] for row in rows], sample))
    return {name: np.array(values) for name, values in scores.items()}


def _sampled_means(values: Mapping[str, Vector], rng: np.random.Generator) -> dict[str, Vector]:
    """Of what each text, or each query, adds to a mean over all, (n,) for each model."""
    n = len(next(iter(values.values())))
    counts = rng.multinomial(n, np.full(n, 1 / n), SAMPLES)
    return {name: counts @ rows / n for name, rows in values.items()}


def _sampled_judgements(
    metric: str, outputs: Mapping[str, Outputs], judgements: Judgements, rng: np.random.Generator
) -> dict[str, Vector]:
    """Queries are drawn, each of which looks among all documents; or scored pairs."""
    if metric in QUERY_VALUES:
        values = {name: QUERY_VALUES[metric](rows, judgements) for name, rows in outputs.items()}
        return _sampled_means(values, rng)
    cosines = {name: pair_cosines(rows, judgements) for name, rows in outputs.items()}
    grades, draws = np.array(judgements.grades), rng.integers(0, judgements.size, (SAMPLES, judgements.size))
    return {
        name: np.array([rank_correlation(rows[drawn], grades[drawn]) for drawn in draws])
        for name, rows in cosines.items()
    }


def _texts(part: Part) -> list[Rows]:
    """The rows of each text: one, or all windows of its context."""
    windows = part.encoded.windows
    if windows is None:
        return [np.array([row]) for row in range(len(part.encoded))]
    examples = np.array([window.example for window in windows])
    return [np.flatnonzero(examples == number) for number in range(len(part.examples))]


def _part_of(part: Part, texts: Rows, groups: Sequence[Rows]) -> Part:
    """A part of the drawn texts, in their order."""
    rows = np.concatenate([groups[text] for text in texts]).tolist()
    encoded = part.encoded
    windows: list[Window] | None = None
    if encoded.windows is not None:
        numbers = np.repeat(np.arange(len(texts)), [len(groups[text]) for text in texts])
        windows = [
            encoded.windows[row]._replace(example=int(number)) for row, number in zip(rows, numbers, strict=True)
        ]
    labels: list[Any] | None = None if encoded.labels is None else [encoded.labels[row] for row in rows]
    words = None if encoded.words is None else [encoded.words[row] for row in rows]
    drawn = EncodedExamples(
        [encoded.ids[row] for row in rows], [encoded.type_ids[row] for row in rows], labels, windows, words
    )
    examples = [part.examples[text] for text in texts] if part.examples else ()
    return replace(part, encoded=drawn, examples=examples, teacher=None if part.teacher is None else part.teacher[rows])
