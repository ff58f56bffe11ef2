from __future__ import annotations

import numpy as np
import pytest

from ortnas.nas.architecture.presets import PRESETS, covering, preset
from ortnas.nas.architecture.subnet import SpaceError
from tests.networks import make_dimensions

BASE = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "head_size": 64, "ffn_size": 3072}
MINILM = {"hidden_size": 384, "num_layers": 6, "num_heads": 12, "head_size": 32, "ffn_size": 1536}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_bert_base(name: str) -> None:
    dimensions = make_dimensions(**BASE)
    space = preset(name, dimensions)
    dimensions.check(space.largest)
    dimensions.check(space.smallest)


@pytest.mark.parametrize("sizes", [BASE, MINILM, {}])
def test_default_space_contains_the_full_network(sizes: dict[str, int]) -> None:
    dimensions = make_dimensions(**sizes)
    assert preset("default", dimensions).largest == dimensions.full_subnet


def test_seed_spaces_have_their_published_choices() -> None:
    dimensions = make_dimensions(**BASE)
    kd, mlm, faster = (preset(name, dimensions) for name in PRESETS[1:])
    assert (kd.hidden_size[0], kd.hidden_size[-1], len(kd.hidden_size)) == (128, 768, 41)
    assert (12 * kd.head_size[0], 12 * kd.head_size[-1]) == (180, 768)
    assert mlm.num_heads == tuple(range(1, 13))
    assert mlm.head_size == (64,)
    assert (faster.hidden_size[0], faster.hidden_size[-1], faster.ffn_size[-1], faster.depth[-1]) == (144, 528, 1024, 5)
    largest = faster.largest.layers[0]
    assert largest.num_heads * largest.head_size == faster.largest.hidden_size


def test_misfit_and_unknown_names_are_refused() -> None:
    with pytest.raises(SpaceError, match="does not fit"):
        preset("bigger-and-faster", make_dimensions(**MINILM))
    with pytest.raises(SpaceError, match="allowed are default"):
        preset("huge", make_dimensions())


@pytest.mark.parametrize("name", PRESETS)
def test_a_covering_space_holds_its_subnets_and_no_other_choices(name: str) -> None:
    space = preset(name, make_dimensions(**BASE)).restrict(depth_order="first")
    genomes = space.sample(60, np.random.default_rng(0))
    subnets = [space.decode(genome) for genome in genomes]
    covered = covering(subnets)
    assert [covered.decode(covered.encode(subnet)) for subnet in subnets] == subnets
    assert set(covered.hidden_size) == {subnet.hidden_size for subnet in subnets}
    assert covered.num_layers == covered.depth[-1] == max(len(subnet.layers) for subnet in subnets)
    assert set(covered.ffn_size) == {layer.ffn_size for subnet in subnets for layer in subnet.layers}
    assert set(covered.uniform) >= set(space.uniform)
    # Bigger&Faster's queries are as wide as the hidden size: the file of its subnets says so again.
    assert bool(covered.head_size) == bool(space.head_size)
