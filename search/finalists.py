"""From scored candidates to a winner: re-measure the best, drop what exceeds the budget, keep the best of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.estimates import Timing
from search.evolution import Candidate


@dataclass(frozen=True)
class Finalist:
    """A candidate with its measured latency.

    ``meets_budget`` is decided by the measurement alone: the confidence bound of its median is within the budget, so
    that a winner is not one that happened to be measured in a lucky moment.
    """

    candidate: Candidate
    timing: Timing
    meets_budget: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "genome": list(self.candidate.genome),
            "score": self.candidate.score,
            "predicted_ms": self.candidate.latency_ms,
            "upper_ms": self.candidate.upper_ms,
            "measured_ms": self.timing.latency_ms,
            "spread_ms": self.timing.spread_ms,
            "meets_budget": self.meets_budget,
        }


def judge(
    candidates: Sequence[Candidate], timings: Mapping[tuple[int, ...], Timing], budget_ms: float
) -> list[Finalist]:
    """Candidates with timings, best score first."""
    finalists = [
        Finalist(candidate, timing, timing.upper_ms <= budget_ms)
        for candidate in candidates
        if (timing := timings.get(candidate.genome)) is not None
    ]
    return sorted(finalists, key=lambda finalist: (-finalist.candidate.score, finalist.timing.latency_ms))


def choose_winner(finalists: Sequence[Finalist]) -> Finalist | None:
    """The best score among those measured within the budget; None where there is none."""
    return next((finalist for finalist in finalists if finalist.meets_budget), None)
