"""Variation of genomes, vectorised over populations: tournament, crossover, mutation."""

from __future__ import annotations

from itertools import product

import numpy as np

from ortnas.nas.architecture.space import LAYER_DIMENSIONS, Genomes, SearchSpace
from ortnas.nas.arrays import Rows

_TOURNAMENT = 3


def tournament(count: int, n: int, rng: np.random.Generator) -> Rows:
    """n rows of a population of ``count`` in order of rank, each the best of three drawn at random."""
    rows: Rows = rng.integers(0, count, (_TOURNAMENT, n)).min(0)
    return rows


def complete(space: SearchSpace, genomes: Genomes) -> Genomes:
    """Genomes (n, genes) with the genes of absent layers taken from the nearest present one.

    A child that is deeper than its parent then has layers as wide as the parent's. Not canonical: repair follows.
    """
    completed = genomes.copy()
    layers = np.arange(space.num_layers)
    nearest = np.stack([np.abs(layers[:, None] - np.array(kept)).argmin(1) for kept in map(list, space.sources)])
    source = np.stack([np.array(kept)[row] for kept, row in zip(map(list, space.sources), nearest, strict=True)])
    for name in LAYER_DIMENSIONS:
        columns = space.columns[name]
        if columns.stop - columns.start > 1:
            completed[:, columns] = np.take_along_axis(genomes[:, columns], source[genomes[:, 1]], 1)
    return completed


def gene_groups(space: SearchSpace) -> Rows:
    """For each gene the number of its group: all genes of one layer are one group, any other gene is its own."""
    groups = np.where(space.gene_layers < 0, np.arange(space.genes) + space.num_layers, space.gene_layers)
    return np.unique(groups, return_inverse=True)[1].reshape(-1)


def cross(space: SearchSpace, first: Genomes, second: Genomes, rng: np.random.Generator) -> Genomes:
    """Children (n, genes) of completed genomes: every other one by uniform crossover, gene by gene, the rest by layers,
    which stay whole. Not canonical: repair follows."""
    groups = gene_groups(space)
    by_layer = (rng.random((len(first), groups.max() + 1)) < 0.5)[:, groups]
    by_gene = rng.random(first.shape) < 0.5
    chosen = np.where((np.arange(len(first)) % 2 == 0)[:, None], by_gene, by_layer)
    children: Genomes = np.where(chosen, first, second)
    return children


def offspring(space: SearchSpace, parents: Genomes, n: int, rng: np.random.Generator) -> Genomes:
    """n children of parents (m, genes) that are in order of rank: half crossed and mutated, half mutated alone."""
    completed = complete(space, parents)
    first, second = (completed[tournament(len(parents), n, rng)] for _ in range(2))
    both = np.where(rng.random((n, 1)) < 0.5, cross(space, first, second, rng), first)
    return space.mutate(both, rng)


def enumerate_space(space: SearchSpace) -> Genomes:
    """Every genome of a space once, (count, genes); for spaces whose ``count`` fits into memory."""
    rows = []
    for depth in range(len(space.depth)):
        free = np.where(space.has_layers(np.array([depth]))[0], space.bounds, 1)
        choices = [range(count) for count in free]
        choices[1] = range(depth, depth + 1)
        rows.append(np.array(list(product(*choices)), np.int16))
    genomes: Genomes = np.concatenate(rows)
    # Where parts of layers may be absent, not every combination is a genome.
    canonical: Genomes = genomes[(space.repair(genomes) == genomes).all(1)]
    return canonical


def unseen(genomes: Genomes, seen: set[bytes]) -> Rows:
    """Rows of genomes (n, genes) that are neither in ``seen`` (as bytes) nor repeated, first occurrences in order."""
    content, width = genomes.astype(np.int16).tobytes(), 2 * genomes.shape[1]
    first: dict[bytes, int] = {}
    for row in range(len(genomes)):
        key = content[row * width : (row + 1) * width]
        if key not in seen:
            first.setdefault(key, row)
    return np.fromiter(first.values(), np.int64, len(first))
