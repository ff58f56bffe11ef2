"""The finished models: their rows in the comparisons, and the chart of latency against score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.report.charts import (
    COLOURS,
    MUTED,
    STRONG,
    Chart,
    accuracy_interval,
    axis,
    describe_lines,
    hover,
    ms,
    plain,
    words,
)
from ortnas.nas.report.record import RunRecord
from ortnas.search.comparison import RIVALS, ComparisonRow, Kind
from ortnas.search.static_embeddings import METRIC, NAME, SHARE, static_floor

# Label, colour and symbol of each kind of model, in the order of drawing.
_MARKS: dict[Kind, tuple[str, str, str]] = {
    "other": ("other models", COLOURS[1], "square"),
    "random": (RIVALS["random"], COLOURS[5], "x"),
    "shrunk": (RIVALS["shrunk"], COLOURS[4], "triangle-up"),
    "fewer_layers": (RIVALS["fewer_layers"], COLOURS[3], "triangle-down"),
    "ready_made": (RIVALS["ready_made"], COLOURS[2], "pentagon"),
    "full": ("full model", STRONG, "diamond"),
    "winner": ("winners", COLOURS[0], "circle"),
}


def result_rows(record: RunRecord) -> list[ComparisonRow]:
    """Rows of all comparisons, those of the winners first; a model that several hold is shown once."""
    rows: dict[tuple[str, str], ComparisonRow] = {}
    for name in _comparison_names(record):
        for row in record.comparisons[name].rows:
            label = f"{row.name} (quantization-aware)" if _is_trained_so(name, row) else row.name
            rows.setdefault((label, row.precision), replace(row, name=label))
    return list(rows.values())


def metric_of_results(record: RunRecord) -> str:
    """What the first comparison is of; there has to be one."""
    return record.comparisons[_comparison_names(record)[0]].metric


def has_rivals(record: RunRecord) -> bool:
    return any(row.kind in RIVALS for row in result_rows(record))


def _comparison_names(record: RunRecord) -> list[str]:
    return sorted(record.comparisons, key=lambda name: (name != record.precision, name))


def _is_trained_so(comparison: str, row: ComparisonRow) -> bool:
    return comparison.endswith("-quantization-aware") and row.name.endswith("trained further")


def results_chart(record: RunRecord) -> Chart | None:
    """Measured latency against the score on the report part."""
    rows = result_rows(record)
    if not rows:
        return None
    metric = metric_of_results(record)
    rows = [row for row in rows if metric in row.scores]
    count = record.data.get("counts", {}).get("report")
    slowest_ms = max((row.measured_ms for row in rows), default=0.0)
    traces = []
    for kind, (label, colour, symbol) in _MARKS.items():
        chosen = [row for row in rows if row.kind == kind]
        if not chosen:
            continue
        intervals = [interval_of(row, metric, count) for row in chosen]
        scores = [row.scores[metric] for row in chosen]
        trace: dict[str, Any] = {
            "type": "scatter",
            # Other names are long; hover and table have them.
            "mode": "markers+text" if kind in ("full", "winner") else "markers",
            "name": label,
            "x": [row.measured_ms for row in chosen],
            "y": scores,
            "error_x": {"array": [row.spread_ms for row in chosen], "color": colour, "thickness": 1.5},
            "marker": {"color": colour, "symbol": symbol, "size": 11, "line": {"color": "var(--surface)", "width": 1}},
            "text": [plain(_short(row.name)) for row in chosen],
            # Towards the middle, where a narrow screen has room.
            "textposition": ["middle right" if row.measured_ms <= slowest_ms / 2 else "middle left" for row in chosen],
            "textfont": {"color": colour},
            "hovertext": [
                _result_hover(row, metric, interval) for row, interval in zip(chosen, intervals, strict=True)
            ],
            "hoverinfo": "text",
            "cliponaxis": False,
        }
        if all(intervals):
            highs = [high - score for score, (_, high) in zip(scores, filter(None, intervals), strict=True)]
            lows = [score - low for score, (low, _) in zip(scores, filter(None, intervals), strict=True)]
            trace["error_y"] = {"array": highs, "arrayminus": lows, "color": colour, "thickness": 1, "width": 3}
        traces.append(trace)
    winners = [row for row in rows if row.kind == "winner"]
    floor = static_floor(rows) if metric == METRIC and makes_embeddings(record) else None
    shapes, notes = ([], []) if floor is None else _floor_line(floor)
    return Chart(
        key="results",
        title="Latency and score of the finished models",
        caption="Measured on the target in turn with the full model; scored on texts that nothing was chosen on. "
        "Horizontal bars: half the interquartile range of the samples."
        + (" Vertical bars: 95 % intervals of the scores." if any("error_y" in trace for trace in traces) else "")
        + (
            ""
            if floor is None
            else f" Below the dashed line, what {NAME} keeps, static embeddings are the better choice."
        ),
        description=f"Scatter plot of {len(rows)} models: measured latency in ms against {words(metric)}"
        + "".join(f"; {row.name}: {ms(row.measured_ms)}, {row.scores[metric]:.4f}" for row in winners),
        traces=traces,
        layout={
            "xaxis": axis("measured latency, ms", rangemode="tozero"),
            "yaxis": axis(f"{words(metric)}, report part"),
            "shapes": shapes,
            "annotations": notes,
        },
        columns=("model", "measured ms", "±", words(metric)),
        rows=[
            (row.name, f"{row.measured_ms:.2f}", f"{row.spread_ms:.2f}", f"{row.scores[metric]:.4f}") for row in rows
        ],
    )


def makes_embeddings(record: RunRecord) -> bool:
    return record.dimensions is not None and HEADS[record.dimensions.head].makes_embeddings


def _floor_line(floor: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A dashed line over the whole width, and its label at its right end."""
    line = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": floor, "y1": floor, "layer": "below"}
    note = {"x": 1, "xref": "paper", "xanchor": "right", "y": floor, "yanchor": "bottom", "showarrow": False}
    return (
        [line | {"line": {"color": MUTED, "width": 1.5, "dash": "dash"}}],
        [note | {"text": f"{NAME}, {SHARE:.0%} of the full model", "font": {"color": MUTED, "size": 12}}],
    )


def interval_of(row: ComparisonRow, metric: str, count: int | None) -> tuple[float, float] | None:
    """The 95 % interval of a row's score that was recorded with it, or that of an accuracy on so many texts."""
    recorded = row.intervals.get(metric)
    if recorded is not None:
        return recorded.score.low, recorded.score.high
    return accuracy_interval(metric, row.scores[metric], count)


def _short(name: str) -> str:
    return name.removeprefix("winner ").removeprefix("full model, ").split(",")[0]


def _result_hover(row: ComparisonRow, metric: str, interval: tuple[float, float] | None) -> str:
    score = f"{words(metric)} {row.scores[metric]:.4f}"
    return hover(
        row.name,
        *describe_lines(row.subnet),
        f"measured {row.measured_ms:.2f} ± {row.spread_ms:.2f} ms",
        score if interval is None else f"{score} ({interval[0]:.4f} to {interval[1]:.4f})",
    )
