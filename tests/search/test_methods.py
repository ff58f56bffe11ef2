from __future__ import annotations

import numpy as np
import pytest

from ortnas.nas.architecture.presets import default_space, preset
from ortnas.nas.architecture.space import SearchSpace
from ortnas.search.constraints import Constraint
from ortnas.search.methods import FFN_SHARE, METHODS, QKV_SHARE, evolved, fast, list_candidates
from ortnas.search.operators import enumerate_space
from tests.networks import SizePredictor, make_dimensions, make_space
from tests.search.landscape import deep_space, small_space


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("parents", [0, 5])
@pytest.mark.parametrize("space", [deep_space(), make_space(head_size=(), hidden_size=(24, 48))], ids=["own", "tied"])
def test_every_method_proposes_genomes_of_the_space(name: str, parents: int, space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    proposed = METHODS[name](space, space.sample(parents, rng), 333, rng)
    assert proposed.shape == (333, space.genes)
    np.testing.assert_array_equal(proposed, space.repair(proposed))
    assert len(np.unique(proposed, axis=0)) > 50


def test_the_fast_method_keeps_the_seed_systems_widths() -> None:
    bert = make_dimensions(hidden_size=768, num_layers=12, num_heads=12, head_size=64, ffn_size=3072)
    space = preset("autotinybert-kd", bert)
    population = space.expand(fast(space, space.sample(0, np.random.default_rng(0)), 2000, np.random.default_rng(0)))
    ffn = population.ffn_size[:, 0] / population.hidden_size
    qkv = population.num_heads[:, 0] * population.head_size[:, 0] / population.hidden_size
    # Half a step of the space's choices, and widths that it does not have for the smallest hidden sizes.
    roomy = population.hidden_size >= 260
    assert (ffn[roomy] > FFN_SHARE[0] - 0.1).all()
    assert (ffn[roomy] < FFN_SHARE[1] + 0.1).all()
    assert (qkv[roomy] > QKV_SHARE[0] - 0.05).all()
    assert (qkv[roomy] < QKV_SHARE[1] + 0.05).all()
    assert np.ptp(ffn[roomy]) > 0.2
    assert np.ptp(qkv[roomy]) > 0.2


def test_the_fast_method_chooses_the_number_of_heads_where_their_size_is_fixed() -> None:
    dimensions = make_dimensions(hidden_size=384, num_layers=6, num_heads=12, head_size=32, ffn_size=1536)
    space = default_space(dimensions)
    population = space.expand(fast(space, space.sample(0, np.random.default_rng(0)), 500, np.random.default_rng(0)))
    wide = population.hidden_size == 384
    heads = population.num_heads[wide]
    assert set(heads[heads > 0].tolist()) <= {8, 10, 12}
    assert set(population.ffn_size[wide][population.ffn_size[wide] > 0].tolist()) <= {640, 768}


def test_the_seed_systems_evolution_is_half_mutation_and_half_random() -> None:
    space, rng = deep_space(), np.random.default_rng(0)
    parent = space.sample(1, rng)
    proposed = evolved(space, parent, 1000, rng)
    unchanged = (proposed == parent).mean(1)
    assert unchanged[:500].mean() > unchanged[500:].mean() + 0.2


def test_listed_candidates_are_those_nearest_below_the_budget() -> None:
    space = small_space()
    genomes = enumerate_space(space)
    upper_ms = SizePredictor(space).predict(genomes)[1]
    listed = list_candidates(space, [Constraint(SizePredictor(space), 2.5)], 40, np.random.default_rng(0))
    expected = np.sort(upper_ms[upper_ms <= 2.5])[::-1][:40]
    np.testing.assert_allclose(listed.upper_ms, expected)
    assert len(np.unique(listed.genomes, axis=0)) == 40
    everything = list_candidates(space, [Constraint(SizePredictor(space), 2.5)], 10_000, np.random.default_rng(0))
    assert len(everything.genomes) == ((upper_ms <= 2.5) & (upper_ms >= 0.85 * 2.5)).sum()


def test_nothing_is_listed_under_a_budget_that_nothing_meets() -> None:
    space = small_space()
    listed = list_candidates(space, [Constraint(SizePredictor(space), 0.5)], 10, np.random.default_rng(0))
    assert len(listed.genomes) == 0
