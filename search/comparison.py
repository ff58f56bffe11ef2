"""Models side by side: what was measured and scored of each, as ``comparison-*.json`` keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ortnas.bench.timing import Samples
from ortnas.export.intervals import Interval, ScoreIntervals
from ortnas.nas.architecture.subnet import Subnet

Kind = Literal["full", "winner", "ready_made", "fewer_layers", "shrunk", "random", "other"]
# What a winner has to beat, the simplest first: checkpoints that the user named, and subnets that nobody searched.
RIVALS: dict[Kind, str] = {
    "ready_made": "ready-made",
    "fewer_layers": "fewer layers",
    "shrunk": "evenly shrunk",
    "random": "best of random",
}


@dataclass(frozen=True)
class ComparisonRow:
    """One model, timed in turn with the full one and scored on the report parts.

    ``size_bytes`` and ``model_digest`` (SHA-256) are of the bytes that were timed and scored. ``speed_up`` is over the
    full model at the run's precision. ``scores`` are by metric; ``intervals`` are of the run's metric alone, their
    difference to the full model. ``null_threshold``: when it gives no answer to a question; None where every question
    has one. ``label_thresholds``: from which probability on a text has each label, where it may have several.
    ``budget`` is what a model won, or is a rival under; None for those of every budget or of none. ``gains``, of a
    winner: by the name of each of its rivals, how far its score of the run's metric lies above the rival's.
    """

    name: str
    subnet: Subnet
    precision: str
    measured_ms: float
    spread_ms: float
    p95_ms: float
    speed_up: float
    predicted_ms: float | None
    size_bytes: int
    model_digest: str
    scores: Mapping[str, float]
    intervals: Mapping[str, ScoreIntervals] = field(default_factory=dict)
    null_threshold: float | None = None
    label_thresholds: tuple[float, ...] | None = None
    visits: tuple[Samples, ...] = ()
    kind: Kind = "other"
    budget: str | None = None
    gains: Mapping[str, Interval] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "budget": self.budget,
            "subnet": self.subnet.to_json(),
            "precision": self.precision,
            "measured_ms": self.measured_ms,
            "spread_ms": self.spread_ms,
            "p95_ms": self.p95_ms,
            "speed_up": self.speed_up,
            "predicted_ms": self.predicted_ms,
            "size_bytes": self.size_bytes,
            "model_digest": self.model_digest,
            "scores": dict(self.scores),
            "intervals": {metric: both.to_json() for metric, both in self.intervals.items()},
            "gains": {name: interval.to_json() for name, interval in self.gains.items()},
            "null_threshold": self.null_threshold,
            "label_thresholds": self.label_thresholds,
            "visits": [samples.to_json() for samples in self.visits],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ComparisonRow:
        """Raises ValueError for an unknown kind, and what odd documents raise."""
        predicted_ms, null_threshold = document["predicted_ms"], document["null_threshold"]
        label_thresholds = document.get("label_thresholds")
        kind, budget = document["kind"], document["budget"]
        if kind not in get_args(Kind):
            raise ValueError(f"kind {kind!r} is none of {', '.join(get_args(Kind))}")
        return cls(
            str(document["name"]),
            Subnet.from_json(document["subnet"]),
            str(document["precision"]),
            float(document["measured_ms"]),
            float(document["spread_ms"]),
            float(document["p95_ms"]),
            float(document["speed_up"]),
            None if predicted_ms is None else float(predicted_ms),
            int(document["size_bytes"]),
            str(document["model_digest"]),
            {str(name): float(score) for name, score in document["scores"].items()},
            {str(metric): ScoreIntervals.from_json(both) for metric, both in document["intervals"].items()},
            None if null_threshold is None else float(null_threshold),
            None if label_thresholds is None else tuple(map(float, label_thresholds)),
            tuple(map(Samples.from_json, document["visits"])),
            kind,
            None if budget is None else str(budget),
            {str(name): Interval.from_json(interval) for name, interval in document["gains"].items()},
        )


def rivals_of(winner: ComparisonRow, rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The rivals under its budget and those under every budget, at its precision, the simplest kind first."""
    rivals = [
        row
        for row in rows
        if row.kind in RIVALS and row.budget in (None, winner.budget) and row.precision == winner.precision
    ]
    return sorted(rivals, key=lambda row: list(RIVALS).index(row.kind))


@dataclass(frozen=True)
class Comparison:
    """``rows`` begin with the full models. ``metric`` is the run's; ``inputs`` names all that the rows depend on.

    ``reference_ms`` is what the full model took when the predictor's timings were made, ``target`` where the rows were
    timed.
    """

    rows: tuple[ComparisonRow, ...]
    metric: str
    inputs: str = ""
    reference_ms: float | None = None
    target: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": [row.to_json() for row in self.rows],
            "metric": self.metric,
            "inputs": self.inputs,
            "reference_ms": self.reference_ms,
            "target": self.target,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Comparison:
        """Raises ValueError for one of no rows, and what odd documents raise."""
        rows = tuple(map(ComparisonRow.from_json, document["rows"]))
        if not rows:
            raise ValueError("it compares nothing")
        reference_ms = document["reference_ms"]
        return cls(
            rows,
            str(document["metric"]),
            str(document["inputs"]),
            None if reference_ms is None else float(reference_ms),
            document["target"],
        )
