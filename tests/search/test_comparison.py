from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ortnas.export.intervals import Interval
from ortnas.search.comparison import Comparison, rivals_of
from tests.search.rows import make_row

ROWS = (
    make_row("full model, INT8", "full"),
    make_row("winner 2x, INT8", "winner", "2x", gains={"evenly shrunk 2x, INT8": Interval(0.01, -0.01, 0.03)}),
    make_row("evenly shrunk 2x, INT8", "shrunk", "2x"),
    make_row("evenly shrunk 3x, INT8", "shrunk", "3x"),
    make_row("ready-made L3, INT8", "ready_made"),
)


def test_a_comparison_reads_back_as_it_was_written() -> None:
    comparison = Comparison(ROWS, "accuracy", inputs="x")
    document = json.loads(json.dumps(comparison.to_json()))
    assert Comparison.from_json(document) == comparison
    document["rows"][1]["kind"] = "loser"
    with pytest.raises(ValueError, match="kind 'loser' is none of full, winner"):
        Comparison.from_json(document)


def test_rivals_are_those_of_the_budget_and_of_every_budget_at_the_same_precision() -> None:
    other = replace(ROWS[4], name="ready-made L3, FP32", precision="fp32")
    assert [row.name for row in rivals_of(ROWS[1], (*ROWS, other))] == [
        "ready-made L3, INT8",
        "evenly shrunk 2x, INT8",
    ]
