"""Draws a training's curve: ``python docs/draw_curve.py RUN_FOLDER/curves/NAME.jsonl {loss,score} "LABEL" OUT.svg``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from chart import COLOURS, LEFT, Chart, make_chart

_SMOOTHED = 5


def smooth(values: list[float]) -> list[float]:
    """Means of up to five values in a row, ending at each."""
    return [
        sum(part) / len(part) for part in (values[max(0, end - _SMOOTHED) : end] for end in range(1, len(values) + 1))
    ]


def draw(lines: list[dict[str, dict[str, float]]], kind: str, label: str) -> str:
    """An SVG of loss or score against steps, one colour per kind of subnet."""
    chosen = [line for line in lines if kind in line]
    steps = [float(line["step"]) for line in chosen]  # type: ignore[arg-type]
    curves = {name: [line[kind][name] for line in chosen] for name in chosen[0][kind]}
    if kind == "loss":
        curves = {name: smooth(values) for name, values in curves.items()}
    values = [value for curve in curves.values() for value in curve]
    margin = (max(values) - min(values)) * 0.06
    chart = make_chart((0, max(steps)), (min(values) - margin, max(values) + margin), "steps", label)
    for number, ((name, curve), colour) in enumerate(zip(curves.items(), COLOURS, strict=False)):
        draw_line(chart, steps, curve, colour)
        chart.text(LEFT + 60 + 150 * number, 24, name, colour)
    return chart.svg()


def draw_line(chart: Chart, steps: list[float], curve: list[float], colour: str) -> None:
    points = " ".join(f"{chart.x(step):.1f},{chart.y(value):.1f}" for step, value in zip(steps, curve, strict=True))
    chart.parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')


def main() -> None:
    source, kind, label, out = sys.argv[1:]
    lines = [json.loads(line) for line in Path(source).read_text().splitlines()]
    Path(out).write_text(draw(lines, kind, label))


if __name__ == "__main__":
    main()
