"""What differences of scores some texts can show, and how that is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ortnas.export.part import Outputs, Part
from ortnas.search.intervals import score_intervals


@dataclass(frozen=True)
class PartResolution:
    """Half the 95 % interval of a difference of scores of a metric on so many texts."""

    metric: str
    texts: int
    half_width: float

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PartResolution:
        return cls(str(document["metric"]), int(document["texts"]), float(document["half_width"]))


@dataclass(frozen=True)
class ScoreResolution:
    """Of the search part, by what candidates are ranked by, and of the report part, by what they are reported by."""

    search: PartResolution
    report: PartResolution

    @property
    def reported_on_search(self) -> float:
        """Half the 95 % interval, on the search part, of what is reported."""
        return self.report.half_width * math.sqrt(self.report.texts / self.search.texts)

    @property
    def sentence(self) -> str:
        search, report = self.search, self.report
        return (
            f"differences of {_words(search)} below {_figure(search)} may be chance on the search part's "
            f"{search.texts} texts, of {_words(report)} below {_figure(report)} on the report part's {report.texts} "
            f"(half the paired 95 % interval between the full model and a mid-size subnet)"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScoreResolution:
        return cls(PartResolution.from_json(document["search"]), PartResolution.from_json(document["report"]))


def half_width(metric: str, first: Outputs, second: Outputs, part: Part) -> float:
    """Of the paired 95 % interval of the difference between two models' scores.

    Models that answer alike do not show that others would: one text in so many is the least that can differ.
    """
    difference = score_intervals(metric, {"first": first, "second": second}, part, "first")["second"].difference
    return (difference.high - difference.low) / 2 or 1 / part.size


def _words(part: PartResolution) -> str:
    return part.metric.replace("_", " ")


def _figure(part: PartResolution) -> str:
    return f"{part.half_width:.2g}"
