"""What a search ended with, made up."""

from __future__ import annotations

from dataclasses import replace

from ortnas.export.intervals import Interval, ScoreIntervals
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.search.budget import Budget
from ortnas.search.candidate import Candidate
from ortnas.search.finalists import Finalist
from ortnas.search.resolution import PartResolution, ScoreResolution
from ortnas.search.result import SearchResult


def make_result(
    space: SearchSpace, winner: Subnet, budget: str = "2x", scored_with: str = "context", score: float = 0.85
) -> SearchResult:
    """Two candidates, both finalists, of which ``winner`` is within the budget of 1.6 ms."""
    candidates = tuple(
        Candidate.of(space, space.encode(subnet), 1.5, 1.6, candidate_score, estimated)
        for subnet, candidate_score, estimated in ((winner, 0.9, False), (space.smallest, 0.25, True))
    )
    report = ScoreIntervals(Interval(0.8, 0.7, 0.9), Interval(-0.1, -0.2, 0.0))
    finalists = (
        Finalist(replace(candidates[0], score=score), 1.55, 0.02, True, True, {"phone": 3.0}, report),
        Finalist(replace(candidates[1], estimated=False), 1.7, 0.02, False, False, {}, report),
    )
    return SearchResult(
        inputs="inputs",
        scored_with=scored_with,
        budget=Budget.parse(budget),
        budget_ms=1.6,
        percentile=50,
        reference_ms=3.2,
        metric="accuracy",
        resolution=ScoreResolution(PartResolution("accuracy", 256, 0.01), PartResolution("accuracy", 872, 0.005)),
        rule="best",
        candidates=candidates,
        finalists=finalists,
        winner=finalists[0],
    )
