"""A frame with two axes in SVG, for the pictures of README and manual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 440, 80, 30, 40, 60
COLOURS = ("#2a78b5", "#d1495b", "#3a8f5c", "#8a5fb0")


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between two bounds."""
    rough = (high - low) / count
    power = 10 ** len(f"{int(1 / rough)}") if rough < 1 else 10 ** -(len(f"{int(rough)}") - 1)
    step = max(round(rough * power), 1) / power
    first = int(low / step) + 1
    return [number * step for number in range(first, int(high / step) + 1)]


@dataclass(frozen=True)
class Chart:
    """Data coordinates to picture coordinates, and the SVG parts drawn so far."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    parts: list[str]

    def text(self, x: float, y: float, content: str, colour: str, anchor: str = "middle") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(content)}</text>'
        )

    def svg(self) -> str:
        return "\n".join([*self.parts, "</svg>\n"])


def make_chart(x_range: tuple[float, float], y_range: tuple[float, float], x_label: str, y_label: str) -> Chart:
    """An empty chart with grid, tick labels and axis labels."""

    def x(value: float) -> float:
        return LEFT + (value - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM)

    chart = Chart(x, y, [])
    chart.parts.append(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13">'
    )
    chart.parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>')
    for tick in ticks(*y_range):
        chart.parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e4e4e4"/>'
        )
        chart.text(LEFT - 8, y(tick) + 4, f"{tick:.3g}", "#444", "end")
    for tick in ticks(*x_range, 8):
        chart.text(x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", "#444")
    chart.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, "#222")
    chart.parts.append(
        f'<text transform="translate(20 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" fill="#222">'
        f"{escape(y_label)}</text>"
    )
    return chart
