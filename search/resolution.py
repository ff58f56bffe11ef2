"""What differences of scores some texts can show, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ortnas.export.metrics import Outputs, Part
from ortnas.search.intervals import score_intervals


def resolution_sentence(resolution: Mapping[str, Any]) -> str:
    search, report = resolution["search"], resolution["report"]
    return (
        f"differences of {_words(search)} below {_figure(search)} may be chance on the search part's {search['texts']} "
        f"texts, of {_words(report)} below {_figure(report)} on the report part's {report['texts']} (half the paired "
        f"95 % interval between the full model and a mid-size subnet)"
    )


def half_width(metric: str, first: Outputs, second: Outputs, part: Part) -> float:
    """Of the paired 95 % interval of the difference between two models' scores.

    Models that answer alike do not show that others would: one text in so many is the least that can differ.
    """
    difference = score_intervals(metric, {"first": first, "second": second}, part, "first")["second"]["difference"]
    return (difference.high - difference.low) / 2 or 1 / len(part.encoded)


def _words(entry: Mapping[str, Any]) -> str:
    return str(entry["metric"]).replace("_", " ")


def _figure(entry: Mapping[str, Any]) -> str:
    return f"{entry['half_width']:.2g}"
