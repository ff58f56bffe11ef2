"""A chart as plain data: what Plotly draws, what a table and a screen reader say instead."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ortnas.nas.architecture.subnet import Subnet

# Colours are names that the page gives a value for in light and in dark.
COLOURS = tuple(f"var(--series-{number})" for number in range(1, 7))
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star-triangle-up")
MUTED, STRONG = "var(--muted)", "var(--text)"
_Z_TWO_SIDED = 1.96


@dataclass(frozen=True)
class Chart:
    """``traces`` and ``layout`` are Plotly's; ``description`` is one sentence for those who do not see it."""

    key: str
    title: str
    caption: str
    description: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def plain(text: object) -> str:
    """Text for Plotly, which reads some HTML in every string."""
    return html.escape(str(text), quote=False)


def words(name: str) -> str:
    return name.replace("_", " ")


def ms(value: float) -> str:
    return f"{value:.2f} ms"


def share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def hover(title: str, *lines: str) -> str:
    return "<br>".join([f"<b>{plain(title)}</b>", *map(plain, lines)])


def describe_lines(subnet: Subnet) -> list[str]:
    """An architecture on a few short lines: hovers must fit on a phone."""
    heads = ", ".join(f"{layer.num_heads}×{layer.head_size}" if layer.num_heads else "0" for layer in subnet.layers)
    ffn = ", ".join(str(layer.ffn_size) for layer in subnet.layers)
    lines = [f"hidden {subnet.hidden_size} · {len(subnet.layers)} layers", f"heads {heads}", f"FFN {ffn}"]
    return lines if not subnet.keep_float else [*lines, f"{len(subnet.keep_float)} products in float"]


def axis(title: str, **settings: Any) -> dict[str, Any]:
    return {"title": {"text": plain(title)}, "automargin": True, **settings}


def vertical(at: float, label: str, colour: str, row: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """A dashed line over the whole height, and its label above the chart; ``row`` lifts labels out of each other."""
    line = {
        "type": "line",
        "x0": at,
        "x1": at,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": colour, "width": 1.5, "dash": "dash"},
        "layer": "below",
    }
    note = {
        "x": at,
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": 2 + 16 * row,
        "text": plain(label),
        "showarrow": False,
        "font": {"color": colour, "size": 12},
    }
    return line, note


def accuracy_interval(metric: str, score: float, count: int | None) -> tuple[float, float] | None:
    """95 % interval of a share of texts (Wilson 1927); None for other metrics, and where the count is unknown."""
    if metric != "accuracy" or not count or not 0 <= score <= 1:
        return None
    z = _Z_TWO_SIDED
    centre = (score + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(score * (1 - score) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def label_rows(positions: Sequence[float], width: float) -> list[int]:
    """A row for each label on a line, so that those nearer than ``width`` do not overlap; rows start at 0."""
    rows = [0] * len(positions)
    ends: list[float] = []
    for number in sorted(range(len(positions)), key=lambda index: positions[index]):
        row = next((index for index, end in enumerate(ends) if positions[number] - end >= width), len(ends))
        ends[row : row + 1] = [positions[number]]
        rows[number] = row
    return rows
