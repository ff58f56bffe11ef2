"""The full network shrunk without a search: every dimension by about the same share."""

from __future__ import annotations

from itertools import product

import numpy as np

from ortnas.nas.architecture.space import Genomes, SearchSpace

_STEPS = 201


def shrunk_evenly(space: SearchSpace) -> Genomes:
    """Genomes (n, genes) from the smallest to the largest: layers alike, and every dimension, the depth too, at the
    same share of its range but for rounding up or down. Layers keep all their parts, and nothing stays in float."""
    whole = space.of_whole_layers.leaving_float(())
    if whole != space:
        return np.array([space.encode(whole.decode(genome)) for genome in shrunk_evenly(whole)], np.int16)
    shares = np.linspace(0, 1, _STEPS)[:, None] * (space.bounds - 1)
    groups = [[0], [1], *(list(range(columns.start, columns.stop)) for columns in space.columns.values())]
    variants = []
    for roundings in product((np.floor, np.ceil), repeat=len(groups)):
        genomes = shares.copy()
        for rounded, genes in zip(roundings, groups, strict=True):
            # A share of a range that is a whole number but for its last digit is that number.
            genomes[:, genes] = rounded(genomes[:, genes].round(9))
        variants.append(space.repair(genomes))
    return np.unique(np.vstack(variants), axis=0)
