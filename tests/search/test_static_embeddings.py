from __future__ import annotations

from dataclasses import replace

import pytest

from ortnas.search.comparison import ComparisonRow
from ortnas.search.static_embeddings import below_static, static_floor
from tests.search.rows import make_row


def rows(winner: float) -> list[ComparisonRow]:
    scores = {"full model, FP32": 0.80, "full model, INT8": 0.79, "winner 4x": winner, "ready-made L3": 0.1}
    kinds = {"winner 4x": "winner", "ready-made L3": "ready_made"}
    return [
        replace(make_row(name, kinds.get(name, "full")), scores={"spearman": score})  # type: ignore[arg-type]
        for name, score in scores.items()
    ]


def test_the_floor_is_a_share_of_the_better_full_model() -> None:
    assert static_floor(rows(0.7)) == pytest.approx(0.80 * 73.24 / 78.90)


def test_winners_that_static_embeddings_equal_are_named() -> None:
    assert below_static(rows(0.75)) == ""
    assert below_static(rows(0.74)).startswith("winner 4x: below 0.7426, the 93% of the full model")


def test_where_people_scored_nothing_there_is_no_floor() -> None:
    assert static_floor([make_row("full model, INT8", "full")]) is None
    assert below_static([make_row("full model, INT8", "full"), make_row("winner 2x", "winner")]) == ""
