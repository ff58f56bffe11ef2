"""Analytic terms of a subnet's latency, and the sizes that trees look at, vectorised over populations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.nas.architecture.blocks import Block, counted_layer
from ortnas.nas.architecture.ops import Group, group_axes
from ortnas.nas.architecture.space import Population
from ortnas.nas.arrays import Matrix, Vector


class Term(NamedTuple):
    """Why a term is there, and the time in ns that one unit of it takes on an ordinary x86 core, INT8 and float32."""

    why: str
    int8_ns: float
    fp32_ns: float


# In the exported graph's words; "tokens" is batch x sequence. All grow with every size, and all are counts of work, so
# no price can be negative. Prices need only be right within a small factor: a fit starts from them.
TERMS = {
    "constant": Term("one inference: session entry, inputs, mask, head", 1e5, 1e5),
    "layers": Term("operators launched: as many in every layer, half of them where a part of it is left out", 5e4, 4e4),
    "embedding": Term("tokens x hidden: rows of the tables, their sum and layer norm", 1.0, 1.0),
    "attention_products": Term("multiply-adds of query, key, value and output, widths padded to tiles", 6e-3, 2e-2),
    "ffn_products": Term("multiply-adds of both FFN products, widths padded to tiles", 6e-3, 2e-2),
    "accumulation": Term("outputs x passes over the inner dimension: kernels add up a block at a time", 0.2, 0.1),
    "packing": Term("inputs x passes over the columns: kernels copy their rows once per block of columns", 0.1, 0.02),
    "scores": Term("float multiply-adds of query x key and weights x value, columns padded to tiles", 3e-2, 3e-2),
    "softmax": Term("scores: mask and softmax", 0.5, 0.5),
    "heads": Term("batch x heads: one small product per head, twice", 1e3, 1e3),
    "residual": Term("tokens x hidden per layer: residual additions, layer norms, quantization", 2.0, 1.5),
    "ffn_elements": Term("tokens x FFN size: activation function and quantization", 1.5, 1.0),
    "head_elements": Term("tokens x heads x head size: transposes and quantization", 2.0, 1.5),
    "weight_bytes": Term("weights read once per inference: with few tokens they outweigh arithmetic", 1e-2, 1e-2),
    "weight_bytes_beyond_cache": Term("weights that the second-level cache has no room for", 3e-2, 3e-2),
    "float_products": Term(
        "multiply-adds of products that stay in float: what they take beyond integers", 1.4e-2, 1.4e-2
    ),
}
PRECISIONS = ("int8", "fp32")
# Second-level cache of most server and desktop cores of the last years.
_CACHE_BYTES = 1 << 20


@dataclass(frozen=True)
class Kernels:
    """How the kernels for weight products walk: tiles that sizes are padded to, and blocks that they work in.

    ``depth`` and ``depth_block`` are of the inner dimension. From ONNX Runtime's matrix library (MLAS): strides and
    packing of its QGEMM and SGEMM kernels.
    """

    columns: int
    depth: int
    column_block: int
    depth_block: int
    weight_bytes: int = 1


# By the first of these flags that the host has.
_INTEGER_KERNELS = {
    "amx_int8": Kernels(columns=16, depth=64, column_block=512, depth_block=2048),
    "i8mm": Kernels(columns=8, depth=8, column_block=128, depth_block=384),
    "asimddp": Kernels(columns=8, depth=8, column_block=128, depth_block=384),
    "avx2": Kernels(columns=16, depth=4, column_block=256, depth_block=384),
}
_FLOAT_KERNELS = Kernels(columns=16, depth=1, column_block=128, depth_block=256, weight_bytes=4)


def kernels_of(isa: Sequence[str], precision: str) -> Kernels:
    """What runs weight products on a host with these flags; as on AVX2 where they are unknown."""
    if precision == "fp32":
        return _FLOAT_KERNELS
    return next((kernels for flag, kernels in _INTEGER_KERNELS.items() if flag in isa), _INTEGER_KERNELS["avx2"])


@dataclass(frozen=True)
class Machine:
    """What the terms need to know of a target."""

    kernels: Kernels
    threads: int
    workloads: tuple[Workload, ...]

    @classmethod
    def of(cls, target: Target, precision: str) -> Machine:
        """Raises ValueError for a target without workloads."""
        if not sum(workload.weight for workload in target.workloads) > 0:
            raise ValueError("a target needs at least one workload")
        isa = target.fingerprint.get("isa") or ()
        return cls(kernels_of(isa, precision), max(1, target.setup.threads), target.workloads)


def analytic_terms(population: Population, machine: Machine) -> Matrix:
    """Shape (n, len(TERMS)), in the order of TERMS: mean over the workloads, by their weights.

    Work that threads share is divided by their number.
    """
    counts = _Counts(population, machine.kernels)
    total = sum(workload.weight for workload in machine.workloads)
    terms = np.zeros((len(TERMS), len(population.depth)))
    for workload in machine.workloads:
        for row, column in enumerate(counts.columns(workload.batch, workload.sequence, machine.threads)):
            terms[row] += workload.weight / total * column
    return terms.T


def _layer_products(block: Block) -> Counter[tuple[str, Group, bool]]:
    """How many products of a layer are of each kind: the part of the layer, the group of axes on the side that is not
    the residual stream's, and whether that side is the output."""
    counts = Counter[tuple[str, Group, bool]]()
    for product in block.products:
        outputs, inputs = group_axes(block.tensors[product.weight])
        is_output = inputs == ("hidden",)
        counts[product.name.partition("/")[0], outputs if is_output else inputs, is_output] += 1
    return counts


class _Counts:
    """What is counted of each subnet for every workload alike, (n,) each."""

    def __init__(self, population: Population, kernels: Kernels) -> None:
        # Sizes and their sums over layers are whole numbers below 2 ** 24, which float32 holds exactly and fast.
        hidden = population.hidden_size.astype(np.float64)
        heads, head_size, ffn = (
            sizes.astype(np.float32) for sizes in (population.num_heads, population.head_size, population.ffn_size)
        )
        sizes = {("heads", "head"): heads * head_size, ("ffn",): ffn}
        hidden_columns, hidden_inner = _padded(hidden, kernels.columns), _padded(hidden, kernels.depth)
        hidden_passes, hidden_blocks = np.ceil(hidden / kernels.depth_block), np.ceil(hidden / kernels.column_block)
        # Attention and FFN count half a layer each.
        self.depth = sum(_total((sizes > 0).astype(np.float32)) for sizes in (heads, ffn)) / 2
        self.embedding, self.residual = hidden, hidden * self.depth
        totals = {group: _total(of_group) for group, of_group in sizes.items()}
        self.width, self.ffn, self.heads = totals["heads", "head"], totals["ffn",], _total(heads)
        zeros = np.zeros(len(hidden))
        self.products = {"attention": zeros, "ffn": zeros}
        self.accumulation, self.packing, weights = zeros, zeros, zeros
        for (part, group, is_output), number in _layer_products(counted_layer(population.is_gated)).items():
            inner, total = sizes[group], totals[group]
            if is_output:
                products = hidden_inner * _total(_padded(inner, kernels.columns))
                accumulated = hidden_passes * total
                packed = hidden * _total(_blocks(inner, kernels.column_block))
            else:
                products = hidden_columns * _total(_padded(inner, kernels.depth))
                accumulated = hidden * _total(_blocks(inner, kernels.depth_block))
                packed = hidden_blocks * total
            self.products[part] = self.products[part] + number * products
            self.accumulation = self.accumulation + number * accumulated
            self.packing = self.packing + number * packed
            weights = weights + number * total
        self.head_columns = _total(heads * _padded(head_size, _FLOAT_KERNELS.columns))
        self.weight_bytes = hidden * weights * kernels.weight_bytes
        self.float_products = zeros
        block = counted_layer(population.is_gated)
        for name, is_float in population.keep_float.items():
            _, layer, of_layer = name.split("/", 2)
            product = next(product for product in block.products if product.name == of_layer)
            group = next(side for side in group_axes(block.tensors[product.weight]) if side != ("hidden",))
            elements = is_float * hidden * sizes[group][:, int(layer)]
            self.float_products = self.float_products + elements
            self.weight_bytes = self.weight_bytes + elements * (_FLOAT_KERNELS.weight_bytes - kernels.weight_bytes)

    def columns(self, batch: int, sequence: int, threads: int) -> tuple[Any, ...]:
        """In the order of TERMS."""
        tokens, scores = batch * sequence / threads, batch * sequence**2 / threads
        padded_scores = (
            batch * sequence * math.ceil(sequence / _FLOAT_KERNELS.columns) * _FLOAT_KERNELS.columns / threads
        )
        return (
            1.0,
            self.depth,
            tokens * self.embedding,
            tokens * self.products["attention"],
            tokens * self.products["ffn"],
            tokens * self.accumulation,
            tokens * self.packing,
            padded_scores * self.width + scores * self.head_columns,
            scores * self.heads,
            batch / threads * self.heads,
            tokens * self.residual,
            tokens * self.ffn,
            tokens * self.width,
            self.weight_bytes,
            np.maximum(self.weight_bytes - _CACHE_BYTES, 0),
            tokens * self.float_products,
        )


Sizes = TypeVar("Sizes", npt.NDArray[np.float32], npt.NDArray[np.float64])


def _blocks(sizes: Sizes, block: int) -> Sizes:
    """How many blocks of this size they take."""
    blocks: Sizes = np.ceil(sizes * sizes.dtype.type(1 / block))
    return blocks


def _padded(sizes: Sizes, multiple: int) -> Sizes:
    return _blocks(sizes, multiple) * sizes.dtype.type(multiple)


def _total(sizes: npt.NDArray[np.float32]) -> Vector:
    """Sum over layers."""
    total: Vector = np.einsum("ij->i", sizes).astype(np.float64)
    return total


def usual_prices(precision: str) -> Vector:
    """Of the terms, in ms: what they take on an ordinary core, (len(TERMS),)."""
    return np.array([term.fp32_ns if precision == "fp32" else term.int8_ns for term in TERMS.values()]) / 1e6


# What trees look at, and whether what they add may only grow with it (1) or do as it likes (0). A layer more never
# makes an inference faster. A wider one can: kernels waste less of a tile that is full, and so widths are left free;
# all terms of the prior grow with them.
SIZES = {"hidden_size": 0, "depth": 1, "width_per_layer": 0, "ffn_size_per_layer": 0, "heads_per_layer": 0}


def tree_features(population: Population) -> npt.NDArray[np.float32]:
    """Sizes that do not depend on the workload, (n, len(SIZES)): trees fitted for one workload may fit another."""
    depth = population.depth
    columns = (
        population.hidden_size,
        depth,
        (population.num_heads * population.head_size).sum(1) / depth,
        population.ffn_size.sum(1) / depth,
        population.num_heads.sum(1) / depth,
    )
    return np.stack(columns, axis=1, dtype=np.float32, casting="same_kind")
