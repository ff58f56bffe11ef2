"""How sure a score is: a figure on all texts, and where it lies in 95 % of samples of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A figure on all texts and where it lies in 95 % of the samples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"

    @property
    def signed(self) -> str:
        """As a difference is written."""
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Interval:
        return cls(float(document["value"]), float(document["low"]), float(document["high"]))


@dataclass(frozen=True)
class ScoreIntervals:
    """A model's score, and its difference to another model's on the same samples of texts."""

    score: Interval
    difference: Interval

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScoreIntervals:
        return cls(Interval.from_json(document["score"]), Interval.from_json(document["difference"]))
