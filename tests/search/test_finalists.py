from __future__ import annotations

from bench.estimates import Reference, Timing
from bench.timing import Samples
from search.evolution import Candidate
from search.finalists import choose_winner, judge


def timing(ms: float, noise_ms: float = 0.0) -> Timing:
    samples = tuple(int((ms + noise_ms * ((row % 11) / 5 - 1)) * 1e6) for row in range(44))
    return Timing((Samples((samples,), ((1_000_000,) * 44,)),), Reference((1.0,), (1.0,)))


def candidate(name: int, score: float, predicted_ms: float = 1.0) -> Candidate:
    return Candidate((name,), predicted_ms, predicted_ms, score)


def test_the_best_measured_within_the_budget_wins_whatever_was_predicted() -> None:
    candidates = [candidate(0, 0.9, predicted_ms=1.0), candidate(1, 0.8, predicted_ms=9.0), candidate(2, 0.7)]
    finalists = judge(candidates, {(0,): timing(5.1), (1,): timing(4.9), (2,): timing(2.0)}, budget_ms=5.0)
    assert [finalist.meets_budget for finalist in finalists] == [False, True, True]
    winner = choose_winner(finalists)
    assert winner is not None
    assert winner.candidate.genome == (1,)


def test_a_median_within_the_budget_by_luck_is_not_enough() -> None:
    (finalist,) = judge([candidate(0, 0.9)], {(0,): timing(4.99, noise_ms=0.5)}, budget_ms=5.0)
    assert finalist.timing.latency_ms <= 5.0
    assert not finalist.meets_budget


def test_no_winner_where_all_exceed_the_budget_and_unmeasured_ones_are_left_out() -> None:
    finalists = judge([candidate(0, 0.9), candidate(1, 0.8)], {(0,): timing(6.0)}, budget_ms=5.0)
    assert len(finalists) == 1
    assert choose_winner(finalists) is None
    assert finalists[0].to_json()["measured_ms"] == finalists[0].timing.latency_ms
