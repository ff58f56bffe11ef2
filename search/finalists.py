"""From scored candidates to a winner: measured again, out if over a budget, and chosen by a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ortnas.bench.estimates import Timing
from ortnas.search.evolution import Candidate
from ortnas.search.front import knee, pareto_rows

Rule = Literal["best", "fastest", "knee"]
# Scores are sums of floats; a loss of exactly the tolerance is tolerated.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Budget:
    """What a measured latency has to stay within on one target: its median, or its 95th percentile."""

    ms: float
    percent: Literal[50, 95] = 50
    target: str = ""

    def measured_ms(self, timing: Timing) -> float:
        return timing.percentile_ms(self.percent)

    def upper_ms(self, timing: Timing) -> float:
        """A 95 % confidence bound; a high percentile is taken to be as unsure as the median."""
        return self.measured_ms(timing) * timing.upper_ms / timing.latency_ms


@dataclass(frozen=True)
class Finalist:
    """A candidate with its measured latency, one timing for each budget.

    ``meets_budget`` is decided by the measurement alone: the confidence bound is within every budget, so that a winner
    is not one that happened to be measured in a lucky moment.
    """

    candidate: Candidate
    timings: tuple[Timing, ...]
    budgets: tuple[Budget, ...]

    @property
    def timing(self) -> Timing:
        """On the first target."""
        return self.timings[0]

    @property
    def measured_ms(self) -> float:
        """What the first budget is about."""
        return self.budgets[0].measured_ms(self.timing)

    @property
    def meets_budget(self) -> bool:
        return all(budget.upper_ms(timing) <= budget.ms for budget, timing in self._pairs)

    @property
    def is_hit(self) -> bool:
        """Whether what was measured is within every budget, as had been predicted."""
        return all(budget.measured_ms(timing) <= budget.ms for budget, timing in self._pairs)

    @property
    def _pairs(self) -> list[tuple[Budget, Timing]]:
        return list(zip(self.budgets, self.timings, strict=True))

    def to_json(self) -> dict[str, Any]:
        return {
            "genome": list(self.candidate.genome),
            "score": self.candidate.score,
            "predicted_ms": self.candidate.latency_ms,
            "upper_ms": self.candidate.upper_ms,
            "measured_ms": self.measured_ms,
            "spread_ms": self.timing.spread_ms,
            "meets_budget": self.meets_budget,
            "is_hit": self.is_hit,
            "targets": {budget.target: budget.measured_ms(timing) for budget, timing in self._pairs if budget.target},
        }


def judge(
    candidates: Sequence[Candidate],
    timings: Mapping[tuple[int, ...], Sequence[Timing]],
    budgets: Sequence[Budget],
) -> list[Finalist]:
    """Candidates that were timed, best score first; ``timings`` has one for each budget."""
    finalists = [
        Finalist(candidate, tuple(timings[candidate.genome]), tuple(budgets))
        for candidate in candidates
        if candidate.genome in timings
    ]
    return sorted(finalists, key=lambda finalist: (-finalist.candidate.score, finalist.measured_ms))


def choose_winner(finalists: Sequence[Finalist], rule: Rule = "best", tolerance: float = 0.0) -> Finalist | None:
    """One of those measured within the budget, by their scores of the search; None where there is none.

    ``best``: the best score. ``fastest``: the fastest that scores at most ``tolerance`` less than the best. ``knee``:
    where the front of these finalists bends.
    """
    allowed = [finalist for finalist in finalists if finalist.meets_budget]
    if not allowed:
        return None
    by_score = sorted(allowed, key=lambda finalist: (-finalist.candidate.score, finalist.measured_ms))
    if rule == "best":
        return by_score[0]
    if rule == "fastest":
        lowest = by_score[0].candidate.score - tolerance
        tolerated = [one for one in by_score if one.candidate.score >= lowest - _ROUNDING]
        return min(tolerated, key=lambda one: one.measured_ms)
    scores = np.array([one.candidate.score for one in by_score])
    measured_ms = np.array([one.measured_ms for one in by_score])
    front = pareto_rows(scores, measured_ms)
    return by_score[int(front[knee(scores[front], measured_ms[front])])]


def hit_rate(finalists: Sequence[Finalist]) -> float | None:
    """Share of finalists, all predicted to be within the budget, that were measured within it; None of none."""
    return sum(one.is_hit for one in finalists) / len(finalists) if finalists else None
