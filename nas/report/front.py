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
    ms,
    plain,
    spread_labels,
    vertical,
    words,
)
from ortnas.nas.report.record import Measured, RunRecord, Scored, Search
from ortnas.search.front import pareto_rows


def label_of(search: Search, record: RunRecord) -> str:
    """Its budget, with the precision where the run's is another."""
    return search.budget if search.precision == record.precision else f"{search.budget} {search.precision}"


def pareto(candidates: Sequence[Scored]) -> list[Scored]:
    """Those that no other beats by score and predicted latency, fastest first; estimated scores do not count."""
    known = [one for one in candidates if not one.estimated]
    if not known:
        return []
    rows = pareto_rows(np.array([one.score for one in known]), np.array([one.latency_ms for one in known]))
    return [known[row] for row in rows]


def shown_searches(record: RunRecord) -> list[Search]:
    """Searches at the run's precision, or at another where there are none, whose scores are of one metric: they fit one
    pair of axes."""
    found = [search for search in record.searches if search.candidates]
    own = [search for search in found if search.precision == record.precision]
    shown = own or [search for search in found if search.precision == found[0].precision]
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
    front = pareto([one for search in searches for one in search.candidates])
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": [one.latency_ms for one in front],
            "y": [one.score for one in front],
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
    rows = spread_labels([at for at, _, _ in lines], 0.11 * max([at for at, _, _ in lines], default=1.0))
    shapes, notes = (
        zip(*(vertical(*line, row) for line, row in zip(lines, rows, strict=True)), strict=True) if lines else ((), ())
    )
    total = sum(len(search.candidates) for search in searches)
    estimated = any(one.estimated for search in searches for one in search.candidates)
    winners = [(label_of(search, record), search.winner) for search in searches if search.winner is not None]
    return Chart(
        key="front",
        title="Every subnet that was scored",
        caption=f"{total} subnets by predicted latency, scored ({words(metric)}) on the search split"
        + (f" of {count:,} texts" if count else "")
        + (". Open marks: scoring ended early, the score is an estimate" if estimated else "")
        + ". Marks with a dark ring are finalists as they were measured; stars are winners. Dashed lines are budgets"
        + (" and the full model's latency." if reference is not None else "."),
        description=f"Scatter plot of {total} scored subnets: latency in ms against {words(metric)}; the Pareto front "
        f"has {len(front)} points"
        + "".join(
            f"; winner under {label}: {ms(winner.measured_ms)}, {winner.scored.score:.4f}" for label, winner in winners
        ),
        traces=traces,
        layout={
            "xaxis": axis("latency, ms"),
            "yaxis": axis(f"{words(metric)}, search split"),
            "shapes": list(shapes),
            "annotations": list(notes),
            "margin": {"t": 34 + 16 * max(rows, default=0)},
        },
        columns=("budget", "subnet", "predicted ms", "upper bound ms", words(metric)),
        rows=[
            (
                label_of(search, record),
                one.subnet.describe(),
                f"{one.latency_ms:.2f}",
                f"{one.upper_ms:.2f}",
                f"{one.score:.4f}" + " (estimated)" * one.estimated,
            )
            for search in searches
            for one in sorted(search.candidates, key=lambda item: -item.score)
        ],
    )


def _candidates(search: Search, label: str, metric: str, count: int | None, colour: str, symbol: str) -> dict[str, Any]:
    def text(one: Scored) -> str:
        interval = accuracy_interval(metric, one.score, count)
        score = f"{words(metric)} {one.score:.4f}"
        if one.estimated:
            return hover(one.subnet.key, *describe_lines(one.subnet), f"{score} expected: scoring ended early")
        return hover(
            one.subnet.key,
            *describe_lines(one.subnet),
            f"predicted {one.latency_ms:.2f} ms, at most {one.upper_ms:.2f} ms",
            score if interval is None else f"{score} ({interval[0]:.4f} to {interval[1]:.4f})",
        )

    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"scored for {plain(label)}",
        "x": [one.latency_ms for one in search.candidates],
        "y": [one.score for one in search.candidates],
        "marker": {
            "color": colour,
            "symbol": [f"{symbol}-open" if one.estimated else symbol for one in search.candidates],
            "size": 7,
            "opacity": 0.5,
        },
        "hovertext": [text(one) for one in search.candidates],
        "hoverinfo": "text",
    }


def _finalists(search: Search, label: str, metric: str, colour: str) -> list[dict[str, Any]]:
    def text(one: Measured) -> str:
        return hover(
            f"{'winner' if one == search.winner else 'finalist'} under {label}",
            *describe_lines(one.scored.subnet),
            f"measured {one.measured_ms:.2f} ± {one.spread_ms:.2f} ms, predicted {one.scored.latency_ms:.2f} ms",
            f"{words(metric)} {one.scored.score:.4f}",
            "within the budget" if one.meets_budget else "over the budget",
        )

    def trace(found: list[Measured], name: str, marker: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [one.measured_ms for one in found],
            "y": [one.scored.score for one in found],
            "marker": {"color": colour, "line": {"color": STRONG, "width": 1.5}, **marker},
            "hovertext": [text(one) for one in found],
            "hoverinfo": "text",
            "showlegend": False,
            **more,
        }

    others = [one for one in search.finalists if one != search.winner]
    traces = [trace(others, "finalists", {"symbol": "circle", "size": 9})] if others else []
    if search.winner is not None:
        spread = {"array": [search.winner.spread_ms], "color": STRONG, "thickness": 1.5}
        traces.append(trace([search.winner], "winner", {"symbol": "star", "size": 17}, error_x=spread))
    return traces


def _baselines(record: RunRecord, searches: Sequence[Search], metric: str) -> list[dict[str, Any]]:
    """The full model, and subnets with all layers alike, where they happen to be scored."""
    full = [(search.reference_ms, search.full_score) for search in searches]
    known = [(at, score) for at, score in full if at is not None and score is not None]
    traces = []
    if known:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "full model",
                "x": [known[0][0]],
                "y": [known[0][1]],
                "marker": {"color": STRONG, "symbol": "diamond", "size": 12},
                "hovertext": [hover("full model", ms(known[0][0]), f"{words(metric)} {known[0][1]:.4f}")],
                "hoverinfo": "text",
            }
        )
    layered = record.space is not None and set(record.space.uniform) < {"num_heads", "head_size", "ffn_size"}
    alike = [one for search in searches for one in search.candidates if layered and is_uniform(one)]
    if alike:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "all layers alike",
                "x": [one.latency_ms for one in alike],
                "y": [one.score for one in alike],
                "marker": {"color": STRONG, "symbol": "square-open", "size": 12, "line": {"width": 1.5}},
                "hoverinfo": "skip",
            }
        )
    return traces


def is_uniform(one: Scored) -> bool:
    sizes = {(layer.num_heads, layer.head_size, layer.ffn_size) for layer in one.subnet.layers}
    return len(sizes) == 1 and len(one.subnet.layers) > 1
