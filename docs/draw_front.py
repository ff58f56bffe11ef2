"""Draws the scored candidates of a run: ``python docs/draw_front.py RUN_FOLDER OUT.svg``."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 440, 80, 30, 40, 60
COLOURS = ("#2a78b5", "#d1495b", "#3a8f5c", "#8a5fb0")


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between two bounds."""
    rough = (high - low) / count
    power = 10 ** len(f"{int(1 / rough)}") if rough < 1 else 1
    step = max(round(rough * power), 1) / power
    first = int(low / step) + 1
    return [number * step for number in range(first, int(high / step) + 1)]


def draw(searches: list[dict[str, Any]], comparison: dict[str, Any]) -> str:
    """An SVG of latency against score, one colour per budget, winners ringed, budgets and the full model as lines."""
    full_ms = comparison["reference_ms"]
    points = [candidate for search in searches for candidate in search["candidates"]]
    low_ms, high_ms = min(point["latency_ms"] for point in points) * 0.95, full_ms * 1.04
    scores = [point["score"] for point in points]
    margin = (max(scores) - min(scores)) * 0.06
    low, high = min(scores) - margin, max(scores) + margin

    def x(latency_ms: float) -> float:
        return LEFT + (latency_ms - low_ms) / (high_ms - low_ms) * (WIDTH - LEFT - RIGHT)

    def y(score: float) -> float:
        return HEIGHT - BOTTOM - (score - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def line(latency_ms: float, label: str, colour: str) -> str:
        at = x(latency_ms)
        return (
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{colour}" '
            f'stroke-dasharray="5 4"/>'
            f'<text x="{at - 5:.1f}" y="{TOP - 8}" text-anchor="middle" fill="{colour}">{escape(label)}</text>'
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for tick in ticks(low, high):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#444">{tick:.2f}</text>')
    for tick in ticks(low_ms, high_ms, 8):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#444">{tick:g}</text>'
        )
    parts.append(line(full_ms, f"full INT8 {full_ms:.1f} ms", "#555555"))
    for search, colour in zip(searches, COLOURS, strict=False):
        parts.append(line(search["budget_ms"], f"budget {search['budget']}", colour))
        for point in search["candidates"]:
            parts.append(
                f'<circle cx="{x(point["latency_ms"]):.1f}" cy="{y(point["score"]):.1f}" r="4" fill="{colour}" '
                f'fill-opacity="0.55"/>'
            )
        if winner := search["winner"]:
            parts.append(
                f'<circle cx="{x(winner["predicted_ms"]):.1f}" cy="{y(winner["score"]):.1f}" r="8" fill="none" '
                f'stroke="{colour}" stroke-width="2.5"/>'
            )
    middle = (LEFT + WIDTH - RIGHT) / 2
    metric = escape(searches[0]["metric"].replace("_", " "))
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle" fill="#222">predicted INT8 latency, ms</text>'
    )
    parts.append(
        f'<text transform="translate(20 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" fill="#222">'
        f"{metric}, search split</text>"
    )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    searches = [json.loads(path.read_text()) for path in sorted(run.glob("search/int8-*/search.json"))]
    comparison = json.loads((run / "packages" / "comparison-int8.json").read_text())
    out.write_text(draw(searches, comparison))


if __name__ == "__main__":
    main()
