from __future__ import annotations

import numpy as np

from ortnas.nas.architecture.shrinking import shrunk_evenly
from tests.networks import make_space


def test_every_dimension_shrinks_by_about_the_same_share() -> None:
    space = make_space(num_layers=6, depth=(2, 3, 4, 5, 6))
    genomes = shrunk_evenly(space)
    subnets = [space.decode(genome) for genome in genomes]
    assert space.largest in subnets
    assert space.smallest in subnets
    assert len(set(subnets)) == len(subnets)
    shares = genomes / np.maximum(space.bounds - 1, 1)
    for genome, share, subnet in zip(genomes, shares, subnets, strict=True):
        assert len({(layer.num_heads, layer.head_size, layer.ffn_size) for layer in subnet.layers}) == 1
        present = np.concatenate([[True, True], np.tile(space.presence[genome[1]], 3)])
        # One choice up or down is all that a rounding may do; head sizes have two choices.
        steps = 1 / np.maximum(space.bounds - 1, 1)
        assert (share - steps)[present].max() < (share + steps)[present].min()
