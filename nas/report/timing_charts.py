"""Charts of the timings and of the predictor that learnt from them."""

from __future__ import annotations

import numpy as np

from ortnas.bench.timing import Z_TWO_SIDED
from ortnas.nas.report.charts import COLOURS, Chart, axis, describe_lines, hover, plain
from ortnas.nas.report.record import Dataset, RunRecord

# Around a budget, errors this large decide who is within it.
_BAND = 0.1


def dataset_chart(record: RunRecord) -> Chart | None:
    """Measured latency against the size of every timed subnet."""
    dataset = record.dataset
    if dataset is None or not dataset.timings:
        return None
    subnets = {key: dataset.subnets[key] for key in dataset.timings}
    is_gated = record.space is not None and record.space.is_gated
    millions = {key: subnet.count_multiply_adds(is_gated) / 1e6 for key, subnet in subnets.items()}
    depths = sorted({len(subnet.layers) for subnet in subnets.values()})
    traces = []
    for number, depth in enumerate(depths):
        keys = [key for key, subnet in subnets.items() if len(subnet.layers) == depth]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{depth} layers" if depth > 1 else "1 layer",
                "x": [millions[key] for key in keys],
                "y": [dataset.timings[key].latency_ms for key in keys],
                "marker": {"color": f"var(--step-{_step(number, len(depths))})", "size": 7, "opacity": 0.85},
                "hovertext": [
                    hover(
                        key,
                        *describe_lines(subnets[key]),
                        f"{dataset.timings[key].latency_ms:.2f} ms ± {_error(dataset, key)}",
                        f"visits: {len(dataset.timings[key].visits)}",
                    )
                    for key in keys
                ],
                "hoverinfo": "text",
            }
        )
    latencies = [timing.latency_ms for timing in dataset.timings.values()]
    return Chart(
        key="dataset",
        title="Timed subnets",
        caption="Median latency, corrected for drift, against the encoder's multiply-adds per token. Subnets of one "
        "size differ: that is why they are timed.",
        description=f"Scatter plot of {len(latencies)} timed subnets, {min(latencies):.2f} to {max(latencies):.2f} ms",
        traces=traces,
        layout={"xaxis": axis("million multiply-adds per token"), "yaxis": axis("measured latency, ms")},
        columns=("subnet", "architecture", "million multiply-adds", "measured ms", "standard error"),
        rows=[
            (
                key,
                subnet.describe(),
                f"{millions[key]:.2f}",
                f"{dataset.timings[key].latency_ms:.3f}",
                _error(dataset, key),
            )
            for key, subnet in subnets.items()
        ],
    )


def _step(number: int, count: int) -> int:
    """One of the page's six steps from pale to strong."""
    return 6 if count == 1 else 1 + round(number * 5 / (count - 1))


def _error(dataset: Dataset, key: str) -> str:
    error = dataset.timings[key].error
    return f"{error:.1%}" if np.isfinite(error) else "unknown"


def noise_charts(record: RunRecord) -> list[Chart]:
    """How the host ran while the timings were taken, and how well each latency is known."""
    dataset = record.dataset
    if dataset is None or dataset.reference is None:
        return []
    return [_host_chart(dataset), _certainty_chart(dataset)]


def _host_chart(dataset: Dataset) -> Chart:
    assert dataset.reference is not None
    usual = dataset.reference.anchor_ms
    slowed = [
        100
        * (float(np.mean([np.median(row) / 1e6 / ms for row, ms in zip(samples.anchor_ns, usual, strict=True)])) - 1)
        for samples in (row.samples for row in dataset.measurements)
        if samples is not None
    ]
    return Chart(
        key="host",
        title="The host while timing",
        caption="Latency of the full model beside each timed subnet, against its usual one, in the order of visits. "
        "Timings are corrected by it: what slows the host slows both.",
        description=f"Line chart of the full model's latency over {len(slowed)} visits: {min(slowed):+.1f} % to "
        f"{max(slowed):+.1f} % of the usual",
        traces=[
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "full model",
                "x": list(range(1, len(slowed) + 1)),
                "y": slowed,
                "line": {"color": COLOURS[0], "width": 1},
                "marker": {"color": COLOURS[0], "size": 4},
                "hovertemplate": "visit %{x}: %{y:+.1f} %<extra></extra>",
                "showlegend": False,
            }
        ],
        layout={"xaxis": axis("visit"), "yaxis": axis("full model against usual, %", zeroline=True)},
        columns=(),
        rows=[],
    )


def _certainty_chart(dataset: Dataset) -> Chart:
    repeated = [timing.visits_ms for timing in dataset.timings.values() if len(timing.visits) > 1]
    if repeated:
        values = [100 * abs(float(visits[0] / visits[1]) - 1) for visits in repeated]
        title, label = "Repeating a timing", "difference of two visits, %"
        caption = "How far the two sessions of each subnet, at different times, differ."
    else:
        errors = [timing.error for timing in dataset.timings.values()]
        values = [100 * Z_TWO_SIDED * error for error in errors if np.isfinite(error)]
        title, label = "How well each latency is known", "half width of the 95 % interval, %"
        caption = "Every subnet was visited once, so only its rounds tell how well its median is known."
    floor = dataset.summary.noise_floor
    middle = float(np.median(values)) if values else 0.0
    return Chart(
        key="certainty",
        title=title,
        caption=caption + (f" Noise floor of the mean over visits: {floor:.1%}." if floor is not None else ""),
        description=f"Histogram of {len(values)} values with a median of {middle:.1f} %",
        traces=[
            {
                "type": "histogram",
                "name": "subnets",
                "x": values,
                "nbinsx": 30,
                "marker": {"color": COLOURS[0], "line": {"color": "var(--surface)", "width": 1}},
                "hovertemplate": "%{x} %: %{y} subnets<extra></extra>",
                "showlegend": False,
            }
        ],
        layout={"xaxis": axis(label, rangemode="tozero"), "yaxis": axis("subnets"), "bargap": 0.02},
        columns=(),
        rows=[],
    )


def training_charts(record: RunRecord) -> list[Chart]:
    """Losses of the supernet's training, and scores of its probe subnets."""
    lines = record.curves.get("supernet", [])
    charts = []
    for kind, title, label, caption in (
        ("loss", "Loss of the supernet", "loss", "Mean over up to 20 steps, by the kind of subnet that was trained."),
        (
            "score",
            "Probe subnets while training",
            "score",
            "FP32 scores on the first search texts: the largest and smallest subnet, and the full shape shrunk evenly "
            "to a half and a quarter of its multiply-adds.",
        ),
    ):
        points = [line for line in lines if isinstance(line.get(kind), dict)]
        names = list(dict.fromkeys(name for line in points for name in line[kind]))
        if not points:
            continue
        traces = []
        for number, name in enumerate(names):
            own = [(line["step"], line[kind][name]) for line in points if name in line[kind]]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines" if len(own) > 1 else "markers",
                    "name": plain(name),
                    "x": [step for step, _ in own],
                    "y": [value for _, value in own],
                    "line": {"color": COLOURS[number % len(COLOURS)], "width": 2},
                    "marker": {"color": COLOURS[number % len(COLOURS)]},
                    "hovertemplate": f"{plain(name)}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
                }
            )
        last = points[-1][kind]
        charts.append(
            Chart(
                key=f"training-{kind}",
                title=title,
                caption=caption,
                description=f"Line chart over {points[-1]['step']} steps; at the end "
                + ", ".join(f"{name} {value:.4f}" for name, value in last.items()),
                traces=traces,
                layout={"xaxis": axis("step"), "yaxis": axis(label)},
                columns=("step", *names),
                rows=[
                    (str(line["step"]), *(f"{line[kind][name]:.4f}" if name in line[kind] else "" for name in names))
                    for line in points
                ]
                if kind == "score"
                else [],
            )
        )
    return charts
