"""Named search spaces, and the default one for any checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import network_of
from ortnas.nas.architecture.space import LAYER_DIMENSIONS, SearchSpace
from ortnas.nas.architecture.subnet import SpaceError, Subnet


def _steps(full: int, lowest: int, step: int) -> tuple[int, ...]:
    return tuple(sorted({*range(full, lowest - 1, -step)}))


def _multiple(value: float, of: int) -> int:
    return max(of, round(value / of) * of)


def default_space(dimensions: Dimensions) -> SearchSpace:
    """From a third of every dimension to the whole, in steps that keep integer kernels on whole tiles of 16."""
    layers, heads = dimensions.num_layers, dimensions.num_heads
    hidden_step, ffn_step = _multiple(dimensions.hidden_size / 6, 16), _multiple(dimensions.ffn_size / 12, 16)
    return SearchSpace(
        num_layers=layers,
        hidden_size=_steps(dimensions.hidden_size, dimensions.hidden_size // 3, hidden_step),
        depth=tuple(range(max(1, layers // 3), layers + 1)),
        num_heads=_steps(heads, max(1, heads // 6), max(1, heads // 6)),
        head_size=(dimensions.head_size,),
        ffn_size=_steps(dimensions.ffn_size, dimensions.ffn_size // 6, ffn_step),
        is_gated=network_of(dimensions).is_gated,
    )


def _autotinybert(num_layers: int, num_heads: tuple[int, ...], head_size: tuple[int, ...]) -> SearchSpace:
    return SearchSpace(
        num_layers=num_layers,
        hidden_size=tuple(range(128, 769, 16)),
        depth=tuple(range(1, min(8, num_layers) + 1)),
        num_heads=num_heads,
        head_size=head_size,
        ffn_size=tuple(range(128, 3073, 32)),
        uniform=LAYER_DIMENSIONS,
        depth_order="first",
    )


def _bigger_and_faster(num_layers: int) -> SearchSpace:
    return SearchSpace(
        num_layers=num_layers,
        hidden_size=tuple(range(144, 529, 12)),
        depth=tuple(range(1, min(5, num_layers) + 1)),
        num_heads=(12,),
        head_size=(),
        ffn_size=tuple(range(128, 1025, 32)),
        uniform=LAYER_DIMENSIONS,
        depth_order="first",
    )


PRESETS = ("default", "autotinybert-kd", "autotinybert-mlm", "bigger-and-faster")


def preset(name: str, dimensions: Dimensions) -> SearchSpace:
    """A preset space for a supernet of these dimensions. Raises SpaceError for an unknown name or a misfit."""
    if name == "default":
        space = default_space(dimensions)
    elif name == "autotinybert-kd":
        space = _autotinybert(dimensions.num_layers, (12,), tuple(range(15, 65)))
    elif name == "autotinybert-mlm":
        space = _autotinybert(dimensions.num_layers, tuple(range(1, 13)), (64,))
    elif name == "bigger-and-faster":
        space = _bigger_and_faster(dimensions.num_layers)
    else:
        raise SpaceError(f"unknown space preset {name!r}; allowed are {', '.join(PRESETS)}")
    space = replace(space, is_gated=network_of(dimensions).is_gated)
    check_fits(space, dimensions)
    return space


def covering(subnets: Sequence[Subnet]) -> SearchSpace:
    """The smallest space that holds all of these, which keep the first layers of their supernet.

    Dimensions that no subnet varies between its layers are uniform.
    """
    layers = [layer for subnet in subnets for layer in subnet.layers]
    hidden_size = _ascending(subnet.hidden_size for subnet in subnets)
    num_heads = _ascending(layer.num_heads for layer in layers)
    is_tied = all(
        layer.num_heads * layer.head_size == subnet.hidden_size for subnet in subnets for layer in subnet.layers
    ) and not any(size % heads for size in hidden_size for heads in num_heads)
    return SearchSpace(
        num_layers=max(len(subnet.layers) for subnet in subnets),
        hidden_size=hidden_size,
        depth=_ascending(len(subnet.layers) for subnet in subnets),
        num_heads=num_heads,
        head_size=() if is_tied else _ascending(layer.head_size for layer in layers),
        ffn_size=_ascending(layer.ffn_size for layer in layers),
        uniform=tuple(
            name
            for name in LAYER_DIMENSIONS
            if all(len({getattr(layer, name) for layer in subnet.layers}) == 1 for subnet in subnets)
        ),
        depth_order="first",
    )


def _ascending(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(values)))


def check_fits(space: SearchSpace, dimensions: Dimensions) -> None:
    """Raises SpaceError where the largest or the smallest subnet is none of the supernet's."""
    try:
        for subnet in (space.largest, space.smallest):
            dimensions.check(subnet)
    except SpaceError as error:
        raise SpaceError(f"the space does not fit the checkpoint: {error}") from error
