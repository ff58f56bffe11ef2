from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortnas.nas.architecture.space import SearchSpace
from ortnas.search.operators import complete, cross, enumerate_space, offspring, tournament, unseen
from tests.networks import make_space
from tests.search.landscape import deep_space, small_space

SPACES = {
    "by layer": deep_space(),
    "uniform": make_space(uniform=("num_heads", "head_size", "ffn_size")),
    "tied head size": make_space(head_size=(), hidden_size=(24, 48), uniform=("num_heads",)),
    "first layers": make_space(depth_order="first"),
    "some in float": make_space(keep_float=("layers/0/ffn/out", "layers/1/attention/value", "layers/1/ffn/out")),
}


@given(kind=st.sampled_from(list(SPACES)), parents=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_children_are_genomes_of_the_space(kind: str, parents: int, seed: int) -> None:
    space, rng = SPACES[kind], np.random.default_rng(seed)
    children = offspring(space, space.sample(parents, rng), 200, rng)
    assert children.shape == (200, space.genes)
    np.testing.assert_array_equal(children, space.repair(children))


def test_children_take_after_their_parents_and_vary() -> None:
    space, rng = deep_space(), np.random.default_rng(0)
    parent = space.sample(1, rng)
    children = offspring(space, parent, 500, rng)
    distance = (children != parent).mean(1)
    strangers = (space.sample(500, rng) != parent).mean()
    assert distance.mean() < strangers / 2
    assert len(np.unique(children, axis=0)) > 100


@pytest.mark.parametrize("kind", ["by layer", "first layers"])
def test_a_deeper_child_has_layers_as_wide_as_its_parent(kind: str) -> None:
    space = SPACES[kind]
    shallow = np.zeros((1, space.genes), np.int16)
    for name in ("num_heads", "head_size", "ffn_size"):
        shallow[:, space.columns[name]] = len(getattr(space, name)) - 1
    shallow = space.repair(shallow)
    deeper = complete(space, shallow)
    deeper[:, 1] = len(space.depth) - 1
    assert space.decode(space.repair(deeper)[0]).layers == tuple(
        layer for layer in space.decode(_with_hidden(space, shallow)).layers
    )


def _with_hidden(space: SearchSpace, shallow: np.ndarray) -> np.ndarray:
    """The largest subnet at the smallest hidden size."""
    largest = space.encode(space.largest)
    largest[0] = shallow[0, 0]
    return largest


def test_crossover_by_layers_keeps_layers_whole() -> None:
    space = deep_space()
    first = space.encode(space.largest)[None].repeat(400, 0)
    second = space.bounds[None].repeat(400, 0).astype(np.int16) // 2
    second[:, 1] = first[:, 1]
    children = cross(space, first, second, np.random.default_rng(0))
    layers = [
        [
            children[:, space.columns[name]][:, layer] == first[:, space.columns[name]][:, layer]
            for name in ("num_heads", "ffn_size")
        ]
        for layer in range(space.num_layers)
    ]
    whole = np.all([heads == ffn for heads, ffn in layers], axis=0)
    assert whole[1::2].all()
    assert not whole[::2].all()
    share = np.mean(children[:, space.columns["ffn_size"]] == first[:, space.columns["ffn_size"]])
    assert 0.4 < share < 0.6


def test_tournaments_prefer_the_first_rows_and_reach_the_last() -> None:
    rows = tournament(10, 5000, np.random.default_rng(0))
    counts = np.bincount(rows, minlength=10)
    assert counts[0] > 2 * counts[4] > 0
    assert counts[9] > 0


@pytest.mark.parametrize("kind", ["by layer", "uniform", "tied head size", "first layers"])
def test_an_enumerated_space_holds_every_subnet_once(kind: str) -> None:
    space = SPACES[kind] if SPACES[kind].count < 50_000 else small_space()
    genomes = enumerate_space(space)
    assert len(genomes) == len(np.unique(genomes, axis=0)) == space.count
    np.testing.assert_array_equal(genomes, space.repair(genomes))


def test_unseen_rows_are_first_occurrences_that_nobody_knows() -> None:
    genomes = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4], [7, 8]], np.int16)
    assert unseen(genomes, {np.array([5, 6], np.int16).tobytes()}).tolist() == [0, 1, 5]
    assert unseen(genomes[:0], set()).tolist() == []
