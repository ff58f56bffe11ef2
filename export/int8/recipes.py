"""Quantization recipes: which integer types an instruction set multiplies fast and exactly. Data, not branches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, get_args

# Which products of two activations run in integers: none, queries x keys, probabilities x values, or both.
Attention = Literal["float", "scores", "mixtures", "integer"]
ATTENTION_PRODUCTS: dict[Attention, tuple[str, ...]] = {
    "float": (),
    "scores": ("layers/*/attention/scores",),
    "mixtures": ("layers/*/attention/mixed",),
    "integer": ("layers/*/attention/scores", "layers/*/attention/mixed"),
}


def is_integer_attention(attention: Attention, product: str) -> bool:
    """Whether a product of that name is one of two activations that runs in integers."""
    return any(fnmatchcase(product, pattern) for pattern in ATTENTION_PRODUCTS[attention])


@dataclass(frozen=True)
class Recipe:
    """How a float graph becomes INT8.

    ``isa`` is the flag that a host must report. ``reduce_range`` keeps weights to 7 bits where the 16-bit
    accumulation of u8 x s8 products would saturate. ``calibration`` is a method of ``export.int8.calibration``;
    ``embeddings`` stores the word table as int8 rows; ``keep_float`` are patterns (fnmatch) of the float graph's weight
    products that stay as they are, such as ``head/*`` or ``layers/3/ffn/out``; ``attention`` says which products of
    two activations do not.
    """

    name: str
    isa: str
    activation_type: str
    weight_type: str
    reduce_range: bool
    per_channel: bool = True
    calibration: str = "minmax"
    embeddings: bool = True
    keep_float: tuple[str, ...] = ()
    attention: Attention = "float"

    def keeps_float(self, product: str) -> bool:
        """Whether the weight product of that name stays in float."""
        return any(fnmatchcase(product, pattern) for pattern in self.keep_float)

    def keeping(self, products: Collection[str]) -> Recipe:
        """The same recipe, which leaves these products in float as well."""
        return replace(self, keep_float=tuple(dict.fromkeys((*self.keep_float, *products))))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Recipe:
        """Raises KeyError, TypeError and ValueError."""
        recipe = cls(**{**document, "keep_float": tuple(document["keep_float"])})
        if recipe.attention not in get_args(Attention):
            raise ValueError(f"attention is one of {', '.join(get_args(Attention))}")
        return recipe


class Architecture(NamedTuple):
    """``machines`` are what systems call it, in lower case. Of its recipes the first that a host has the flag of is
    taken, so the stronger instruction set comes first."""

    title: str
    machines: tuple[str, ...]
    recipes: tuple[Recipe, ...]


ARCHITECTURES = (
    Architecture(
        "x86-64",
        ("x86_64", "amd64"),
        (
            Recipe("amx", "amx_int8", "uint8", "int8", reduce_range=False),
            Recipe("avx512_vnni", "avx512_vnni", "uint8", "int8", reduce_range=False),
            Recipe("avx_vnni", "avx_vnni", "uint8", "int8", reduce_range=False),
            Recipe("avx2", "avx2", "uint8", "int8", reduce_range=True),
        ),
    ),
    Architecture(
        "Arm64",
        ("aarch64", "arm64"),
        (
            Recipe("arm64_i8mm", "i8mm", "uint8", "int8", reduce_range=False),
            Recipe("arm64_dotprod", "asimddp", "uint8", "int8", reduce_range=False),
        ),
    ),
)
RECIPES = tuple(recipe for architecture in ARCHITECTURES for recipe in architecture.recipes)
FALLBACK = Recipe("generic", "", "uint8", "int8", reduce_range=True)


def choose_recipe(isa: Collection[str]) -> Recipe:
    """The recipe for a host with these instruction-set flags."""
    return next((recipe for recipe in RECIPES if recipe.isa in isa), FALLBACK)


def recipe_named(name: str) -> Recipe:
    """Raises ValueError for a name that is no recipe."""
    recipes = {recipe.name: recipe for recipe in (*RECIPES, FALLBACK)}
    if name not in recipes:
        raise ValueError(f"unknown quantization recipe {name!r}; allowed are {', '.join(recipes)}")
    return recipes[name]


def check_architecture(name: str, machine: str) -> None:
    """Raises ValueError for the name of a recipe of another architecture than the machine's, or of no recipe.

    ``machine`` is what its system calls it; empty, where that is not known, everything fits.
    """
    recipe = recipe_named(name)
    for architecture in ARCHITECTURES:
        if recipe in architecture.recipes and machine and machine.lower() not in architecture.machines:
            suitable = [row for other in ARCHITECTURES if machine.lower() in other.machines for row in other.recipes]
            raise ValueError(
                f"{name!r} is for {architecture.title} processors, and the host is {machine}; for that there are "
                f"{', '.join(row.name for row in (*suitable, FALLBACK))}, and auto, which chooses"
            )
