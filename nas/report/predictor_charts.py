"""Charts of a predictor: held-out predictions, their errors, what more timings bring, what its terms contribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ortnas.nas.architecture.space import Genomes
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.arrays import Vector
from ortnas.nas.report.charts import COLOURS, MUTED, STRONG, Chart, axis, describe_lines, hover, plain, share, words
from ortnas.nas.report.record import Dataset, RunRecord
from ortnas.predictors.fitting import Predictor, PredictorError, held_out_predictions, learning_curve
from ortnas.search.finalists import Finalist

# Around a budget, errors this large decide who is within it.
_BAND = 0.1
_CURVE_SIZES = (15, 25, 50, 75, 100, 150, 200, 300, 400)
# Terms with a colour of their own; the others are drawn together.
_SHOWN_TERMS = 6


@dataclass(frozen=True)
class _HeldOut:
    """Timed subnets with predictions by models that know nothing of them, (n,) each."""

    subnets: list[Subnet]
    measured_ms: Vector
    predicted_ms: Vector


def predictor_charts(record: RunRecord, predictor: Predictor) -> list[Chart]:
    """Charts of finalist predictor, as far as its timings are in the run's store."""
    dataset = record.dataset_of(predictor.target, predictor.precision)
    timed = None if dataset is None else _timed(predictor, dataset)
    if timed is None:
        return [_contribution_chart(record, predictor)]
    genomes, latency_ms, errors = timed
    try:
        shown, measured_ms, predicted_ms = held_out_predictions(predictor, genomes, latency_ms, errors)
        curve = learning_curve(predictor, genomes, latency_ms, errors, _CURVE_SIZES)
    except PredictorError:
        return [_contribution_chart(record, predictor)]
    held_out = _HeldOut([predictor.space.decode(genome) for genome in shown], measured_ms, predicted_ms)
    finalists = [
        finalist
        for search in record.searches
        if search.precision == predictor.precision
        for finalist in search.finalists
    ]
    charts = [_prediction_chart(record, predictor, held_out, finalists), _error_chart(predictor, held_out, finalists)]
    if curve:
        charts.append(_curve_chart(predictor, curve))
    return [*charts, _contribution_chart(record, predictor)]


def _timed(predictor: Predictor, dataset: Dataset) -> tuple[Genomes, Vector, Vector] | None:
    """Genomes, latencies and errors of the timed subnets that are in the predictor's space."""
    genomes, latency_ms, errors = [], [], []
    for key, timing in dataset.timings.items():
        try:
            genomes.append(predictor.space.encode(dataset.subnets[key]))
        except SpaceError:
            continue
        latency_ms.append(timing.latency_ms)
        errors.append(timing.error)
    return (np.stack(genomes), np.array(latency_ms), np.array(errors)) if genomes else None


def _prediction_chart(
    record: RunRecord, predictor: Predictor, held_out: _HeldOut, finalists: Sequence[Finalist]
) -> Chart:
    measured_ms, predicted_ms = held_out.measured_ms, held_out.predicted_ms
    longest = float(max(measured_ms.max(), predicted_ms.max())) * 1.03
    budgets = {
        search.budget_ms: search.budget
        for search in record.searches
        if search.precision == predictor.precision and search.budget_ms is not None
    }
    equal = {
        "type": "scatter",
        "mode": "lines",
        "name": "equal",
        "x": [0, longest],
        "y": [0, longest],
        "line": {"color": MUTED, "width": 1.5},
        "hoverinfo": "skip",
    }
    traces = [equal, _points(predicted_ms, measured_ms, held_out.subnets, "held out", COLOURS[0], "circle", "ms")]
    if finalists:
        traces.append(
            _points(
                [finalist.candidate.latency_ms for finalist in finalists],
                [finalist.measured_ms for finalist in finalists],
                [finalist.subnet for finalist in finalists],
                "finalists",
                STRONG,
                "star",
                "ms",
            )
        )
    return Chart(
        key=f"predictor-{predictor.precision}",
        title="Predicted and measured",
        caption="Circles: timed subnets, each predicted by a model that was not fitted to it."
        + (" Stars: finalists, measured after the search had chosen them by prediction." if finalists else "")
        + (" Bands: ±10 % around the budgets." if budgets else ""),
        description=f"Scatter plot of {len(measured_ms)} timed subnets and {len(finalists)} finalists: predicted "
        f"against measured latency; the mean error is {predictor.quality.mean_error:.1%}",
        traces=traces,
        layout={
            "xaxis": axis("predicted latency, ms", rangemode="tozero"),
            "yaxis": axis("measured latency, ms", rangemode="tozero"),
            "shapes": [_band(at * (1 - _BAND), at * (1 + _BAND)) for at in budgets],
            "annotations": [
                {"x": 0.01, "xref": "paper", "xanchor": "left", "y": at, "text": plain(name), "showarrow": False}
                for at, name in budgets.items()
            ],
        },
        columns=("subnet", "predicted ms", "measured ms"),
        rows=[
            (subnet.key, f"{predicted:.3f}", f"{measured:.3f}")
            for subnet, predicted, measured in zip(held_out.subnets, predicted_ms, measured_ms, strict=True)
        ]
        + [
            (f"finalist {finalist.subnet.key}", f"{finalist.candidate.latency_ms:.3f}", f"{finalist.measured_ms:.3f}")
            for finalist in finalists
        ],
    )


def _error_chart(predictor: Predictor, held_out: _HeldOut, finalists: Sequence[Finalist]) -> Chart:
    errors = held_out.measured_ms / held_out.predicted_ms - 1
    genomes = np.stack([predictor.space.encode(subnet) for subnet in held_out.subnets])
    latency_ms, upper_ms = predictor.predict(genomes)
    order = np.argsort(latency_ms)
    bound = {
        "type": "scatter",
        "mode": "lines",
        "name": f"{predictor.level:.0%} bound",
        "x": [float(value) for value in latency_ms[order]],
        "y": [float(value) for value in (upper_ms / latency_ms - 1)[order] * 100],
        "line": {"color": COLOURS[1], "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }
    traces = [
        bound,
        _points(held_out.predicted_ms, errors * 100, held_out.subnets, "held out", COLOURS[0], "circle", "%"),
    ]
    if finalists:
        traces.append(
            _points(
                [finalist.candidate.latency_ms for finalist in finalists],
                [(finalist.measured_ms / finalist.candidate.latency_ms - 1) * 100 for finalist in finalists],
                [finalist.subnet for finalist in finalists],
                "finalists",
                STRONG,
                "star",
                "%",
            )
        )
    floor = predictor.quality.noise_floor
    return Chart(
        key=f"errors-{predictor.precision}",
        title="Error against size",
        caption="How much longer than predicted each model took; the dotted line is the bound that the search keeps to."
        + (" Band: what repeating a timing changes (the noise floor)." if floor is not None else ""),
        description=f"Scatter plot of errors in per cent against predicted latency, from {errors.min():.1%} to "
        f"{errors.max():.1%}; noise floor {share(floor)}",
        traces=traces,
        layout={
            "xaxis": axis("predicted latency, ms", rangemode="tozero"),
            "yaxis": axis("measured over predicted, %", zeroline=True),
            "shapes": [] if floor is None else [_band(-100 * floor, 100 * floor)],
        },
        columns=(),
        rows=[],
    )


def _curve_chart(predictor: Predictor, curve: dict[int, float]) -> Chart:
    sizes = [*curve, predictor.quality.measurements]
    errors = [*curve.values(), predictor.quality.mean_error]
    floor = predictor.quality.noise_floor
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "mean error",
            "x": sizes,
            "y": [100 * error for error in errors],
            "line": {"color": COLOURS[0], "width": 2},
            "marker": {"color": COLOURS[0], "size": 8},
            "hovertemplate": "%{x} timings: %{y:.2f} %<extra></extra>",
        }
    ]
    if floor is not None:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "noise floor",
                "x": [sizes[0], sizes[-1]],
                "y": [100 * floor, 100 * floor],
                "line": {"color": MUTED, "width": 1.5, "dash": "dash"},
                "hoverinfo": "skip",
            }
        )
    return Chart(
        key=f"curve-{predictor.precision}",
        title="What more timings bring",
        caption="Mean error on timings left over, by how many the predictor was fitted to; the last point is its own "
        "cross-validation.",
        description="Line chart of the mean error by the number of timings: "
        + ", ".join(f"{size}: {error:.1%}" for size, error in zip(sizes, errors, strict=True)),
        traces=traces,
        layout={"xaxis": axis("timings", rangemode="tozero"), "yaxis": axis("mean error, %", rangemode="tozero")},
        columns=("timings", "mean error"),
        rows=[(str(size), f"{error:.2%}") for size, error in zip(sizes, errors, strict=True)],
    )


def _contribution_chart(record: RunRecord, predictor: Predictor) -> Chart:
    """What each term of the prior, and the trees, add to the latency of the full model and of the winners."""
    named = {"largest": predictor.space.largest, "smallest": predictor.space.smallest}
    for search in record.searches:
        if search.precision == predictor.precision and search.winner is not None:
            named[f"winner {search.budget}"] = search.winner.subnet
    genomes = {}
    for name, subnet in named.items():
        try:
            genomes[name] = predictor.space.encode(subnet)
        except SpaceError:
            continue
    parts = predictor.contributions(np.stack(list(genomes.values())))
    order = sorted(parts, key=lambda term: -float(np.abs(parts[term]).sum()))
    shown = {term: parts[term] for term in order[:_SHOWN_TERMS]}
    others = order[_SHOWN_TERMS:]
    if others:
        shown["all others"] = np.sum([parts[term] for term in others], axis=0)
    names = [plain(name) for name in genomes]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": words(term),
            "y": names,
            "x": [float(value) for value in values],
            "marker": {"color": COLOURS[number] if number < _SHOWN_TERMS else MUTED},
            "hovertemplate": f"{words(term)}: %{{x:.2f}} ms<extra></extra>",
        }
        for number, (term, values) in enumerate(shown.items())
    ]
    return Chart(
        key=f"terms-{predictor.precision}",
        title="Where the time goes",
        caption="What each term of the prediction, and the trees on top, contribute.",
        description="Stacked bar chart of predicted latency by term: "
        + ", ".join(f"{words(term)} {values[0]:.2f} ms of the largest" for term, values in shown.items()),
        traces=traces,
        layout={"barmode": "relative", "xaxis": axis("predicted latency, ms"), "yaxis": axis("", autorange="reversed")},
        columns=("term", *(f"{name}, ms" for name in genomes)),
        rows=[(words(term), *(f"{value:.3f}" for value in parts[term])) for term in order],
    )


def _band(low: float, high: float) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": 0,
        "x1": 1,
        "xref": "paper",
        "y0": low,
        "y1": high,
        "fillcolor": "var(--band)",
        "line": {"width": 0},
        "layer": "below",
    }


def _points(
    x: Sequence[float] | Vector,
    y: Sequence[float] | Vector,
    subnets: Sequence[Subnet],
    name: str,
    colour: str,
    symbol: str,
    unit: str,
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [float(value) for value in x],
        "y": [float(value) for value in y],
        "marker": {"color": colour, "symbol": symbol, "size": 7 if symbol == "circle" else 12, "opacity": 0.75},
        "hovertext": [
            hover(
                subnet.key,
                *describe_lines(subnet),
                f"predicted {at:.2f} ms, measured {value:.2f} ms"
                if unit == "ms"
                else f"predicted {at:.2f} ms, off by {value:+.1f} %",
            )
            for subnet, at, value in zip(subnets, x, y, strict=True)
        ],
        "hoverinfo": "text",
    }
