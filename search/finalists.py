"""From scored candidates to a winner: measured again, out if over a budget, and chosen by a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ortnas.bench.estimates import Timing
from ortnas.export.intervals import ScoreIntervals
from ortnas.nas.architecture.subnet import Subnet
from ortnas.search.candidate import Candidate
from ortnas.search.front import knee, pareto_rows

Rule = Literal["best", "fastest", "knee"]
# Scores are sums of floats; a loss of exactly the tolerance is tolerated.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LatencyLimit:
    """What a measured latency has to stay within on one target: its median, its 95th percentile, or its mean (None)."""

    ms: float
    percent: Literal[50, 95] | None = 50
    target: str = ""

    def measured_ms(self, timing: Timing) -> float:
        return timing.mean_ms if self.percent is None else timing.percentile_ms(self.percent)

    def upper_ms(self, timing: Timing) -> float:
        """A 95 % confidence bound; a high percentile or a mean is taken to be as unsure as the median."""
        return self.measured_ms(timing) * timing.upper_ms / timing.latency_ms


@dataclass(frozen=True)
class Finalist:
    """A candidate, scored as it would be shipped, with its measured latency and half the width of the middle half of
    its samples on the first target.

    ``meets_budget`` is decided by the measurement alone: the confidence bound is within every limit, so that a winner
    is not one that happened to be measured in a lucky moment. ``is_hit``: what was measured is within every limit, as
    had been predicted. ``targets``: ms on each named target. ``report``: its scores on texts that chose nothing.
    """

    candidate: Candidate
    measured_ms: float
    spread_ms: float
    meets_budget: bool
    is_hit: bool
    targets: Mapping[str, float] = field(default_factory=dict)
    report: ScoreIntervals | None = None

    @property
    def subnet(self) -> Subnet:
        return self.candidate.subnet

    @property
    def score(self) -> float:
        return self.candidate.score

    def to_json(self) -> dict[str, Any]:
        document = {
            "subnet": self.subnet.to_json(),
            "genome": list(self.candidate.genome),
            "score": self.score,
            "predicted_ms": self.candidate.latency_ms,
            "upper_ms": self.candidate.upper_ms,
            "measured_ms": self.measured_ms,
            "spread_ms": self.spread_ms,
            "meets_budget": self.meets_budget,
            "is_hit": self.is_hit,
            "targets": dict(self.targets),
        }
        return document if self.report is None else document | {"report": self.report.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Finalist:
        report = document.get("report")
        return cls(
            Candidate.from_json({**document, "latency_ms": document["predicted_ms"]}),
            float(document["measured_ms"]),
            float(document["spread_ms"]),
            bool(document["meets_budget"]),
            bool(document["is_hit"]),
            {str(name): float(ms) for name, ms in document["targets"].items()},
            None if report is None else ScoreIntervals.from_json(report),
        )


def judge(
    candidates: Sequence[Candidate], timings: Mapping[str, Sequence[Timing]], limits: Sequence[LatencyLimit]
) -> list[Finalist]:
    """Candidates that were timed, best first; ``timings`` has, by subnet key, one for each limit."""
    finalists = [
        _judged(candidate, timings[candidate.subnet.key], limits)
        for candidate in candidates
        if candidate.subnet.key in timings
    ]
    return best_first(finalists)


def _judged(candidate: Candidate, timings: Sequence[Timing], limits: Sequence[LatencyLimit]) -> Finalist:
    pairs = list(zip(limits, timings, strict=True))
    return Finalist(
        candidate,
        limits[0].measured_ms(timings[0]),
        timings[0].spread_ms,
        all(limit.upper_ms(timing) <= limit.ms for limit, timing in pairs),
        all(limit.measured_ms(timing) <= limit.ms for limit, timing in pairs),
        {limit.target: limit.measured_ms(timing) for limit, timing in pairs if limit.target},
    )


def best_first(finalists: Sequence[Finalist]) -> list[Finalist]:
    """By score; among equals the faster one first."""
    return sorted(finalists, key=lambda finalist: (-finalist.score, finalist.measured_ms))


def choose_winner(finalists: Sequence[Finalist], rule: Rule = "best", tolerance: float = 0.0) -> Finalist | None:
    """One of those measured within the budget, by their scores of the search; None where there is none.

    ``best``: the best score. ``fastest``: the fastest that scores at most ``tolerance`` less than the best. ``knee``:
    where the front of these finalists bends.
    """
    by_score = best_first([finalist for finalist in finalists if finalist.meets_budget])
    if not by_score:
        return None
    if rule == "best":
        return by_score[0]
    if rule == "fastest":
        lowest = by_score[0].score - tolerance
        tolerated = [finalist for finalist in by_score if finalist.score >= lowest - _ROUNDING]
        return min(tolerated, key=lambda finalist: finalist.measured_ms)
    scores = np.array([finalist.score for finalist in by_score])
    measured_ms = np.array([finalist.measured_ms for finalist in by_score])
    front = pareto_rows(scores, measured_ms)
    return by_score[int(front[knee(scores[front], measured_ms[front])])]


def hit_rate(finalists: Sequence[Finalist]) -> float | None:
    """Share of finalists, all predicted to be within the budget, that were measured within it; None of none."""
    return sum(finalist.is_hit for finalist in finalists) / len(finalists) if finalists else None
