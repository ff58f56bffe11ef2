"""The chart of what a search scored: candidates, Pareto front, budgets, finalists and winners as measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ortnas.nas.report.charts import (
    COLOURS,
    MUTED,
    STRONG,
    SYMBOLS,
    Chart,
    accuracy_interval,
    axis,
    describe_lines,
    hover,
    label_rows,
    ms,
    plain,
    vertical,
    words,
)
from ortnas.nas.report.record import RunRecord, Search
from ortnas.search.candidate import Candidate
from ortnas.search.finalists import Finalist
from ortnas.search.front import pareto_rows


def label_of(search: Search, record: RunRecord) -> str:
    """Its budget, with the precision where the run's is another."""
    return search.budget if search.precision == record.precision else f"{search.budget} {search.precision}"


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats by score and predicted latency, fastest first; estimated scores do not count."""
    full = [candidate for candidate in candidates if not candidate.estimated]
    if not full:
        return []
    scores, latency_ms = np.array([(candidate.score, candidate.latency_ms) for candidate in full]).T
    return [full[row] for row in pareto_rows(scores, latency_ms)]


def shown_searches(record: RunRecord) -> list[Search]:
    """Searches at the run's precision, or at another where there are none, whose scores are of one metric: they fit one
    pair of axes."""
    begun = [search for search in record.searches if search.candidates]
    own = [search for search in begun if search.precision == record.precision]
    shown = own or [search for search in begun if search.precision == begun[0].precision]
    return [search for search in shown if search.metric in (shown[0].metric, "score")]


def metric_of(searches: Sequence[Search]) -> str:
    return next((search.metric for search in searches if search.metric != "score"), "score")


def front_chart(record: RunRecord) -> Chart | None:
    """Every scored candidate, the Pareto front, budgets, finalists and winners as measured."""
    searches = shown_searches(record)
    if not searches:
        return None
    metric = metric_of(searches)
    count = record.data.get("counts", {}).get("search")
    front = pareto([candidate for search in searches for candidate in search.candidates])
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": [candidate.latency_ms for candidate in front],
            "y": [candidate.score for candidate in front],
            "line": {"color": MUTED, "width": 1.5, "shape": "hv"},
            "hoverinfo": "skip",
        }
    ]
    lines: list[tuple[float, str, str]] = []
    for number, search in enumerate(searches):
        colour, label = COLOURS[number % len(COLOURS)], label_of(search, record)
        traces.append(_candidates(search, label, metric, count, colour, SYMBOLS[number % len(SYMBOLS)]))
        traces += _finalists(search, label, metric, colour)
        if search.budget_ms is not None:
            lines.append((search.budget_ms, label, colour))
    traces += _baselines(record, searches, metric)
    reference = next((search.reference_ms for search in searches if search.reference_ms is not None), None)
    if reference is not None:
        lines.append((reference, f"full {searches[0].precision.upper()}", STRONG))
    rows = label_rows([at for at, _, _ in lines], 0.11 * max([at for at, _, _ in lines], default=1.0))
    shapes, notes = (
        zip(*(vertical(*line, row) for line, row in zip(lines, rows, strict=True)), strict=True) if lines else ((), ())
    )
    total = sum(len(search.candidates) for search in searches)
    estimated = any(candidate.estimated for search in searches for candidate in search.candidates)
    winners = [(label_of(search, record), search.winner) for search in searches if search.winner is not None]
    return Chart(
        key="front",
        title="Every subnet that was scored",
        caption=f"{total} subnets by predicted latency, scored ({words(metric)}) on the search part"
        + (f" of {count:,} texts" if count else "")
        + (". Open marks: scoring ended early, the score is an estimate" if estimated else "")
        + ". Marks with a dark ring are finalists as they were measured; stars are winners. Dashed lines are budgets"
        + (" and the full model's latency." if reference is not None else "."),
        description=f"Scatter plot of {total} scored subnets: latency in ms against {words(metric)}; the Pareto front "
        f"has {len(front)} points"
        + "".join(f"; winner under {label}: {ms(winner.measured_ms)}, {winner.score:.4f}" for label, winner in winners),
        traces=traces,
        layout={
            "xaxis": axis("latency, ms"),
            "yaxis": axis(f"{words(metric)}, search part"),
            "shapes": list(shapes),
            "annotations": list(notes),
            "margin": {"t": 34 + 16 * max(rows, default=0)},
        },
        columns=("budget", "subnet", "predicted ms", "upper bound ms", words(metric)),
        rows=[
            (
                label_of(search, record),
                candidate.subnet.describe(),
                f"{candidate.latency_ms:.2f}",
                f"{candidate.upper_ms:.2f}",
                f"{candidate.score:.4f}" + " (estimated)" * candidate.estimated,
            )
            for search in searches
            for candidate in sorted(search.candidates, key=lambda item: -item.score)
        ],
    )


def _candidates(search: Search, label: str, metric: str, count: int | None, colour: str, symbol: str) -> dict[str, Any]:
    def text(candidate: Candidate) -> str:
        interval = accuracy_interval(metric, candidate.score, count)
        score = f"{words(metric)} {candidate.score:.4f}"
        if candidate.estimated:
            return hover(
                candidate.subnet.key, *describe_lines(candidate.subnet), f"{score} expected: scoring ended early"
            )
        return hover(
            candidate.subnet.key,
            *describe_lines(candidate.subnet),
            f"predicted {candidate.latency_ms:.2f} ms, at most {candidate.upper_ms:.2f} ms",
            score if interval is None else f"{score} ({interval[0]:.4f} to {interval[1]:.4f})",
        )

    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"scored for {plain(label)}",
        "x": [candidate.latency_ms for candidate in search.candidates],
        "y": [candidate.score for candidate in search.candidates],
        "marker": {
            "color": colour,
            "symbol": [f"{symbol}-open" if candidate.estimated else symbol for candidate in search.candidates],
            "size": 7,
            "opacity": 0.5,
        },
        "hovertext": [text(candidate) for candidate in search.candidates],
        "hoverinfo": "text",
    }


def _finalists(search: Search, label: str, metric: str, colour: str) -> list[dict[str, Any]]:
    def text(finalist: Finalist) -> str:
        return hover(
            f"{'winner' if finalist == search.winner else 'finalist'} under {label}",
            *describe_lines(finalist.subnet),
            f"measured {finalist.measured_ms:.2f} ± {finalist.spread_ms:.2f} ms, "
            f"predicted {finalist.candidate.latency_ms:.2f} ms",
            f"{words(metric)} {finalist.score:.4f}",
            "within the budget" if finalist.meets_budget else "over the budget",
        )

    def trace(finalists: Sequence[Finalist], name: str, marker: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [finalist.measured_ms for finalist in finalists],
            "y": [finalist.score for finalist in finalists],
            "marker": {"color": colour, "line": {"color": STRONG, "width": 1.5}, **marker},
            "hovertext": [text(finalist) for finalist in finalists],
            "hoverinfo": "text",
            "showlegend": False,
            **more,
        }

    others = [finalist for finalist in search.finalists if finalist != search.winner]
    traces = [trace(others, "finalists", {"symbol": "circle", "size": 9})] if others else []
    if search.winner is not None:
        bar = {"array": [search.winner.spread_ms], "color": STRONG, "thickness": 1.5}
        traces.append(trace([search.winner], "winner", {"symbol": "star", "size": 17}, error_x=bar))
    return traces


def _baselines(record: RunRecord, searches: Sequence[Search], metric: str) -> list[dict[str, Any]]:
    """The full model, and subnets with all layers alike, where they happen to be scored."""
    full = [(search.reference_ms, search.full_score) for search in searches]
    points = [(at, score) for at, score in full if at is not None and score is not None]
    traces = []
    if points:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "full model",
                "x": [points[0][0]],
                "y": [points[0][1]],
                "marker": {"color": STRONG, "symbol": "diamond", "size": 12},
                "hovertext": [hover("full model", ms(points[0][0]), f"{words(metric)} {points[0][1]:.4f}")],
                "hoverinfo": "text",
            }
        )
    layered = record.space is not None and set(record.space.uniform) < {"num_heads", "head_size", "ffn_size"}
    alike = [candidate for search in searches for candidate in search.candidates if layered and is_uniform(candidate)]
    if alike:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "all layers alike",
                "x": [candidate.latency_ms for candidate in alike],
                "y": [candidate.score for candidate in alike],
                "marker": {"color": STRONG, "symbol": "square-open", "size": 12, "line": {"width": 1.5}},
                "hoverinfo": "skip",
            }
        )
    return traces


def is_uniform(candidate: Candidate) -> bool:
    sizes = {(layer.num_heads, layer.head_size, layer.ffn_size) for layer in candidate.subnet.layers}
    return len(sizes) == 1 and len(candidate.subnet.layers) > 1
