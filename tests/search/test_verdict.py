from __future__ import annotations

from ortnas.export.intervals import Interval
from ortnas.search.comparison import ComparisonRow
from ortnas.search.verdict import as_good, leads, verdict
from tests.search.rows import make_row

SURE, UNSURE, BEHIND = Interval(0.02, 0.01, 0.03), Interval(0.01, -0.01, 0.03), Interval(-0.02, -0.03, -0.01)


def rows(shrunk: Interval, layers: Interval, ready_made: Interval, ready_made_ms: float = 2.0) -> list[ComparisonRow]:
    gains = {"shrunk 2x": shrunk, "layers 2x": layers, "ready-made L3": ready_made}
    return [
        make_row("full model, INT8", "full", measured_ms=4.0),
        make_row("winner 2x", "winner", "2x", 2.0, gains),
        make_row("shrunk 2x", "shrunk", "2x", 2.01),
        make_row("layers 2x", "fewer_layers", "2x", 1.8),
        make_row("ready-made L3", "ready_made", None, ready_made_ms),
    ]


def test_a_winner_that_is_surely_better_than_all_is_worth_its_search() -> None:
    compared = rows(SURE, SURE, SURE)
    assert as_good(compared[1], compared) == []
    assert verdict(compared) == "Under 2x the winner is better than every rival of no more latency."
    assert [(lead.rival.name, lead.gain) for lead in leads(compared)] == [
        ("ready-made L3", SURE),
        ("layers 2x", SURE),
        ("shrunk 2x", SURE),
    ]


def test_the_simplest_of_those_that_are_as_good_is_recommended() -> None:
    compared = rows(UNSURE, SURE, UNSURE)
    assert [row.name for row in as_good(compared[1], compared)] == ["ready-made L3", "shrunk 2x"]
    assert verdict(compared) == (
        "Under 2x, ready-made L3 is as good as the winner and takes no search; take it (2.00 ms, the winner 2.00 ms; "
        "score of the winner less its: +0.0100 (-0.0100 to +0.0300))."
    )
    assert "layers 2x is better than the winner" in verdict(rows(UNSURE, BEHIND, SURE))


def test_a_slower_rival_is_none_and_without_rivals_nothing_is_said() -> None:
    assert "better than every rival" in verdict(rows(SURE, SURE, BEHIND, ready_made_ms=2.1))
    slower = [row for row in rows(SURE, SURE, BEHIND, ready_made_ms=2.1) if row.kind not in ("shrunk", "fewer_layers")]
    assert verdict(slower) == "Under 2x no rival that can be compared is as fast as the winner."
    assert verdict(slower[:2]) == ""
