"""Rows of a comparison, made up."""

from __future__ import annotations

from collections.abc import Mapping

from ortnas.export.intervals import Interval
from ortnas.search.comparison import ComparisonRow, Kind
from tests.networks import make_dimensions


def make_row(
    name: str,
    kind: Kind,
    budget: str | None = None,
    measured_ms: float = 2.0,
    gains: Mapping[str, Interval] = {},
    score: float = 0.9,
) -> ComparisonRow:
    return ComparisonRow(
        name=name,
        subnet=make_dimensions("classification").full_subnet,
        precision="int8",
        measured_ms=measured_ms,
        spread_ms=0.04,
        p95_ms=measured_ms * 1.1,
        speed_up=3.0 / measured_ms,
        predicted_ms=None,
        size_bytes=12_345_678,
        model_digest="0" * 64,
        scores={"accuracy": score},
        kind=kind,
        budget=budget,
        gains=gains,
    )
