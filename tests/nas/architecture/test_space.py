from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Layer, SpaceError, Subnet
from tests.networks import make_space


def ascending(limit: int, largest: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(1, largest), min_size=1, max_size=limit).map(lambda values: tuple(sorted(values)))


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    num_layers = draw(st.integers(1, 4))
    space = SearchSpace(
        num_layers=num_layers,
        hidden_size=draw(ascending(3, 64)),
        depth=draw(ascending(3, num_layers)),
        num_heads=draw(ascending(3, 8)),
        head_size=draw(ascending(2, 16)),
        ffn_size=draw(ascending(3, 64)),
        uniform=tuple(draw(st.sets(st.sampled_from(["num_heads", "head_size", "ffn_size"])))),
        depth_order=draw(st.sampled_from(["first", "spread"])),
    )
    may_lack = not {"num_heads", "ffn_size"} <= set(space.uniform)
    products = [
        f"layers/{layer}/{name}" for layer in range(num_layers) for name in ("attention/key", "ffn/in", "ffn/out")
    ]
    space = space.leaving_float(draw(st.sets(st.sampled_from(products))))
    return space.of_absent_parts if may_lack and draw(st.booleans()) else space


@pytest.mark.slow
@given(space=spaces(), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_operation_yields_canonical_genomes(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sampled = space.sample(20, rng)
    for genomes in (sampled, space.mutate(sampled, rng, 0.5)):
        assert genomes.shape == (20, space.genes)
        assert genomes.dtype == np.int16
        np.testing.assert_array_equal(space.repair(genomes), genomes)
        for genome in genomes:
            np.testing.assert_array_equal(space.encode(space.decode(genome)), genome)


@pytest.mark.slow
@given(space=spaces(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_one_network_one_genome_one_key(space: SearchSpace, seed: int) -> None:
    genomes = space.sample(60, np.random.default_rng(seed))
    distinct = np.unique(genomes, axis=0)
    subnets = {space.decode(genome) for genome in genomes}
    assert len(distinct) == len(subnets) == len({subnet.key for subnet in subnets})


@given(space=spaces())
@settings(max_examples=40, deadline=None)
def test_count_is_exact(space: SearchSpace) -> None:
    assume(np.prod(space.bounds.astype(float)) <= 5000)
    rows = itertools.product(*(range(bound) for bound in space.bounds))
    every = space.repair(np.array(list(rows)))
    assert space.count == len(np.unique(every, axis=0))


@given(space=spaces(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_expand_agrees_with_decode(space: SearchSpace, seed: int) -> None:
    genomes = space.sample(10, np.random.default_rng(seed))
    population = space.expand(genomes)
    for row, genome in enumerate(genomes):
        subnet = space.decode(genome)
        assert population.hidden_size[row] == subnet.hidden_size
        assert population.depth[row] == len(subnet.layers)
        for name in ("num_heads", "head_size", "ffn_size"):
            expected = np.zeros(space.num_layers, int)
            for layer in subnet.layers:
                expected[layer.source] = getattr(layer, name)
            np.testing.assert_array_equal(getattr(population, name)[row], expected)
        assert tuple(name for name, flags in population.keep_float.items() if flags[row]) == subnet.keep_float


def test_layers_may_lack_their_attention_or_their_ffn() -> None:
    whole = make_space()
    space = whole.of_absent_parts
    assert (space.num_heads[0], space.ffn_size[0]) == (0, 0)
    assert space.of_whole_layers == whole
    assert space.largest == whole.largest
    subnets = [space.decode(genome) for genome in space.sample(300, np.random.default_rng(0))]
    layers = [layer for subnet in subnets for layer in subnet.layers]
    assert any(not layer.num_heads for layer in layers)
    assert any(not layer.ffn_size for layer in layers)
    assert all(layer.num_heads or layer.ffn_size for layer in layers)
    assert all((layer.num_heads == 0) == (layer.head_size == 0) for layer in layers)
    assert all(any(layer.num_heads for layer in subnet.layers) for subnet in subnets)
    assert any(subnet in whole for subnet in subnets)
    assert any(subnet not in whole for subnet in subnets)


def test_nothing_of_an_absent_layer_or_part_stays_in_float() -> None:
    products = ("layers/0/attention/value", "layers/1/ffn/out", "layers/2/ffn/in")
    space = make_space(depth=(2, 3)).of_absent_parts.leaving_float(products)
    assert space.largest.keep_float == products
    assert space.smallest.keep_float == ()
    subnets = [space.decode(genome) for genome in space.sample(300, np.random.default_rng(0))]
    parts = {
        subnet: {
            f"layers/{layer.source}/{part}/"
            for layer in subnet.layers
            for part, size in (("attention", layer.num_heads), ("ffn", layer.ffn_size))
            if size
        }
        for subnet in subnets
    }
    assert all(name.rpartition("/")[0] + "/" in parts[subnet] for subnet in subnets for name in subnet.keep_float)
    assert {name for subnet in subnets for name in subnet.keep_float} == set(products)
    # Most subnets leave little in float.
    assert 0.1 < np.mean([len(subnet.keep_float) for subnet in subnets]) < 1


def test_products_that_no_layer_has_cannot_stay_in_float() -> None:
    for product in ("layers/3/ffn/out", "head/pooler", "layers/*/ffn/out"):
        with pytest.raises(SpaceError, match="is no weight product of its 3 layers"):
            make_space(keep_float=(product,))
    whole, space = make_space(), make_space(keep_float=("layers/0/ffn/in",))
    assert SearchSpace.from_json(space.to_json()) == space
    assert whole.largest in space
    assert space.largest not in whole
    with pytest.raises(SpaceError, match="layers/0/ffn/in is none of its 0 products that may stay in float"):
        whole.encode(space.largest)


def test_products_in_float_are_part_of_the_key_and_the_json() -> None:
    subnet = make_space(keep_float=("layers/0/ffn/in",)).largest
    assert "keep_float" not in make_space().largest.to_json()
    assert subnet.key != make_space().largest.key
    assert Subnet.from_json(subnet.to_json()) == subnet
    assert subnet.describe().endswith("float 0/ffn/in")
    for wrong in ("layers/0/ffn/in", [1], ["layers/*"]):
        with pytest.raises(SpaceError, match="keep_float"):
            Subnet.from_json({**subnet.to_json(), "keep_float": wrong})


def test_layers_that_are_all_alike_lack_nothing() -> None:
    with pytest.raises(SpaceError, match="layers that are all alike cannot lack a part"):
        _ = make_space(uniform=("num_heads", "ffn_size")).of_absent_parts
    assert make_space(uniform=("num_heads",)).of_absent_parts.num_heads == make_space().num_heads


def test_samples_reach_the_corners_that_independent_genes_would_miss() -> None:
    space = make_space(num_layers=12, depth=(12,))
    totals = space.expand(space.sample(4000, np.random.default_rng(0))).ffn_size.sum(1)
    assert totals.min() < 12 * 24
    assert totals.max() > 12 * 56


@pytest.mark.parametrize(
    ("order", "depth", "expected"),
    [("first", 3, (0, 1, 2)), ("spread", 4, (0, 2, 3, 5)), ("spread", 2, (0, 5)), ("spread", 1, (0,))],
)
def test_depth_picks_source_layers(order: str, depth: int, expected: tuple[int, ...]) -> None:
    space = make_space(num_layers=6, depth=(depth,), depth_order=order)
    assert tuple(layer.source for layer in space.largest.layers) == expected


def test_uniform_dimensions_are_alike_in_all_layers() -> None:
    space = make_space(uniform=("ffn_size", "num_heads"))
    for genome in space.sample(30, np.random.default_rng(0)):
        subnet = space.decode(genome)
        assert len({layer.ffn_size for layer in subnet.layers}) == 1
        assert len({layer.num_heads for layer in subnet.layers}) == 1


def test_tied_head_size_follows_hidden_size() -> None:
    space = make_space(hidden_size=(12, 24), num_heads=(4,), head_size=())
    sizes = {(subnet.hidden_size, subnet.layers[0].head_size) for subnet in (space.smallest, space.largest)}
    assert sizes == {(12, 3), (24, 6)}


def test_json_round_trip() -> None:
    space = make_space(uniform=("ffn_size",))
    assert SearchSpace.from_json(space.to_json()) == space
    assert Subnet.from_json(space.largest.to_json()) == space.largest


def test_key_depends_on_nothing_but_the_architecture() -> None:
    subnet = Subnet(32, (Layer(0, 2, 8, 64),))
    assert subnet.key == Subnet.from_json(subnet.to_json()).key
    assert subnet.key != Subnet(32, (Layer(1, 2, 8, 64),)).key
    assert len(subnet.key) == 12


def test_multiply_adds_counts_all_weight_products() -> None:
    assert Subnet(10, (Layer(0, 2, 3, 7), Layer(1, 1, 3, 5))).multiply_adds == 10 * (4 * 6 + 14 + 4 * 3 + 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": ()},
        {"hidden_size": (32, 16)},
        {"ffn_size": (16, 16)},
        {"depth": (1, 9)},
        {"uniform": ("depth",)},
        {"depth_order": "last"},
        {"head_size": (), "num_heads": (5,)},
        {"num_heads": (0,)},
        {"num_heads": (0, 1), "uniform": ("num_heads",)},
        {"head_size": (0, 8)},
    ],
)
def test_impossible_spaces_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SpaceError):
        make_space(**changes)


def test_foreign_subnets_and_rows_are_refused() -> None:
    space = make_space()
    for subnet, message in (
        (Subnet(17, space.largest.layers), "hidden_size 17 is none of its 3 choices from 16 to 32"),
        (Subnet(32, (Layer(0, 1, 4, 20),)), "ffn_size 20 is none of its 4 choices from 16 to 64"),
        (Subnet(32, ()), "depth 0 is none of its 3 choices from 1 to 3"),
        (Subnet(32, (Layer(3, 1, 4, 16),)), "layer 3 is none of the supernet's 3"),
        (Subnet(32, (Layer(2, 1, 4, 16),)), "its layers do not follow its rules"),
    ):
        with pytest.raises(SpaceError, match=f"not in the space: {message}"):
            space.encode(subnet)
        assert subnet not in space
    assert space.largest in space
    with pytest.raises(SpaceError, match="not a genome"):
        space.decode(np.full(space.genes, 99))
    with pytest.raises(SpaceError, match="not a subnet"):
        Subnet.from_json({"hidden_size": 3})
