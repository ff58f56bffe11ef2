"""Draws the scored candidates of a run: ``python docs/draw_front.py RUN_FOLDER OUT.svg``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chart import BOTTOM, COLOURS, HEIGHT, TOP, Chart, make_chart


def vertical(chart: Chart, at: float, label: str, colour: str) -> None:
    x = chart.x(at)
    chart.parts.append(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{colour}" stroke-dasharray="5 4"/>'
    )
    chart.text(x - 5, TOP - 8, label, colour)


def draw(searches: list[dict[str, Any]], comparison: dict[str, Any]) -> str:
    """An SVG of latency against score, one colour per budget, winners ringed, budgets and the full model as lines."""
    full_ms = comparison["reference_ms"]
    points = [candidate for search in searches for candidate in search["candidates"]]
    scores = [point["score"] for point in points]
    margin = (max(scores) - min(scores)) * 0.06
    chart = make_chart(
        (min(point["latency_ms"] for point in points) * 0.95, full_ms * 1.04),
        (min(scores) - margin, max(scores) + margin),
        "predicted INT8 latency, ms",
        f"{searches[0]['metric'].replace('_', ' ')}, search part",
    )
    best, steps = -1.0, []
    for point in sorted(points, key=lambda point: point["latency_ms"]):
        if point["score"] > best and not point.get("estimated"):
            x = chart.x(point["latency_ms"])
            # From the score before straight up to this one.
            steps += [(x, chart.y(best))] * bool(steps) + [(x, chart.y(point["score"]))]
            best = point["score"]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
    chart.parts.append(f'<polyline points="{line}" fill="none" stroke="#999999" stroke-width="1.5"/>')
    vertical(chart, full_ms, f"full INT8 {full_ms:.1f} ms", "#555555")
    for search, colour in zip(searches, COLOURS, strict=False):
        vertical(chart, search["budget_ms"], search["budget"], colour)
        for point in search["candidates"]:
            chart.parts.append(
                f'<circle cx="{chart.x(point["latency_ms"]):.1f}" cy="{chart.y(point["score"]):.1f}" r="4" '
                f'fill="{colour}" fill-opacity="0.55"/>'
            )
        if winner := search["winner"]:
            chart.parts.append(
                f'<circle cx="{chart.x(winner["predicted_ms"]):.1f}" cy="{chart.y(winner["score"]):.1f}" r="8" '
                f'fill="none" stroke="{colour}" stroke-width="2.5"/>'
            )
    return chart.svg()


def main() -> None:
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    searches = [json.loads(path.read_text()) for path in sorted(run.glob("search/int8-*/search.json"))]
    comparison = json.loads((run / "packages" / "comparison-int8.json").read_text())
    out.write_text(draw(searches, comparison))


if __name__ == "__main__":
    main()
