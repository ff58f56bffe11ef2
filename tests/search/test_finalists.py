from __future__ import annotations

from collections.abc import Sequence

import pytest

from ortnas.bench.estimates import AnchorLatency, Timing
from ortnas.bench.timing import Samples
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.search.candidate import Candidate
from ortnas.search.finalists import Finalist, LatencyLimit, choose_winner, hit_rate, judge


def timing(ms: float, noise_ms: float = 0.0, tail_ms: float = 0.0) -> Timing:
    """Samples around ms; every tenth takes ``tail_ms`` longer."""
    samples = tuple(int((ms + noise_ms * ((row % 11) / 5 - 1) + tail_ms * (row % 10 == 9)) * 1e6) for row in range(110))
    return Timing((Samples((samples,), ((1_000_000,) * 110,)),), AnchorLatency((1.0,), (1.0,)))


def candidate(name: int, score: float, predicted_ms: float = 1.0) -> Candidate:
    return Candidate(subnet(name), (name,), predicted_ms, predicted_ms, score)


def subnet(name: int) -> Subnet:
    return Subnet(1 + name, (Layer(0, 1, 1, 1),))


def by_key(*timings: list[Timing]) -> dict[str, list[Timing]]:
    """Timings of the candidates of names 0, 1, ..."""
    return {subnet(name).key: visits for name, visits in enumerate(timings)}


def finalists(rows: Sequence[tuple[float, float]], budget_ms: float = 5.0) -> list[Finalist]:
    """(score, measured ms) each."""
    candidates = [candidate(name, score) for name, (score, _) in enumerate(rows)]
    timings = by_key(*([timing(ms)] for _, ms in rows))
    return judge(candidates, timings, [LatencyLimit(budget_ms)])


def name_of(winner: Finalist | None) -> int:
    assert winner is not None
    return winner.candidate.genome[0]


def test_the_best_measured_within_the_budget_wins_whatever_was_predicted() -> None:
    candidates = [candidate(0, 0.9, predicted_ms=1.0), candidate(1, 0.8, predicted_ms=9.0), candidate(2, 0.7)]
    timings = by_key([timing(5.1)], [timing(4.9)], [timing(2.0)])
    judged = judge(candidates, timings, [LatencyLimit(5.0)])
    assert [finalist.meets_budget for finalist in judged] == [False, True, True]
    assert name_of(choose_winner(judged)) == 1


def test_a_median_within_the_budget_by_luck_is_a_hit_but_no_winner() -> None:
    (finalist,) = judge([candidate(0, 0.9)], by_key([timing(4.99, noise_ms=0.5)]), [LatencyLimit(5.0)])
    assert finalist.measured_ms <= 5.0
    assert finalist.is_hit
    assert not finalist.meets_budget
    assert choose_winner([finalist]) is None


def test_no_winner_where_all_exceed_the_budget_and_unmeasured_ones_are_left_out() -> None:
    judged = judge([candidate(0, 0.9), candidate(1, 0.8)], by_key([timing(6.0)]), [LatencyLimit(5.0)])
    assert len(judged) == 1
    assert choose_winner(judged) is None
    assert judged[0].measured_ms == timing(6.0).latency_ms


def test_a_budget_on_the_95th_percentile_looks_at_the_tail() -> None:
    slow_tail, steady = timing(4.0, noise_ms=0.02, tail_ms=3.0), timing(4.8, noise_ms=0.02)
    candidates, timings = [candidate(0, 0.9), candidate(1, 0.8)], by_key([slow_tail], [steady])
    assert name_of(choose_winner(judge(candidates, timings, [LatencyLimit(5.0)]))) == 0
    judged = judge(candidates, timings, [LatencyLimit(5.0, percent=95)])
    assert name_of(choose_winner(judged)) == 1
    assert judged[0].measured_ms == pytest.approx(7.0, abs=0.1)


def test_every_target_has_to_keep_its_budget() -> None:
    limits = [LatencyLimit(5.0, target="laptop"), LatencyLimit(20.0, target="phone")]
    timings = by_key([timing(4.0), timing(21.0)], [timing(4.5), timing(15.0)])
    judged = judge([candidate(0, 0.9), candidate(1, 0.8)], timings, limits)
    assert name_of(choose_winner(judged)) == 1
    assert judged[0].targets == {"laptop": pytest.approx(4.0), "phone": pytest.approx(21.0)}


def test_the_fastest_within_a_tolerated_loss_wins_by_that_rule() -> None:
    judged = finalists([(0.95, 6.0), (0.90, 4.8), (0.89, 3.0), (0.87, 2.0)])
    assert name_of(choose_winner(judged, "fastest", tolerance=0.0)) == 1
    assert name_of(choose_winner(judged, "fastest", tolerance=0.01)) == 2
    assert name_of(choose_winner(judged, "fastest", tolerance=0.03)) == 3


def test_the_knee_is_where_more_time_begins_to_bring_little() -> None:
    judged = finalists([(0.90, 4.8), (0.895, 3.0), (0.89, 2.0), (0.70, 1.0), (0.60, 4.0)])
    assert name_of(choose_winner(judged, "knee")) == 2
    assert name_of(choose_winner(finalists([(0.9, 3.0)]), "knee")) == 0


def test_the_hit_rate_is_the_share_measured_within_the_budget() -> None:
    assert hit_rate(finalists([(0.9, 4.0), (0.8, 5.5), (0.7, 3.0), (0.6, 4.9)])) == 0.75
    assert hit_rate([]) is None
