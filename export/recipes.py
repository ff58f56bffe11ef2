"""Quantization recipes: which integer types an instruction set multiplies fast and exactly. Data, not branches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a float graph becomes INT8.

    ``isa`` is the flag that a host must report. ``reduce_range`` keeps weights to 7 bits where the 16-bit
    accumulation of u8 x s8 products would saturate.
    """

    name: str
    isa: str
    activation_type: str
    weight_type: str
    reduce_range: bool
    per_channel: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# First match wins, so the stronger instruction set comes first.
RECIPES = (
    Recipe("amx", "amx_int8", "uint8", "int8", reduce_range=False),
    Recipe("avx512_vnni", "avx512_vnni", "uint8", "int8", reduce_range=False),
    Recipe("avx_vnni", "avx_vnni", "uint8", "int8", reduce_range=False),
    Recipe("arm64_i8mm", "i8mm", "uint8", "int8", reduce_range=False),
    Recipe("arm64_dotprod", "asimddp", "uint8", "int8", reduce_range=False),
    Recipe("avx2", "avx2", "uint8", "int8", reduce_range=True),
)
FALLBACK = Recipe("generic", "", "uint8", "int8", reduce_range=True)


def choose_recipe(isa: Collection[str]) -> Recipe:
    """The recipe for a host with these instruction-set flags."""
    return next((recipe for recipe in RECIPES if recipe.isa in isa), FALLBACK)


def recipe_named(name: str) -> Recipe:
    """Raises ValueError for a name that is no recipe."""
    known = {recipe.name: recipe for recipe in (*RECIPES, FALLBACK)}
    if name not in known:
        raise ValueError(f"unknown quantization recipe {name!r}; allowed are {', '.join(known)}")
    return known[name]
