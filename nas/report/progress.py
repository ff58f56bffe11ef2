"""Charts of a search over its scored candidates: hypervolume, and the best score so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ortnas.nas.report.charts import COLOURS, Chart, axis, plain, words
from ortnas.nas.report.front_charts import label_of, metric_of, shown_searches
from ortnas.nas.report.record import RunRecord, Search
from ortnas.search.candidate import Candidate
from ortnas.search.front import hypervolume


def progress_chart(record: RunRecord) -> Chart | None:
    """Hypervolume over the candidates in the order in which they were scored."""
    searches = [search for search in shown_searches(record) if search.precision == record.precision]
    in_order = _in_order(record, searches)
    candidates = [candidate for search in in_order for candidate in search.candidates]
    if sum(not candidate.estimated for candidate in candidates) < 2:
        return None
    slowest = max(
        [candidate.latency_ms for candidate in candidates] + [search.reference_ms or 0.0 for search in in_order]
    )
    scores = [candidate.score for candidate in candidates if not candidate.estimated]
    worst, best = min(scores), max(scores)
    volumes = hypervolumes(candidates, slowest, worst, best)
    ends = list(accumulate(len(search.candidates) for search in in_order))
    traces: list[dict[str, Any]] = []
    for search, end in zip(in_order, ends, strict=True):
        number = searches.index(search)
        start = end - len(search.candidates)
        # Each part begins where the candidate before it ends, so that the line has no gap.
        first = max(0, start - 1)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plain(label_of(search, record)),
                "x": list(range(first + 1, end + 1)),
                "y": volumes[first:end],
                "line": {"color": COLOURS[number % len(COLOURS)], "width": 2.5, "shape": "hv"},
                "hovertemplate": "after %{x} scored: %{y:.3f}<extra></extra>",
            }
        )
    return Chart(
        key="progress",
        title="Search progress",
        caption="Hypervolume of the scored candidates by predicted latency: 0 at the full model's latency and the "
        "lowest score seen, 1 at no latency and the highest. One colour per budget, in the order of the searches.",
        description=f"Line chart of the hypervolume, from {volumes[0]:.3f} after the first scored subnet to "
        f"{volumes[-1]:.3f} after {len(volumes)}",
        traces=traces,
        layout={"xaxis": axis("scored candidates", rangemode="tozero"), "yaxis": axis("hypervolume")},
        columns=("budget", "scored", "hypervolume at the end", f"best {words(metric_of(in_order))}"),
        rows=[
            (
                label_of(search, record),
                str(len(search.candidates)),
                f"{volumes[end - 1]:.4f}",
                f"{best_of(search):.4f}",
            )
            for search, end in zip(in_order, ends, strict=True)
        ],
    )


def best_chart(record: RunRecord) -> Chart | None:
    """Best score so far in every search."""
    searches = [
        search
        for search in shown_searches(record)
        if search.precision == record.precision and any(not candidate.estimated for candidate in search.candidates)
    ]
    if not searches:
        return None
    metric = words(metric_of(searches))
    traces: list[dict[str, Any]] = []
    for number, search in enumerate(searches):
        best = list(accumulate((candidate.score for candidate in search.candidates if not candidate.estimated), max))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plain(label_of(search, record)),
                "x": list(range(1, len(best) + 1)),
                "y": best,
                "line": {"color": COLOURS[number % len(COLOURS)], "width": 2.5, "shape": "hv"},
                "hovertemplate": "after %{x} scored: %{y:.4f}<extra></extra>",
            }
        )
    ends = ", ".join(f"{label_of(search, record)}: {best_of(search):.4f}" for search in searches)
    return Chart(
        key="best",
        title="Best score under each budget",
        caption="Of the subnets scored for the budget itself; a search also knows those of the searches before it.",
        description=f"Line chart of the best {metric} so far; at the end {ends}",
        traces=traces,
        layout={"xaxis": axis("scored candidates", rangemode="tozero"), "yaxis": axis(f"best {metric}")},
        columns=(),
        rows=[],
    )


def best_of(search: Search) -> float:
    """The best score of a search, NaN where all are estimates."""
    return max((candidate.score for candidate in search.candidates if not candidate.estimated), default=math.nan)


def _in_order(record: RunRecord, searches: list[Search]) -> list[Search]:
    """By the events that ended them; those without candidate come last."""
    ended = [str(event.get("budget")) for event in record.events if event.get("stage") == "search"]
    last = {budget: position for position, budget in enumerate(ended)}
    return sorted(searches, key=lambda search: last.get(search.budget, len(ended)))


def hypervolumes(candidates: Sequence[Candidate], slowest_ms: float, worst: float, best: float) -> list[float]:
    """After each candidate, in units of the box from (0 ms, ``best``) to the reference point (``slowest_ms``,
    ``worst``); estimated scores add nothing."""
    scores = np.array([worst if candidate.estimated else candidate.score for candidate in candidates])
    latency_ms = np.array([candidate.latency_ms for candidate in candidates])
    box = (best - worst or 1.0) * slowest_ms
    reference = (worst, slowest_ms)
    return [hypervolume(scores[:end], latency_ms[:end], reference) / box for end in range(1, len(candidates) + 1)]
