"""The search space: subnets, genomes and vectorised operations on populations of genomes.

A genome is a row of choice indices: ``hidden_size``, ``depth``, then ``num_heads``, ``head_size`` and ``ffn_size``,
each with one gene (uniform) or one gene per layer. Genes of absent layers are zero, so that one network has one
genome and one key. Layers may lack their attention or their FFN where 0 is one of the choices. Last come the genes of
weight products that may stay in float in INT8 models, one each: 1 where it does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.blocks import counted_layer
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from ortnas.nas.wording import shortened, shown

Genomes = npt.NDArray[np.int16]
LAYER_DIMENSIONS = ("num_heads", "head_size", "ffn_size")
# Those whose size 0 means that a layer lacks a part.
_OF_PARTS = ("num_heads", "ffn_size")
_PART_DIMENSIONS = {"attention": "num_heads", "ffn": "ffn_size"}


@dataclass(frozen=True)
class Population:
    """Decoded genomes as arrays; entries of absent layers are zero.

    ``hidden_size`` and ``depth`` have shape (n,), the others (n, layers) with the layer's position in the supernet
    as column. ``is_gated`` is of the FFNs. ``keep_float`` has, by weight product, where it stays in float, (n,).
    """

    hidden_size: npt.NDArray[np.int64]
    depth: npt.NDArray[np.int64]
    num_heads: npt.NDArray[np.int64]
    head_size: npt.NDArray[np.int64]
    ffn_size: npt.NDArray[np.int64]
    is_gated: bool = False
    keep_float: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def multiply_adds(self) -> npt.NDArray[np.int64]:
        """As ``Subnet.multiply_adds``, shape (n,)."""
        hidden = self.hidden_size[:, None]
        sizes = {"hidden": hidden, "heads": self.num_heads, "head": self.head_size, "ffn": self.ffn_size}
        total: npt.NDArray[np.int64] = counted_layer(self.is_gated).multiply_adds(sizes).sum(1)
        return total


@dataclass(frozen=True)
class SearchSpace:
    """The choices for every dimension, ascending.

    ``head_size=()`` ties the head size to ``hidden_size // num_heads``. Dimensions named in ``uniform`` have one
    value for all layers. ``depth_order`` says which source layers a depth keeps: the ``first`` ones, or some
    ``spread`` evenly over the supernet, first and last included. ``num_heads`` and ``ffn_size`` may begin with 0: a
    layer then lacks that part, but never both, and one layer at least has attention. ``is_gated``: FFNs have a third
    product, which multiply-adds and latency terms count. ``keep_float``: weight products of layers, such as
    ``layers/3/ffn/out``, that INT8 models may leave in float.
    """

    num_layers: int
    hidden_size: tuple[int, ...]
    depth: tuple[int, ...]
    num_heads: tuple[int, ...]
    head_size: tuple[int, ...]
    ffn_size: tuple[int, ...]
    uniform: tuple[str, ...] = ()
    depth_order: Literal["first", "spread"] = "spread"
    is_gated: bool = False
    keep_float: tuple[str, ...] = ()
    columns: dict[str, slice] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("hidden_size", "depth", *LAYER_DIMENSIONS):
            choices = tuple(int(choice) for choice in getattr(self, name))
            object.__setattr__(self, name, choices)
            if not choices and name != "head_size":
                raise SpaceError(f"space: {name} has no choices")
            may_lack = name in _OF_PARTS and name not in self.uniform and len(choices) > 1
            lowest = 0 if may_lack else 1
            if any(low >= high for low, high in pairwise(choices)) or any(choice < lowest for choice in choices):
                raise SpaceError(f"space: {name} must be positive and strictly ascending, got {list(choices)}")
        if self.depth[-1] > self.num_layers:
            raise SpaceError(f"space: depth {self.depth[-1]} exceeds the supernet's {self.num_layers} layers")
        if unknown := set(self.uniform) - set(LAYER_DIMENSIONS):
            raise SpaceError(f"space: uniform names {sorted(unknown)}; allowed are {list(LAYER_DIMENSIONS)}")
        if self.depth_order not in ("first", "spread"):
            raise SpaceError(f"space: depth_order is {self.depth_order!r}; allowed are 'first' and 'spread'")
        object.__setattr__(self, "keep_float", tuple(sorted(set(self.keep_float))))
        for product in self.keep_float:
            of_layer = re.fullmatch(r"layers/(\d+)/(attention|ffn)/\w+", product)
            if of_layer is None or int(of_layer[1]) >= self.num_layers:
                raise SpaceError(f"space: {shown(product)} is no weight product of its {self.num_layers} layers")
        if not self.head_size and any(size % heads for size in self.hidden_size for heads in self.num_heads if heads):
            raise SpaceError("space: a tied head size needs hidden sizes divisible by every number of heads")
        start = 2
        for name in LAYER_DIMENSIONS:
            width = 0 if not getattr(self, name) else 1 if name in self.uniform else self.num_layers
            self.columns[name] = slice(start, start + width)
            start += width

    @property
    def genes(self) -> int:
        return int(self.columns["ffn_size"].stop) + len(self.keep_float)

    @property
    def float_genes(self) -> slice:
        """Those of the products that may stay in float."""
        return slice(self.genes - len(self.keep_float), self.genes)

    @cached_property
    def gene_layers(self) -> npt.NDArray[np.int64]:
        """The source layer that each gene is about, -1 for those about all layers, shape (genes,)."""
        layers = np.full(self.genes, -1)
        for name, columns in self.columns.items():
            if name not in self.uniform and columns.stop > columns.start:
                layers[columns] = np.arange(self.num_layers)
        layers[self.float_genes] = [layer for layer, _ in self._float_places]
        return layers

    @cached_property
    def _float_places(self) -> list[tuple[int, str]]:
        """Layer and sizes of the part that each product of ``keep_float`` is of."""
        places = [product.split("/") for product in self.keep_float]
        return [(int(layer), _PART_DIMENSIONS[part]) for _, layer, part, _ in places]

    @cached_property
    def bounds(self) -> npt.NDArray[np.int16]:
        """Number of choices per gene, shape (genes,)."""
        counts = np.empty(self.genes, np.int16)
        counts[0], counts[1] = len(self.hidden_size), len(self.depth)
        for name, columns in self.columns.items():
            counts[columns] = len(getattr(self, name))
        counts[self.float_genes] = 2
        return counts

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """Source layers for each choice of depth."""
        if self.depth_order == "first":
            return tuple(tuple(range(depth)) for depth in self.depth)
        return tuple(
            tuple(int(position + 0.5) for position in np.linspace(0, self.num_layers - 1, depth))
            for depth in self.depth
        )

    @cached_property
    def presence(self) -> npt.NDArray[np.bool_]:
        """Which source layers each choice of depth keeps, shape (depths, layers)."""
        table = np.zeros((len(self.depth), self.num_layers), bool)
        for row, sources in enumerate(self.sources):
            table[row, list(sources)] = True
        return table

    @property
    def drops_parts(self) -> bool:
        """Whether layers may lack their attention or their FFN."""
        return any(getattr(self, name)[0] == 0 for name in _OF_PARTS)

    @property
    def of_whole_layers(self) -> SearchSpace:
        """The subnets whose layers have all their parts."""
        return self.restrict(**{name: tuple(filter(None, getattr(self, name))) for name in _OF_PARTS})

    @property
    def of_absent_parts(self) -> SearchSpace:
        """The same and the subnets whose layers lack their attention or their FFN. Raises SpaceError where the numbers
        of heads and the FFN sizes are both uniform."""
        names = [name for name in _OF_PARTS if name not in self.uniform]
        if not names:
            raise SpaceError(
                "space: layers that are all alike cannot lack a part; uniform names num_heads and ffn_size"
            )
        return self.restrict(**{name: (0, *filter(None, getattr(self, name))) for name in names})

    @property
    def count(self) -> int:
        """Exact number of distinct subnets."""
        once: int = len(self.hidden_size) * math.prod(
            max(1, len([size for size in getattr(self, name) if size])) for name in self.uniform
        )
        return once * sum(self._count_layers(sources) for sources in self.sources)

    def _count_layers(self, sources: Iterable[int]) -> int:
        """Of choices in these source layers, for one choice of all that is uniform."""
        sizes = {
            name: 1 if name in self.uniform else max(1, len([size for size in getattr(self, name) if size]))
            for name in LAYER_DIMENSIONS
        }
        total = without_attention = 1
        for source in sources:
            variants = {name: 2 ** self._float_places.count((source, name)) for name in _OF_PARTS}
            ffn = sizes["ffn_size"] * variants["ffn_size"]
            attending = sizes["num_heads"] * sizes["head_size"] * variants["num_heads"]
            # Of those without attention in any layer there are none.
            idle = ffn if self.num_heads[0] == 0 else 0
            total *= attending * (ffn + (self.ffn_size[0] == 0)) + idle
            without_attention *= idle
        return total - without_attention

    def repair(self, genomes: npt.NDArray[Any]) -> Genomes:
        """Clips every gene into its range, zeroes the genes of absent layers, and gives back parts that are needed."""
        repaired: Genomes = np.clip(genomes, 0, self.bounds - 1).astype(np.int16)
        present = self.presence[repaired[:, 1]]
        repaired *= self.has_layers(repaired[:, 1])
        if self.drops_parts:
            self._give_back(repaired, present)
            self._quantize_absent(repaired)
        return repaired

    def has_layers(self, depths: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which genes are about layers that choices of depth (n,) keep, or about all layers, (n, genes)."""
        kept: npt.NDArray[np.bool_] = self.presence[depths][:, self.gene_layers] | (self.gene_layers < 0)
        return kept

    def _quantize_absent(self, genomes: Genomes) -> None:
        """Nothing of an absent part stays in float; in place."""
        for gene, (layer, name) in enumerate(self._float_places, start=self.float_genes.start):
            if getattr(self, name)[0] == 0:
                genomes[:, gene] *= genomes[:, self.columns[name].start + layer] > 0

    def _give_back(self, genomes: Genomes, present: npt.NDArray[np.bool_]) -> None:
        """Their smallest attention to the last layers of subnets without any, their smallest FFN to layers without
        either part; in place."""
        rows = np.arange(len(genomes))
        heads, ffn = (genomes[:, self.columns[name]] for name in ("num_heads", "ffn_size"))
        if self.num_heads[0] == 0:
            last = self.num_layers - 1 - present[:, ::-1].argmax(1)
            idle = ~heads.any(1)
            heads[rows[idle], last[idle]] = 1
            if self.ffn_size[0] == 0:
                ffn[present & (heads == 0) & (ffn == 0)] = 1
            sizes = genomes[:, self.columns["head_size"]]
            if sizes.shape[1] == self.num_layers:
                sizes[heads == 0] = 0

    def sample(self, n: int, rng: np.random.Generator) -> Genomes:
        """n random genomes.

        Each row draws a centre and a width per dimension and its layers around them, so that narrow, wide and mixed
        subnets all occur; independent genes would crowd around the middle.
        """
        unit = rng.random((n, self.genes))
        for columns in self.columns.values():
            if columns.stop - columns.start > 1:
                centre, width = rng.random((n, 1)), rng.random((n, 1))
                unit[:, columns] = np.clip(centre + width * (unit[:, columns] - 0.5), 0, 1 - 1e-9)
        if self.keep_float:
            # Few products are worth their time in float: in half of the rows at most one in eight stays so.
            shares = rng.random((n, 1)) ** 3
            unit[:, self.float_genes] = (unit[:, self.float_genes] < shares) / 2
        return self.repair(np.floor(unit * self.bounds))

    def mutate(self, genomes: Genomes, rng: np.random.Generator, rate: float = 0.15) -> Genomes:
        """Changes each gene with probability ``rate``: mostly by one step, sometimes to any choice."""
        step = rng.choice(np.array([-1, 1], np.int16), genomes.shape)
        anywhere = rng.integers(0, self.bounds, genomes.shape, dtype=np.int16)
        moved = np.where(rng.random(genomes.shape) < 0.25, anywhere, genomes + step)
        return self.repair(np.where(rng.random(genomes.shape) < rate, moved, genomes))

    def expand(self, genomes: Genomes) -> Population:
        """Genomes (n, genes) to the sizes they stand for."""
        hidden_size = np.asarray(self.hidden_size)[genomes[:, 0]]
        present = self.presence[genomes[:, 1]]
        sizes: dict[str, npt.NDArray[np.int64]] = {}
        for name in LAYER_DIMENSIONS:
            if choices := getattr(self, name):
                sizes[name] = np.asarray(choices)[genomes[:, self.columns[name]]] * present
            else:
                sizes[name] = hidden_size[:, None] // np.maximum(sizes["num_heads"], 1)
        sizes["head_size"] = sizes["head_size"] * (sizes["num_heads"] > 0)
        flags = genomes[:, self.float_genes] > 0
        keep_float = {name: flags[:, number] for number, name in enumerate(self.keep_float)}
        depth = np.asarray(self.depth)[genomes[:, 1]]
        return Population(hidden_size, depth, **sizes, is_gated=self.is_gated, keep_float=keep_float)

    def decode(self, genome: npt.NDArray[Any]) -> Subnet:
        """One genome (genes,) to its subnet. Raises SpaceError for a row that is no canonical genome."""
        row = np.asarray(genome, np.int16)[None]
        if row.shape[1] != self.genes or not np.array_equal(row, self.repair(row)):
            raise SpaceError(f"not a genome of this space: {np.asarray(genome).tolist()}")
        population = self.expand(row)
        layers = tuple(
            Layer(source, *(int(getattr(population, name)[0, source]) for name in LAYER_DIMENSIONS))
            for source in self.sources[row[0, 1]]
        )
        kept = tuple(name for name, flags in population.keep_float.items() if flags[0])
        return Subnet(int(population.hidden_size[0]), layers, kept)

    def encode(self, subnet: Subnet) -> Genomes:
        """The genome (genes,) of a subnet. Raises SpaceError where the subnet is not in the space."""

        def outside(why: str) -> SpaceError:
            return SpaceError(f"subnet {shortened(subnet.describe())} is not in the space: {why}")

        sizes = [("hidden_size", 0, subnet.hidden_size), ("depth", 1, len(subnet.layers))]
        for layer in subnet.layers:
            if not 0 <= layer.source < self.num_layers:
                raise outside(f"layer {layer.source} is none of the supernet's {self.num_layers}")
            for name, columns in self.columns.items():
                if columns.stop > columns.start and (layer.num_heads or name != "head_size"):
                    position = 0 if name in self.uniform else layer.source
                    sizes.append((name, columns.start + position, getattr(layer, name)))
        genome = np.zeros(self.genes, np.int16)
        for name, gene, size in sizes:
            choices = getattr(self, name)
            if size not in choices:
                raise outside(f"{name} {size} is none of its {len(choices)} choices from {choices[0]} to {choices[-1]}")
            genome[gene] = choices.index(size)
        for product in subnet.keep_float:
            if product not in self.keep_float:
                raise outside(f"{product} is none of its {len(self.keep_float)} products that may stay in float")
            genome[self.float_genes.start + self.keep_float.index(product)] = 1
        if self.decode(genome) != subnet:
            raise outside("its layers do not follow its rules")
        return genome

    def __contains__(self, subnet: Subnet) -> bool:
        try:
            self.encode(subnet)
        except SpaceError:
            return False
        return True

    @property
    def largest(self) -> Subnet:
        return self.decode(self.repair(self.bounds[None] - 1)[0])

    @property
    def smallest(self) -> Subnet:
        return self.decode(self.repair(np.zeros((1, self.genes), np.int16))[0])

    def to_json(self) -> dict[str, Any]:
        names = ("num_layers", "hidden_size", "depth", *LAYER_DIMENSIONS, "uniform", "depth_order")
        document = {
            name: value if isinstance(value := getattr(self, name), int | str) else list(value) for name in names
        }
        document |= {"is_gated": True} if self.is_gated else {}
        return document | ({"keep_float": list(self.keep_float)} if self.keep_float else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SearchSpace:
        """Raises SpaceError where the document does not describe a space."""
        try:
            values: dict[str, Any] = {
                key: tuple(item) if isinstance(item, list) else item for key, item in document.items()
            }
            return cls(**values)
        except TypeError as error:
            raise SpaceError(f"not a search space: {error}") from error

    def restrict(self, **choices: tuple[int, ...]) -> SearchSpace:
        """The same space with other choices for the named dimensions."""
        return replace(self, **choices)  # type: ignore[arg-type]

    def leaving_float(self, products: Iterable[str]) -> SearchSpace:
        """The same space, in which INT8 models may leave these weight products in float, and no others."""
        return replace(self, keep_float=tuple(products))
