"""The front as a PNG, for where no page can be shown. Needs matplotlib (extra ``png``), no browser."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from ortnas.nas.files import write_aside
from ortnas.nas.report.charts import label_rows, words
from ortnas.nas.report.front_charts import label_of, metric_of, pareto, shown_searches
from ortnas.nas.report.record import ReportError, RunRecord, read_run
from ortnas.nas.report.results import has_rivals, metric_of_results, result_rows
from ortnas.search.comparison import RIVALS, Kind

# The page's light colours and marks, in its order.
_COLOURS = ("#1f5fbf", "#c4500b", "#0b7a55", "#8a3ab9", "#a8730b", "#b3254c")
_MARKS = ("o", "s", "D", "^", "v", "p")
_TEXT, _MUTED, _GRID = "#1c2430", "#5b6675", "#e8ebf0"
# Label, colour and mark of each kind of model, in the order of drawing.
_KINDS: dict[Kind, tuple[str, str, str]] = {
    "random": (RIVALS["random"], _COLOURS[5], "x"),
    "shrunk": (RIVALS["shrunk"], _COLOURS[4], "^"),
    "fewer_layers": (RIVALS["fewer_layers"], _COLOURS[3], "v"),
    "ready_made": (RIVALS["ready_made"], _COLOURS[2], "p"),
    "full": ("full model", _TEXT, "D"),
    "winner": ("winners", _COLOURS[0], "*"),
}


def write_front_png(folder: Path, out: Path) -> Path:
    """Draws the scored candidates of a run folder's searches, 1600 × 900 pixels, and beside them, where winners have
    rivals, both as they were measured and scored on the report part; gives back ``out``.

    Raises ReportError where there is nothing to draw or matplotlib is not installed, and OSError.
    """
    record = read_run(folder)
    if not shown_searches(record):
        raise ReportError(f"{folder}: no search has scored anything yet; run `ortnas search`")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ReportError("--png needs matplotlib; install it with: pip install 'ortnas[png]'") from None
    figure = Figure(figsize=(8, 4.5), dpi=200, layout="constrained", facecolor="white")
    if has_rivals(record):
        candidates, results = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_results(results, record)
    else:
        candidates = figure.add_subplot()
    _draw(candidates, record)
    content = BytesIO()
    figure.savefig(content, format="png")
    write_aside(out, content.getvalue())
    return out


def _draw(axes: Any, record: RunRecord) -> None:
    searches = shown_searches(record)
    metric = metric_of(searches)
    front = pareto([candidate for search in searches for candidate in search.candidates])
    axes.step(
        [candidate.latency_ms for candidate in front],
        [candidate.score for candidate in front],
        where="post",
        color=_MUTED,
        linewidth=1,
    )
    lines: list[tuple[float, str, str]] = []
    for number, search in enumerate(searches):
        colour, label = _COLOURS[number % len(_COLOURS)], _literal(label_of(search, record))
        axes.scatter(
            [candidate.latency_ms for candidate in search.candidates],
            [candidate.score for candidate in search.candidates],
            s=20,
            marker=_MARKS[number % len(_MARKS)],
            color=colour,
            alpha=0.5,
            linewidths=0,
            label=f"scored for {label}",
        )
        if search.winner is not None:
            axes.errorbar(
                search.winner.measured_ms,
                search.winner.score,
                xerr=search.winner.spread_ms,
                fmt="*",
                markersize=14,
                color=colour,
                markeredgecolor=_TEXT,
                ecolor=_TEXT,
                zorder=4,
            )
        if search.budget_ms is not None:
            lines.append((search.budget_ms, label, colour))
    reference = next((search.reference_ms for search in searches if search.reference_ms is not None), None)
    if reference is not None:
        lines.append((reference, f"full {searches[0].precision.upper()}", _TEXT))
    rows = label_rows([at for at, _, _ in lines], 0.09 * max([at for at, _, _ in lines], default=1.0))
    for (at, label, colour), row in zip(lines, rows, strict=True):
        axes.axvline(at, color=colour, linestyle="--", linewidth=1)
        axes.annotate(
            label,
            (at, 1),
            (0, 4 + 11 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize=9,
        )
    axes.set_xlabel(f"latency, ms (stars: winners, as measured; {_literal(searches[0].precision.upper())})")
    axes.set_ylabel(_literal(f"{words(metric)}, search part"))
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, facecolor="white", edgecolor="white", framealpha=0.9)


def _draw_results(axes: Any, record: RunRecord) -> None:
    """Winners, their rivals and the full model: measured latency against the score on the report part."""
    metric = metric_of_results(record)
    rows = [row for row in result_rows(record) if row.precision == record.precision and metric in row.scores]
    for kind, (label, colour, mark) in _KINDS.items():
        chosen = [row for row in rows if row.kind == kind]
        if not chosen:
            continue
        scores = [row.scores[metric] for row in chosen]
        intervals = [row.intervals[metric].score if metric in row.intervals else None for row in chosen]
        ends = [
            (score, score) if span is None else (span.low, span.high)
            for score, span in zip(scores, intervals, strict=True)
        ]
        axes.errorbar(
            [row.measured_ms for row in chosen],
            scores,
            yerr=[
                [score - low for score, (low, _) in zip(scores, ends, strict=True)],
                [high - score for score, (_, high) in zip(scores, ends, strict=True)],
            ],
            fmt=mark,
            markersize=11 if kind == "winner" else 6,
            color=colour,
            elinewidth=0.8,
            label=label,
        )
    axes.set_xlabel("measured latency, ms")
    axes.set_ylabel(_literal(f"{words(metric)}, report part"))
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, facecolor="white", edgecolor="white", framealpha=0.9)


def _literal(text: str) -> str:
    """Without it matplotlib reads what stands between dollar signs as a formula."""
    return text.replace("$", r"\$")
