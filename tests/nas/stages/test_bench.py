from __future__ import annotations

import numpy as np

from nas.stages.bench import stratified_sample
from tests.networks import make_space


def test_sample_is_distinct_holds_both_ends_and_spans_the_sizes() -> None:
    space = make_space()
    genomes = stratified_sample(space, 40, np.random.default_rng(0))
    subnets = [space.decode(genome) for genome in genomes]
    assert len(set(subnets)) == 40
    assert {space.smallest, space.largest} <= set(subnets)
    sizes = np.sort([subnet.multiply_adds for subnet in subnets])
    assert np.diff(sizes).max() < 0.25 * sizes.max()


def test_a_small_space_gives_all_that_it_has() -> None:
    space = make_space(num_layers=1, depth=(1,), hidden_size=(16, 32), num_heads=(2, 4), head_size=(8,), ffn_size=(32,))
    assert len(stratified_sample(space, 40, np.random.default_rng(0))) == space.count == 4
    space = make_space(num_layers=1, depth=(1,), hidden_size=(16,), num_heads=(2,), head_size=(8,), ffn_size=(32,))
    assert len(stratified_sample(space, 40, np.random.default_rng(0))) == 1
