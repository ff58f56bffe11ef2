"""A subnet drawn as stacked layers, SVG: what the search kept of the full network, and what it dropped."""

from __future__ import annotations

from html import escape

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.subnet import Layer, Subnet

_WIDTH, _LEFT, _BLOCK = 340, 26, 208
_ROW, _GAP = 34, 6


def draw_subnet(subnet: Subnet, dimensions: Dimensions, title: str) -> str:
    """An ``<svg>`` with a row per layer of the supernet, first layer on top.

    Block width is the hidden size; cells are attention heads, as tall as their size; the bar is the FFN. Outlines
    stand for the full network.
    """
    kept = {layer.source: layer for layer in subnet.layers}
    rows = [_layer(source, kept.get(source), subnet.hidden_size, dimensions) for source in range(dimensions.num_layers)]
    height = dimensions.num_layers * (_ROW + _GAP) - _GAP
    return (
        f'<svg class="network" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(alt_text(subnet, title))}">' + "".join(rows) + "</svg>"
    )


def alt_text(subnet: Subnet, title: str) -> str:
    layers = "; ".join(f"layer {layer.source + 1}: {_in_words(layer)}" for layer in subnet.layers)
    return f"{title}, hidden size {subnet.hidden_size}; {layers}"


def _in_words(layer: Layer) -> str:
    attention = f"{layer.num_heads} heads of {layer.head_size}" if layer.num_heads else "no attention"
    return f"{attention}, {f'FFN {layer.ffn_size}' if layer.ffn_size else 'no FFN'}"


def _layer(source: int, layer: Layer | None, hidden_size: int, dimensions: Dimensions) -> str:
    top = source * (_ROW + _GAP)
    number = f'<text class="number" x="{_LEFT - 8}" y="{top + _ROW / 2 + 4:.1f}">{source + 1}</text>'
    ghost = f'<rect class="ghost" x="{_LEFT}" y="{top}" width="{_BLOCK}" height="{_ROW}" rx="5"/>'
    middle = f'y="{top + _ROW / 2 + 4:.1f}"'
    if layer is None:
        return f'{number}{ghost}<text class="dropped" x="{_LEFT + _BLOCK / 2}" {middle}>dropped</text>'
    width = _BLOCK * hidden_size / dimensions.hidden_size
    block = f'<rect class="block" x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_ROW}" rx="5"/>'
    figures = f"{f'{layer.num_heads}×{layer.head_size}' if layer.num_heads else '–'} · {layer.ffn_size or '–'}"
    sizes = f'<text x="{_LEFT + _BLOCK + 8}" {middle}>{figures}</text>'
    return number + ghost + block + _heads(top, layer, width, dimensions) + _ffn(top, layer, width, dimensions) + sizes


def _heads(top: float, layer: Layer, width: float, dimensions: Dimensions) -> str:
    """One cell per head of the full network."""
    inner, most = width - 10, max(dimensions.num_heads, layer.num_heads)
    pitch = inner / most
    tallest, floor = 13.0, top + 18
    cells = []
    for head in range(most):
        share = min(1.0, layer.head_size / dimensions.head_size) if head < layer.num_heads else 1.0
        cells.append(
            f'<rect class="{"head" if head < layer.num_heads else "absent"}" x="{_LEFT + 5 + head * pitch:.2f}" '
            f'y="{floor - tallest * share:.2f}" width="{max(pitch - 2, pitch * 0.6):.2f}" '
            f'height="{tallest * share:.2f}" rx="1.5"/>'
        )
    return "".join(cells)


def _ffn(top: float, layer: Layer, width: float, dimensions: Dimensions) -> str:
    inner = width - 10
    filled = inner * min(1.0, layer.ffn_size / dimensions.ffn_size)
    place = f'x="{_LEFT + 5}" y="{top + 22}" height="7" rx="2"'
    return f'<rect class="absent" {place} width="{inner:.1f}"/><rect class="ffn" {place} width="{filled:.1f}"/>'
